package federation

import (
	"errors"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
)

// judge follows the events of the log and knows nothing else: a second opinion on
// what a record allows.
type judge struct {
	t         *testing.T
	current   map[protocol.TaskID]protocol.LeaseID
	accepted  map[protocol.TaskID]protocol.LeaseID
	attempts  map[protocol.TaskID]uint32
	newest    protocol.LeaseID
	granted   map[protocol.LeaseID]*state.LeaseGranted
	ended     map[protocol.LeaseID]*state.AttemptEnded
	endedAt   map[protocol.LeaseID]state.UnixMillis
	lapsed    map[protocol.LeaseID][]state.UnixMillis
	withdrawn map[protocol.LeaseID]bool
}

func newJudge(t *testing.T) *judge {
	return &judge{
		t: t, current: map[protocol.TaskID]protocol.LeaseID{}, accepted: map[protocol.TaskID]protocol.LeaseID{}, attempts: map[protocol.TaskID]uint32{},
		granted: map[protocol.LeaseID]*state.LeaseGranted{}, ended: map[protocol.LeaseID]*state.AttemptEnded{},
		endedAt: map[protocol.LeaseID]state.UnixMillis{}, lapsed: map[protocol.LeaseID][]state.UnixMillis{}, withdrawn: map[protocol.LeaseID]bool{},
	}
}

func (j *judge) see(e *state.Event) {
	switch b := e.Body.(type) {
	case *state.LeaseGranted:
		if other, ok := j.current[b.Task]; ok {
			j.t.Errorf("I-3: entry %d grants %v of %v, which %v holds", e.Index, b.Lease, b.Task, other)
		}
		if b.Lease.Compare(j.newest) <= 0 || b.Attempt <= j.attempts[b.Task] {
			j.t.Errorf("I-3: entry %d grants %v, attempt %d of %v, after %v and attempt %d", e.Index, b.Lease, b.Attempt, b.Task, j.newest, j.attempts[b.Task])
		}
		j.newest, j.attempts[b.Task] = b.Lease, b.Attempt
		j.current[b.Task], j.granted[b.Lease] = b.Lease, b
		for task := range b.Task.Task { // each task's parent is the one before it
			if parent := (protocol.TaskID{Dataset: b.Task.Dataset, Job: b.Task.Job, Task: task}); j.accepted[parent] == (protocol.LeaseID{}) {
				j.t.Errorf("I-12: entry %d grants %v while %v is not done", e.Index, b.Task, parent)
			}
		}
	case *state.LeaseLapsed:
		if j.current[b.Task] != b.Lease {
			j.t.Errorf("I-3: entry %d lets %v lapse; %v is current", e.Index, b.Lease, j.current[b.Task])
		}
		j.lapsed[b.Lease] = append(j.lapsed[b.Lease], e.Wall)
	case *state.AttemptEnded:
		if j.current[b.Task] != b.Lease {
			j.t.Errorf("I-1: entry %d ends %v of %v; current is %v", e.Index, b.Lease, b.Task, j.current[b.Task])
		}
		if other, ok := j.accepted[b.Task]; ok && b.Accepted {
			j.t.Errorf("I-1: entry %d accepts %v of %v beside %v", e.Index, b.Lease, b.Task, other)
		}
		if j.ended[b.Lease] != nil {
			j.t.Errorf("I-11: entry %d ends %v a second time", e.Index, b.Lease)
		}
		j.ended[b.Lease], j.endedAt[b.Lease] = b, e.Wall
		if b.Accepted {
			j.accepted[b.Task] = b.Lease
		}
		delete(j.current, b.Task)
	case *state.AttemptsWithdrawn:
		for _, r := range b.Jobs {
			for job := r.First; job <= r.Last; job++ {
				task := protocol.TaskID{Dataset: b.Dataset, Job: job, Task: b.Task}
				j.withdrawn[j.accepted[task]] = true
				delete(j.accepted, task)
			}
		}
	}
}

// isAnswer tells an answer of a coordinator from an error of the network.
func isAnswer(err error) bool {
	var refused *protocol.Error
	return errors.As(err, &refused)
}
