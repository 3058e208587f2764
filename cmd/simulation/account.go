package simulation

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"

	"floe/coordinator/state"
	"floe/protocol"
)

// Account keeps the books of a record from its events alone: who holds what, which
// attempt counts, and what that adds up to. It knows the rules of the invariants and
// nothing of how the record keeps them, so that the two can be compared. It is not for
// concurrent use.
type Account struct {
	tasks  map[protocol.TaskID]*taskAccount
	leases map[protocol.LeaseID]*leaseAccount
	dags   map[protocol.DatasetID][]*state.TaskSpec
	newest protocol.LeaseID
	last   state.Event
	sums   map[StatisticKey]*Sum

	// Used and Wasted count attempts that were accepted, and others that were reported.
	Used, Wasted uint64

	faults []error
}

type taskAccount struct {
	current  protocol.LeaseID
	lapsed   bool
	accepted protocol.LeaseID
	attempt  uint32 // the newest
}

type leaseAccount struct {
	task       protocol.TaskID
	pilot      protocol.PilotID
	ended      bool
	wasted     bool
	statistics []protocol.Statistic // of an accepted attempt
}

// StatisticKey names a statistic of a task.
type StatisticKey struct {
	Dataset protocol.DatasetID
	Task    protocol.TaskIndex
	Name    string
}

// Sum is the exact fold of a statistic over accepted attempts.
type Sum struct {
	Count int
	Total big.Rat
}

// NewAccount returns the account of an empty record.
func NewAccount() *Account {
	return &Account{
		tasks: map[protocol.TaskID]*taskAccount{}, leases: map[protocol.LeaseID]*leaseAccount{},
		dags: map[protocol.DatasetID][]*state.TaskSpec{}, sums: map[StatisticKey]*Sum{},
	}
}

// Err is the first broken invariant.
func (a *Account) Err() error {
	if len(a.faults) == 0 {
		return nil
	}
	return a.faults[0]
}

func (a *Account) fault(invariant, format string, args ...any) {
	a.faults = append(a.faults, fmt.Errorf("%s: %s", invariant, fmt.Sprintf(format, args...)))
}

func (a *Account) task(id protocol.TaskID) *taskAccount {
	t := a.tasks[id]
	if t == nil {
		t = new(taskAccount)
		a.tasks[id] = t
	}
	return t
}

// Observe takes the events of one entry and the record behind it.
func (a *Account) Observe(r *state.Machine, events []state.Event) error {
	for i := range events {
		e := &events[i]
		if i > 0 && e.Ordinal != events[i-1].Ordinal+1 || e.Index < a.last.Index {
			a.fault("I-19", "event %d.%d follows %d.%d", e.Index, e.Ordinal, a.last.Index, a.last.Ordinal)
		}
		if e.Time < a.last.Time {
			a.fault("I-19", "record time goes back from %d to %d at index %d", a.last.Time, e.Time, e.Index)
		}
		a.last = *e
		a.observe(r, e)
	}
	return a.Err()
}

func (a *Account) observe(r *state.Machine, e *state.Event) {
	switch b := e.Body.(type) {
	case *state.DatasetSubmitted:
		if d, known := r.Dataset(b.Dataset); known {
			for i := range d.Tasks {
				a.dags[b.Dataset] = append(a.dags[b.Dataset], d.Tasks[i].Spec)
			}
		}
	case *state.LeaseGranted:
		a.granted(b)
	case *state.LeaseLapsed:
		if t := a.task(b.Task); t.current != b.Lease || t.lapsed || !t.accepted.IsZero() {
			a.fault("I-8", "lease %v of task %v lapses, which is %+v", b.Lease, b.Task, *t)
		} else {
			t.lapsed = true
		}
	case *state.LeaseRevived:
		if t := a.task(b.Task); t.current != b.Lease || !t.lapsed {
			a.fault("I-2", "lease %v of task %v is revived, which is %+v", b.Lease, b.Task, *t)
		} else {
			t.lapsed = false
		}
	case *state.AttemptEnded:
		a.ended(b)
	case *state.AttemptCleaned:
		if t := a.task(b.Task); t.accepted != b.Lease || t.current != b.Lease {
			a.fault("I-1", "lease %v of task %v is cleaned, which is %+v", b.Lease, b.Task, *t)
		} else {
			t.current = protocol.LeaseID{}
		}
	case *state.AttemptsWithdrawn:
		for _, jobs := range b.Jobs {
			for j := jobs.First; j <= jobs.Last; j++ {
				a.withdrawn(protocol.TaskID{Dataset: b.Dataset, Job: j, Task: b.Task})
			}
		}
	case *state.UsageWasted:
		l := a.leases[b.Lease]
		if l == nil || !l.ended || l.wasted {
			a.fault("I-11", "the usage of lease %v is wasted twice, or it did not end", b.Lease)
			return
		}
		l.wasted = true
		a.Wasted++
	}
}

func (a *Account) granted(b *state.LeaseGranted) {
	t := a.task(b.Task)
	switch {
	case b.Lease.Compare(a.newest) <= 0:
		a.fault("I-3", "lease %v was granted after %v", b.Lease, a.newest)
	case !t.current.IsZero():
		a.fault("I-3", "task %v is granted as %v while %v is current", b.Task, b.Lease, t.current)
	case b.Attempt <= t.attempt:
		a.fault("I-3", "attempt %d of task %v follows attempt %d", b.Attempt, b.Task, t.attempt)
	case !t.accepted.IsZero():
		a.fault("I-1", "task %v is granted as %v though %v was accepted", b.Task, b.Lease, t.accepted)
	}
	if dag := a.dags[b.Task.Dataset]; int(b.Task.Task) < len(dag) {
		for _, p := range dag[b.Task.Task].Parents {
			parent := b.Task
			parent.Task = p
			if a.task(parent).accepted.IsZero() {
				a.fault("I-12", "task %v is granted before its parent %v counts", b.Task, parent)
			}
		}
	}
	a.newest, t.current, t.attempt, t.lapsed = b.Lease, b.Lease, b.Attempt, false
	a.leases[b.Lease] = &leaseAccount{task: b.Task, pilot: b.Pilot}
}

