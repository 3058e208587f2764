package pilot

import (
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// A pilot whose tasks take less time than an exchange would wait more than it works.
// It asks for leases ahead: more of the task that it runs, to begin when others have
// ended. How long such a task takes is known by then, so that no task waits long
// for a pilot while others have nothing to do.
const (
	// aheadFor is for how long the leases that wait are to last.
	aheadFor = 500 * time.Millisecond
	// maxAhead is how many of them there are per core at most: an exchange of that many
	// costs each task little.
	maxAhead = 32
	// companyAhead is how long a report waits for others while enough is leased ahead: no
	// core waits for the exchange.
	companyAhead = 50 * time.Millisecond
	// maxEndedShort is maxEnded for short tasks, of which more end in the time of an exchange.
	maxEndedShort = 4 * maxEnded
	// maxWaits is how long a lease waits at most: tasks may suddenly take longer.
	maxWaits = 2 * time.Minute
)

// shortTask is the task of a dataset's jobs of which an attempt has ended last, and
// how long its attempts take.
type shortTask struct {
	dataset protocol.DatasetID
	task    protocol.TaskIndex
	cores   int
	took    time.Duration // zero where nothing is to come ahead
}

// ended takes how long an attempt took: the longest of the last few counts.
func (s *shortTask) ended(l *protocol.Lease, took time.Duration) {
	if s.dataset != l.Task.Dataset || s.task != l.Task.Task {
		*s = shortTask{dataset: l.Task.Dataset, task: l.Task.Task}
	}
	s.cores = max(1, l.Granted.Cores)
	s.took = max(took, s.took-s.took/8, 1)
	if l.Granted.GPUs > 0 || l.Granted.Elastic {
		s.took = 0 // cards are many kinds, and what takes the time that is left is never short
	}
}

// isShort tells whether more of it are to come ahead.
func (s *shortTask) isShort() bool { return s.took > 0 && s.took <= aheadFor/2 }

// ahead is what to ask for ahead, nil for nothing: once half of what shall wait is gone.
func (c *Conversation) ahead(now Instant) *protocol.Ahead {
	goal, waiting := c.stock(now)
	if 2*waiting > goal || goal <= 0 || c.endedCount() >= maxEndedShort*c.packing.all.Cores {
		return nil
	}
	return &protocol.Ahead{Dataset: c.short.dataset, Task: c.short.task, Count: uint16(goal - waiting)}
}

// stock is how many leases are to wait, and how many do.
func (c *Conversation) stock(now Instant) (goal, waiting int) {
	for _, h := range c.attempts {
		if h.waits {
			waiting++
		}
	}
	s := &c.short
	if !s.isShort() || c.takesNothing(now) {
		return 0, waiting
	}
	atOnce := c.packing.all.Cores / s.cores
	return min(atOnce*min(maxAhead, int(aheadFor/s.took)), protocol.MaxHeld-len(c.attempts)+waiting), waiting
}

// endedCount is how many attempts have ended and are not over.
func (c *Conversation) endedCount() (n int) {
	for _, h := range c.attempts {
		if h.ended {
			n++
		}
	}
	return n
}

// company is how long after an exchange a report waits for others.
func (c *Conversation) company(now Instant) time.Duration {
	if goal, waiting := c.stock(now); 2*waiting > goal && goal > 0 {
		return companyAhead
	}
	return company
}

// beginWaiting starts what waits and has room now.
func (c *Conversation) beginWaiting(effects []Effect, now Instant) []Effect {
	if c.held {
		return effects
	}
	for _, h := range c.attempts {
		if h.waits && c.packing.hasRoom(h.lease) {
			effects = c.start(effects, now, h)
		}
	}
	return effects
}

// giveBackWaiting ends what has waited for too long, as preempted, for others to run.
func (c *Conversation) giveBackWaiting(effects []Effect, now Instant) []Effect {
	for _, h := range c.attempts {
		if h.waits && now.Time.Sub(h.since) > maxWaits {
			effects = h.stop(c.start(effects, now, h), payload.ErrDrain, "its turn has not come for "+maxWaits.String())
		}
	}
	return effects
}
