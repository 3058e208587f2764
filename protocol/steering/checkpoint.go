package steering

import (
	"fmt"
	"slices"
	"strings"

	"floe/protocol/steering/expr"
)

// ExpandedCheckpoint is a Checkpoint with its expressions resolved.
type ExpandedCheckpoint struct {
	// Signal is a name of CheckpointSignals; empty is SIGTERM.
	Signal string `json:"signal,omitempty"`
	// GraceSeconds is 0 where the document does not say.
	GraceSeconds int64 `json:"grace,omitempty"`
	// Files are names and patterns below the working directory.
	Files []string `json:"files,omitempty"`
	// Exit is 0 where no exit code means that the module wants to go on.
	Exit int `json:"exit,omitempty"`
}

// CheckpointSignals are the signals that may ask for a checkpoint.
var CheckpointSignals = []string{"SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM"}

// MaxGrace bounds how many seconds a checkpoint may be given.
const MaxGrace = 24 * 3600

// checkpointSignal is a signal's full name, or empty.
func checkpointSignal(text string) string {
	name := strings.ToUpper(strings.TrimSpace(text))
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if slices.Contains(CheckpointSignals, name) {
		return name
	}
	return ""
}

// checkpoint checks what can be known without a job.
func (c checker) checkpoint(p *Checkpoint) {
	for _, field := range []Expression{p.Signal, p.Grace, p.Files, p.Exit} {
		if strings.Contains(field.Text, "$") {
			return // it is checked where it is expanded
		}
	}
	if !p.Said() {
		return
	}
	if _, at, err := readCheckpoint(p, func(x Expression) string { return x.Text }); err != nil {
		c.add(at, SeverityError, quoteWord(checkpointNearest(p)), err.Error())
	}
}

// checkpointNearest is the signal that was meant.
func checkpointNearest(p *Checkpoint) string {
	if p.Signal.Empty() || checkpointSignal(p.Signal.Text) != "" {
		return ""
	}
	return nearest(strings.ToUpper(p.Signal.Text), CheckpointSignals)
}

// readCheckpoint reads the fields once they are text; a mistake is told with its place.
func readCheckpoint(p *Checkpoint, text func(Expression) string) (c ExpandedCheckpoint, at Position, err error) {
	if s := text(p.Signal); s != "" {
		if c.Signal = checkpointSignal(s); c.Signal == "" {
			return c, p.Signal.Position, fmt.Errorf("checkpoint: signal %q: want one of %s", cut(s, 40), strings.Join(CheckpointSignals, " "))
		}
	}
	if s := text(p.Grace); s != "" {
		n, ok := decimal(strings.TrimSpace(s))
		if ok {
			seconds, _ := n.Float64()
			c.GraceSeconds = int64(seconds)
		}
		if !ok || c.GraceSeconds < 1 || c.GraceSeconds > MaxGrace {
			return c, p.Grace.Position, fmt.Errorf("checkpoint: grace %q: want 1 to %d seconds", cut(s, 40), MaxGrace)
		}
	}
	if files := strings.Fields(text(p.Files)); len(files) > 0 {
		c.Files = files
	}
	if s := text(p.Exit); s != "" {
		n, ok := wholeNumber(s)
		if !ok || n < 1 || n > 255 {
			return c, p.Exit.Position, fmt.Errorf("checkpoint: exit %q: want a code from 1 to 255; 0 says that the work is complete", cut(s, 40))
		}
		c.Exit = int(n)
	}
	return c, p.Position, nil
}

// checkpoint resolves a module's checkpoint, or its tray's where it says nothing.
func (e *expansion) checkpoint(own, tray *Checkpoint, place expr.Place) *ExpandedCheckpoint {
	p := own
	if !p.Said() {
		p = tray
	}
	if !p.Said() {
		return nil
	}
	keys := map[Expression]string{p.Signal: "signal", p.Grace: "grace", p.Files: "files", p.Exit: "exit"}
	c, at, err := readCheckpoint(p, func(x Expression) string { return e.text(x, below(place, "checkpoint", keys[x])) })
	if err != nil {
		e.errorf(at, "%v", err)
		return nil
	}
	return &c
}
