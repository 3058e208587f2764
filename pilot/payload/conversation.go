package payload

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// socketPlace is where sockets go whose path would be too long: of payloads that
// are not isolated, a directory of their own in it.
const socketPlace = "/tmp"

// converse opens the payload's socket. A payload can do without, so that what cannot
// be had is said and no more.
func (r *runner) converse() (end func()) {
	c := session.Config{Dir: string(r.dir), Save: r.save, End: r.timeLeft, Logger: r.logger, Socket: r.options.Socket}
	if r.options.Isolation != nil {
		c.Short, c.ShortSeen = r.dir.Temp(), socketPlace
	}
	s, err := session.Open(c)
	remove := ""
	if err != nil && r.options.Isolation == nil {
		if remove, err = os.MkdirTemp(socketPlace, "floe-"); err == nil {
			c.Dir, c.Socket = remove, nil
			s, err = session.Open(c)
		}
	}
	if err != nil {
		r.logger.Warn("payloads have no socket", "err", err)
		r.log.Printf("no %s: %v", session.Variable, err)
		return func() {}
	}
	r.session = s
	if r.options.Session != nil {
		r.options.Session(s)
	}
	return func() {
		s.Close()
		if remove != "" {
			_ = os.Remove(remove)
		}
	}
}

// speaker begins what a module may say, and returns how that ends: with the
// statistics it has told.
func (r *runner) speaker(s *step) func() []protocol.Statistic {
	if r.session == nil {
		return func() []protocol.Statistic { return nil }
	}
	facts := map[string]any{
		"dataset": r.task.ID.Dataset, "job": r.task.ID.Job, "jobs": r.task.Jobs, "task": r.task.Name, "task_id": r.task.ID.String(),
		"attempt": r.task.Attempt, "seed": r.task.Seed, "tray": s.tray.Name, "iteration": s.tray.Iteration, "module": s.label,
		"cores": max(1, r.options.Cores), "gpus": strings.Join(r.options.GPUs, ","),
	}
	if r.limits.Memory > 0 {
		facts["memory"] = int64(r.limits.Memory)
	}
	if r.limits.Disk > 0 {
		facts["disk"] = int64(r.limits.Disk)
	}
	r.session.Begin(facts)
	return r.session.End
}

// join makes one list of what a module told through its socket and what it left in
// its file.
func join(told, left []protocol.Statistic) ([]protocol.Statistic, error) {
	for _, s := range told {
		if slices.ContainsFunc(left, func(l protocol.Statistic) bool { return l.Name == s.Name }) {
			return nil, fmt.Errorf("statistic %q: given twice, through the socket and at the module's end", s.Name)
		}
	}
	return append(told, left...), nil
}

// readable are directories that an isolated payload sees wherever they are.
func (r *runner) readable() []string {
	roots := r.task.software()
	if r.options.Tool != "" {
		roots = append(roots, r.options.Tool)
	}
	return roots
}