func (a *Account) ended(b *state.AttemptEnded) {
	t, l := a.task(b.Task), a.leases[b.Lease]
	switch {
	case l == nil || l.task != b.Task || l.pilot != b.Pilot:
		a.fault("I-1", "attempt %v of task %v ends, which was never granted so", b.Lease, b.Task)
		return
	case l.ended:
		a.fault("I-1", "attempt %v of task %v ends twice", b.Lease, b.Task)
	case t.current != b.Lease:
		a.fault("I-2", "attempt %v of task %v ends while %v is current", b.Lease, b.Task, t.current)
	case b.Accepted && !t.accepted.IsZero():
		a.fault("I-1", "attempt %v of task %v is accepted beside %v", b.Lease, b.Task, t.accepted)
	case b.Accepted && b.Verdict != protocol.VerdictOK:
		a.fault("I-1", "attempt %v of task %v is accepted as %v", b.Lease, b.Task, b.Verdict)
	}
	l.ended = true
	t.lapsed = false
	if !b.Accepted {
		t.current = protocol.LeaseID{}
		if b.StartedUnix != 0 {
			a.Wasted++
			l.wasted = true
		}
		return
	}
	a.Used++
	t.accepted = b.Lease
	if b.Next == protocol.TaskOK {
		t.current = protocol.LeaseID{}
	}
	l.statistics = b.Statistics
	a.fold(b.Task, b.Statistics, 1)
}

// withdrawn takes back what counted of a task.
func (a *Account) withdrawn(id protocol.TaskID) {
	t := a.task(id)
	l := a.leases[t.accepted]
	if l == nil {
		a.fault("I-11", "task %v is withdrawn though nothing of it counts", id)
		return
	}
	a.Used--
	a.Wasted++
	l.wasted = true
	a.fold(id, l.statistics, -1)
	if t.current == t.accepted {
		t.current = protocol.LeaseID{}
	}
	t.accepted = protocol.LeaseID{}
}

func (a *Account) fold(task protocol.TaskID, statistics []protocol.Statistic, sign int) {
	for _, s := range statistics {
		k := StatisticKey{task.Dataset, task.Task, s.Name}
		sum := a.sums[k]
		if sum == nil {
			sum = new(Sum)
			a.sums[k] = sum
		}
		sum.Count += sign
		x := new(big.Rat)
		x.SetFloat64(s.Value)
		if sign < 0 {
			x.Neg(x)
		}
		sum.Total.Add(&sum.Total, x)
	}
}

// Statistics are the folds that are not empty.
func (a *Account) Statistics() map[StatisticKey]*Sum {
	all := map[StatisticKey]*Sum{}
	for k, s := range a.sums {
		if s.Count != 0 {
			all[k] = s
		}
	}
	return all
}

// Accepted is the attempt of a task that counts, zero where none does.
func (a *Account) Accepted(t protocol.TaskID) protocol.LeaseID {
	if x := a.tasks[t]; x != nil {
		return x.accepted
	}
	return protocol.LeaseID{}
}

// Compare holds the record against the account, task by task.
func (a *Account) Compare(r *state.Machine) error {
	ids := make([]protocol.TaskID, 0, len(a.tasks))
	for id := range a.tasks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareTasks)
	var current uint64
	for _, id := range ids {
		t := a.tasks[id]
		if !t.current.IsZero() {
			current++
		}
		s, known := r.TaskState(id)
		if !known {
			a.fault("I-5", "task %v is gone", id)
			continue
		}
		finished := s == protocol.TaskCopied || s == protocol.TaskOK
		if finished == t.accepted.IsZero() {
			a.fault("I-1", "task %v is %v; accepted is %v", id, s, t.accepted)
		}
		if l, is := r.Lease(id); is != !t.current.IsZero() || is && l.ID != t.current {
			a.fault("I-3", "task %v has lease %v in the record, %v by its events", id, l.ID, t.current)
		} else if is && (l.State == state.Lapsed) != t.lapsed {
			a.fault("I-2", "lease %v is %d in the record, lapsed by its events: %v", l.ID, l.State, t.lapsed)
		}
	}
	totals := r.Totals()
	if totals.Leases != current {
		a.fault("I-3", "%d leases in the record, %d by its events", totals.Leases, current)
	}
	if n := totals.Tasks[protocol.TaskCopied] + totals.Tasks[protocol.TaskOK]; n != a.Used {
		a.fault("I-11", "%d tasks are copied or ok, %d attempts count", n, a.Used)
	}
	return a.Err()
}

// Leases lists the leases a pilot was ever granted, in order.
func (a *Account) Leases(p protocol.PilotID) (all []protocol.LeaseID) {
	for id, l := range a.leases {
		if l.pilot == p {
			all = append(all, id)
		}
	}
	slices.SortFunc(all, func(x, y protocol.LeaseID) int {
		return cmp.Or(cmp.Compare(x.Index, y.Index), cmp.Compare(x.Ordinal, y.Ordinal))
	})
	return all
}
