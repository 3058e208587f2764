package server

import (
	"context"
	"fmt"
	"strings"

	"floe/coordinator/state"
	"floe/protocol"
)

// explain says why a task is where it is.
func (s *Server) explain(_ context.Context, in *TaskPath) (*body[protocol.Explanation], error) {
	d, id, err := s.taskOf(in)
	if err != nil {
		return nil, err
	}
	var e state.Explanation
	s.Record.Read(func(m *state.Machine) { e, _ = m.Explain(id) })
	reply := protocol.Explanation{Task: id, Name: e.Name, State: e.State, Pilots: e.Pilots, Fit: e.Fit}
	say := func(format string, args ...any) { reply.Lines = append(reply.Lines, fmt.Sprintf(format, args...)) }
	if e.Held {
		say("dataset %d is held: nothing of it is leased until somebody resumes it", d.ID)
	}
	switch e.State {
	case protocol.TaskWaiting:
		for _, p := range e.Unfinished {
			say("it waits for %s, which is %v", p.Name, p.State)
		}
	case protocol.TaskProcessing, protocol.TaskCopied:
		if e.Lease != nil {
			phase := s.core.watch.phase(e.Lease.ID)
			say("attempt %d runs at %s under pilot %s (%v)", e.Attempt, e.Lease.Site, e.Lease.Pilot, phase)
			if p := s.core.watch.progress(e.Lease.ID); p != nil {
				say("%s", saysOfItself(p))
			}
		}
	case protocol.TaskQueued:
		say("it needs %s", asks(&e.Asked, &e.Sites))
		s.sayFit(&e, say)
	case protocol.TaskError:
		if e.Crashes {
			say("it was lost on %s in a row and is held: it may be what brings its pilots down; look at its attempts, then reset it", strings.Join(e.LostAt, ", "))
		} else {
			say("its retry budget is spent; look at its attempts, then reset it")
		}
	case protocol.TaskSuspended:
		say("a person suspended it; resume it")
	}
	for _, b := range e.Budgets {
		what := "failures in all"
		if b.Verdict != 0 {
			what = b.Verdict.String() + " verdicts"
		}
		spent := ""
		if e.State == protocol.TaskError && b.Spent() {
			spent = ": that is why it is held"
		}
		say("%d of %d %s used%s", b.Used, b.Limit, what, spent)
	}
	if len(e.Avoided) > 0 {
		say("it prefers other hosts than %s, where it failed", strings.Join(e.Avoided, ", "))
	}
	return &body[protocol.Explanation]{reply}, nil
}

// saysOfItself is what a payload says of itself, in a sentence.
func saysOfItself(p *protocol.Progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "its payload says that %.4g %% are done", 100*p.Fraction)
	if p.Text != "" {
		fmt.Fprintf(&b, " (%s)", p.Text)
	}
	for i, x := range p.Statistics {
		fmt.Fprintf(&b, "%s%s = %.6g", [...]string{", ", ": "}[min(1, max(0, 1-i))], x.Name, x.Value)
	}
	if p.Checkpoint != nil {
		fmt.Fprintf(&b, "; a checkpoint of %v is stored", p.Checkpoint.Size)
	}
	return b.String()
}

// sayFit tells how many pilots could run a queued task, and what the others lack.
func (s *Server) sayFit(e *state.Explanation, say func(string, ...any)) {
	switch {
	case e.Pilots == 0:
		say("no pilot is there")
	case e.Fit > 0:
		say("%d of %d pilots could run it; it waits for one of them to have room", e.Fit, e.Pilots)
	default:
		say("none of %d pilots could run it", e.Pilots)
	}
	for _, r := range e.Refusals {
		say("%s", r.Reason)
	}
	for lack, n := range e.Lacks {
		switch what := state.Lack(lack); {
		case n == 0 || what == state.LackNothing:
		case what == state.LackStanding:
			say("%d pilots lack %v: floe nodes says why", n, what)
		case what == state.LackPolicy:
			say("%d pilots lack: %v, by its policy or its caps (floe site orders SITE)", n, what)
		default:
			say("%d pilots lack: %v", n, what)
		}
	}
	if e.Fit == 0 {
		s.Record.Read(func(m *state.Machine) { s.sayLaunch(m, e, say) })
	}
}

// asks writes requirements in words.
func asks(r *protocol.Requirements, sites *state.SiteRule) string {
	words := []string{fmt.Sprintf("%d cores", max(r.Cores, 1))}
	add := func(yes bool, format string, args ...any) {
		if yes {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(r.Memory > 0, "%v memory", r.Memory)
	add(r.Disk > 0, "%v disk", r.Disk)
	add(r.Walltime > 0, "%v walltime", r.Walltime.Duration())
	add(r.GPUs > 0, "%d GPUs", r.GPUs)
	add(len(r.OS) > 0, "one of %v", r.OS)
	add(len(r.Tags) > 0, "tags %v", r.Tags)
	add(len(r.Sites) > 0, "site %v", r.Sites)
	add(len(sites.Allowed) > 0, "sites %v only", sites.Allowed)
	add(len(sites.Excluded) > 0, "not at %v", sites.Excluded)
	return strings.Join(words, ", ")
}
