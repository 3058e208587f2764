package server

import (
	"sync"

	"floe/coordinator/state"
	"floe/protocol"
)

// changes tells listeners which datasets have changed, and the housekeeper which
// jobs have finished. Listeners that do not keep up miss intermediate changes,
// never the last one.
type changes struct {
	mu        sync.Mutex
	listeners map[*listener]struct{} // guarded by mu
	finished  []finishedJob          // guarded by mu; for the housekeeper
	spent     []spentFile            // guarded by mu; for the housekeeper
	more      chan struct{}          // holds one: finished or spent is not empty
}

// spentFile is a checkpoint that nobody needs any more.
type spentFile struct {
	task protocol.TaskID
	file protocol.FileRecord
}

type finishedJob struct {
	dataset protocol.DatasetID
	job     protocol.JobIndex
}

// listener hears of one dataset, or of all for dataset 0.
type listener struct {
	dataset protocol.DatasetID
	changed chan struct{} // holds one
}

func newChanges() *changes {
	return &changes{listeners: map[*listener]struct{}{}, more: make(chan struct{}, 1)}
}

func (c *changes) listen(d protocol.DatasetID) *listener {
	l := &listener{dataset: d, changed: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners[l] = struct{}{}
	return l
}

func (c *changes) leave(l *listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.listeners, l)
}

// takeFinished gives the jobs that have finished since it was last called. It is
// worth calling when more has something.
func (c *changes) takeFinished() []finishedJob {
	c.mu.Lock()
	defer c.mu.Unlock()
	jobs := c.finished
	c.finished = nil
	return jobs
}

// takeSpent gives the checkpoints that have become useless since it was last called.
func (c *changes) takeSpent() []spentFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := c.spent
	c.spent = nil
	return files
}

// observe runs in the goroutine that applies: it may not wait.
func (c *changes) observe(e *state.Event) {
	var dataset protocol.DatasetID
	switch b := e.Body.(type) {
	case *state.DatasetSubmitted:
		dataset = b.Dataset
	case *state.JobsAdded:
		dataset = b.Dataset
	case *state.DatasetChanged:
		dataset = b.Dataset
	case *state.TasksMoved:
		dataset = b.Dataset
	case *state.LeaseGranted:
		dataset = b.Task.Dataset
	case *state.AttemptEnded:
		dataset = b.Task.Dataset
		for _, f := range b.Remove {
			c.forHousekeeper(func() { c.spent = append(c.spent, spentFile{b.Task, f}) })
		}
	case *state.AttemptCleaned:
		dataset = b.Task.Dataset
	case *state.JobFinished:
		dataset = b.Dataset
		if b.State == protocol.JobOK {
			c.forHousekeeper(func() { c.finished = append(c.finished, finishedJob{b.Dataset, b.Job}) })
		}
	case *state.DatasetFinished:
		dataset = b.Dataset
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.listeners {
		if l.dataset == 0 || l.dataset == dataset {
			select {
			case l.changed <- struct{}{}:
			default:
			}
		}
	}
}

// forHousekeeper leaves something to the housekeeper.
func (c *changes) forHousekeeper(add func()) {
	c.mu.Lock()
	add()
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}
