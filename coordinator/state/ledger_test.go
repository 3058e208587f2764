package state

import (
	"floe/protocol"
)

// ledger folds events as history does, and fails where they do not add up.
type ledger struct {
	t        failer
	granted  map[protocol.LeaseID]bool // false once ended
	tried    map[protocol.TaskID]uint32
	accepted map[protocol.TaskID]protocol.LeaseID
	paid     map[protocol.LeaseID]bool // usage was counted
	pullable map[protocol.TaskID]bool  // before the entry
}

func newLedger(t failer) *ledger {
	return &ledger{
		t:        t,
		granted:  map[protocol.LeaseID]bool{},
		tried:    map[protocol.TaskID]uint32{},
		accepted: map[protocol.TaskID]protocol.LeaseID{},
		paid:     map[protocol.LeaseID]bool{},
		pullable: map[protocol.TaskID]bool{},
	}
}

// fold takes in the events of one entry, after which the machine is m.
func (l *ledger) fold(m *Machine, events []Event) {
	l.t.Helper()
	released := map[[2]uint32]uint64{}
	for i := range events {
		switch e := events[i].Body.(type) {
		case *LeaseGranted:
			if _, again := l.granted[e.Lease]; again {
				l.t.Fatalf("I-3: lease %v granted twice", e.Lease)
			}
			if e.Attempt <= l.tried[e.Task] {
				l.t.Fatalf("I-3: attempt %d of task %v after attempt %d", e.Attempt, e.Task, l.tried[e.Task])
			}
			l.granted[e.Lease], l.tried[e.Task] = true, e.Attempt
		case *AttemptEnded:
			l.ended(e)
		case *AttemptCleaned:
			if l.accepted[e.Task] != e.Lease {
				l.t.Fatalf("task %v: cleaned %v, accepted %v", e.Task, e.Lease, l.accepted[e.Task])
			}
		case *AttemptsWithdrawn:
			for _, r := range e.Jobs {
				for j := r.First; j <= r.Last; j++ {
					id := protocol.TaskID{Dataset: e.Dataset, Job: j, Task: e.Task}
					if _, counts := l.accepted[id]; !counts {
						l.t.Fatalf("task %v: an attempt was withdrawn that did not count", id)
					}
					delete(l.accepted, id)
				}
			}
		case *UsageWasted:
			if l.paid[e.Lease] {
				l.t.Fatalf("I-11: usage of lease %v counted twice", e.Lease)
			}
			l.paid[e.Lease] = true
		case *TasksReleased:
			released[[2]uint32{uint32(e.Dataset), uint32(e.Task)}] += e.Count
		}
	}
	l.compare(m, released)
}

func (l *ledger) ended(e *AttemptEnded) {
	l.t.Helper()
	if !l.granted[e.Lease] {
		l.t.Fatalf("lease %v ended twice, or was never granted", e.Lease)
	}
	l.granted[e.Lease] = false
	if e.Usage != (protocol.Usage{}) {
		l.paid[e.Lease] = true
	}
	if !e.Accepted {
		return
	}
	if was, counts := l.accepted[e.Task]; counts {
		l.t.Fatalf("I-1: task %v: attempt %v accepted while %v counts", e.Task, e.Lease, was)
	}
	l.accepted[e.Task] = e.Lease
}

// compare checks the ledger against the record: what was granted and has not
// ended is leased, what was accepted is finished, and what became free to pull
// was announced.
func (l *ledger) compare(m *Machine, released map[[2]uint32]uint64) {
	l.t.Helper()
	open := 0
	for _, running := range l.granted {
		if running {
			open++
		}
	}
	for lease := range m.Leases() {
		if lease.State != Copied {
			if !l.granted[lease.ID] {
				l.t.Fatalf("lease %v is current, but history says that it ended", lease.ID)
			}
			open--
		}
	}
	if open != 0 {
		l.t.Fatalf("history has %d more running attempts than the record", open)
	}
	finished := 0
	pullable := map[protocol.TaskID]bool{}
	m.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		for t := range d.tasks {
			for j := range d.jobs {
				id := keyTask(d.id, taskKey(j, protocol.TaskIndex(t)))
				switch d.tasks[t].taskState(j) {
				case protocol.TaskCopied, protocol.TaskOK:
					finished++
					if _, counts := l.accepted[id]; !counts {
						l.t.Fatalf("I-1: task %v is finished without an accepted attempt", id)
					}
				case protocol.TaskQueued:
					if !d.held() {
						pullable[id] = true
					}
				}
			}
		}
		return true
	})
	if finished != len(l.accepted) {
		l.t.Fatalf("I-1: %d attempts count, %d tasks are finished", len(l.accepted), finished)
	}
	for id := range pullable {
		if !l.pullable[id] {
			key := [2]uint32{uint32(id.Dataset), uint32(id.Task)}
			if released[key] == 0 {
				l.t.Fatalf("task %v may be pulled now, but was not announced", id)
			}
			released[key]--
		}
	}
	l.pullable = pullable
}
