package payload

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"floe/protocol/steering"
)

// Saving says how a module is asked to save its work, and what it saves.
type Saving struct {
	Signal syscall.Signal // 0 is SIGTERM
	// Grace is the time between the signal and the end; 0 is Limits.Grace.
	Grace time.Duration
	// Files are names and patterns below the work directory.
	Files []string
	// Exit is an exit code that means: saved, run me again. 0 is none.
	Exit int
}

// savingOf translates what a document says.
func savingOf(c *steering.ExpandedCheckpoint) *Saving {
	if c == nil {
		return nil
	}
	return &Saving{Signal: unix.SignalNum(c.Signal), Grace: time.Duration(c.GraceSeconds) * time.Second, Files: c.Files, Exit: c.Exit}
}

// againAfter is how long a module must have run to be run again only because its exit
// code says so: one that always does must not make a pilot busy for nothing.
const againAfter = time.Minute

// notice is how a module is asked to end.
type notice struct {
	at     time.Time // zero is never
	why    reason
	detail string
	signal syscall.Signal
	grace  time.Duration
}

// lastCall is when and how a module will be asked to save its work and end, because
// its walltime or the batch slot will be over. Without a declared checkpoint, the
// walltime is for the work alone: the signal comes at its end.
func (r *runner) lastCall(s *step) (c notice) {
	c.signal, c.grace = syscall.SIGTERM, r.limits.Grace
	if s.checkpoint != nil {
		if s.checkpoint.Signal != 0 {
			c.signal = s.checkpoint.Signal
		}
		if s.checkpoint.Grace > 0 {
			c.grace = s.checkpoint.Grace
		}
	}
	if w := r.limits.Walltime; w > 0 && s.checkpoint != nil {
		c.grace = min(c.grace, w/2)
		c.at, c.why = r.started.Add(w-c.grace), stopWalltime
		c.detail = fmt.Sprintf("was asked to end %v before the walltime limit of %v", c.grace, w)
	}
	if end := r.options.End; !end.IsZero() {
		if at := end.Add(-c.grace); c.at.IsZero() || at.Before(c.at) {
			c.at, c.why, c.detail = at, stopSlot, "the batch slot ends"
		}
	}
	return c
}

// timer fires when it is time.
func (c *notice) timer() *time.Timer {
	if c.at.IsZero() {
		t := time.NewTimer(0)
		t.Stop()
		return t
	}
	return time.NewTimer(time.Until(c.at))
}

// drained is how a module is asked to end because of the context's end.
func (r *runner) drained(last notice, cause error) notice {
	last.grace = min(last.grace, r.limits.Grace) // whoever wants the node back will not wait longer
	if given := graceOf(cause); given > 0 {
		last.grace = r.within(given)
	}
	if errors.Is(cause, errWalltime) || errors.Is(cause, ErrAbandoned) {
		last.signal, last.grace = syscall.SIGTERM, r.limits.Grace // nobody goes on from what is saved now
	}
	return last
}

// within cuts a grace to what is left of the batch slot and of the walltime.
func (r *runner) within(grace time.Duration) time.Duration {
	if end := r.options.End; !end.IsZero() {
		grace = min(grace, time.Until(end))
	}
	if w := r.limits.Walltime; w > 0 {
		grace = min(grace, time.Until(r.started.Add(w)))
	}
	return max(grace, r.limits.Grace)
}

// timeLeft is when the module that runs will be asked to end, if it will be.
func (r *runner) timeLeft() (end time.Time, limited bool) {
	v := &r.savings
	v.mu.Lock()
	s := v.step
	v.mu.Unlock()
	if s != nil {
		end = r.lastCall(s).at
	}
	if r.limits.Walltime > 0 {
		if over := r.started.Add(r.limits.Walltime); end.IsZero() || over.Before(end) {
			end = over
		}
	}
	return end, !end.IsZero()
}

// ask begins the end of a module with a signal that asks it to save its work. One
// that is not SIGTERM is followed by SIGTERM, once the work is saved or three
// quarters of the grace are over.
func (e *ending) ask(c notice) {
	if e.ending && (e.deadline.IsZero() || time.Until(e.deadline) <= c.grace) {
		return // it is being ended sooner
	}
	first := !e.ending
	if first {
		e.signal = c.signal
	}
	e.begin(c.grace)
	if first && c.signal != syscall.SIGTERM && c.grace > 0 {
		e.patience = time.NewTimer(c.grace * 3 / 4)
		e.impatient = e.patience.C
	}
}

// isPatient tells whether a module has been asked to save its work before its time is
// over, and does so.
func (e *ending) isPatient() bool {
	return e.ending && !e.killed && (e.why == stopWalltime || e.why == stopSlot)
}

// press follows the signal that asked for a checkpoint by SIGTERM.
func (e *ending) press() {
	if e.ending && e.signal != syscall.SIGTERM {
		e.signal, e.impatient = syscall.SIGTERM, nil
		e.tell(e.tree.members())
	}
}
