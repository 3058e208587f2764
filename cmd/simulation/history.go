package simulation

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"floe/coordinator/state"
	"floe/protocol"
)

// History is what clients saw of claims and reports, and what they could not see of
// how leases end. Check tells whether one coordinator that never fails, doing one
// thing after another, could have answered so (I-1 to I-4, I-16 to I-18).
//
// Times are of any one clock; only their order matters. It is not for concurrent use.
type History struct {
	claimed map[protocol.LeaseID]bool
	open    map[deed]bool // reports whose fate is open
	tasks   map[protocol.TaskID][]porcupine.Operation
}

// Never is when a call returns whose answer was lost: it may have had its effect at any
// time since, or not at all.
const Never = math.MaxInt64

// NewHistory returns an empty history.
func NewHistory() *History {
	return &History{claimed: map[protocol.LeaseID]bool{}, open: map[deed]bool{}, tasks: map[protocol.TaskID][]porcupine.Operation{}}
}

// deed is what an operation does to a task.
type deed struct {
	kind    deedKind
	lease   protocol.LeaseID
	success bool // of a report
}

type deedKind uint8

const (
	deedClaim    deedKind = iota + 1 // a lease is granted
	deedReport                       // an attempt is reported
	deedEnd                          // a lease ends without a report
	deedWithdraw                     // the accepted attempt is withdrawn
)

var deeds = [...]string{"", "claim", "report", "end", "withdraw"}

func (d deed) String() string {
	s := deeds[d.kind]
	if !d.lease.IsZero() {
		s += " " + d.lease.String()
	}
	if d.success {
		s += " ok"
	}
	return s
}

func (h *History) add(client int, task protocol.TaskID, d deed, answer protocol.Code, call, ret int64) {
	h.tasks[task] = append(h.tasks[task], porcupine.Operation{ClientId: client, Input: d, Output: answer, Call: call, Return: ret})
}

// Claimed notes that a pilot received a lease. call is when it sent the first exchange
// that may have been granted it, ret when it heard of it. Hearing of it again is no news.
func (h *History) Claimed(client int, task protocol.TaskID, lease protocol.LeaseID, call, ret int64) {
	if !h.claimed[lease] {
		h.claimed[lease] = true
		h.add(client, task, deed{kind: deedClaim, lease: lease}, protocol.CodeOK, call, ret)
	}
}

// Reported notes the answer to a report, in the order of calls. Any but OK and stale leaves its fate open, and
// so does one that never came: its ret is Never.
func (h *History) Reported(client int, task protocol.TaskID, lease protocol.LeaseID, verdict protocol.Verdict, answer protocol.Code, call, ret int64) {
	d := deed{deedReport, lease, verdict == protocol.VerdictOK}
	if ret == Never || answer != protocol.CodeOK && answer != protocol.CodeStale {
		if h.open[d] {
			return // one that may have its effect at any time since says as much as many
		}
		h.open[d] = true
		answer, ret = protocol.CodeUnknown, Never
	}
	h.add(client, task, d, answer, call, ret)
}

// Observe takes the events of one entry that was proposed and first applied between two
// times (0 and Never where that is not known). They say what no client does: leases
// that nobody heard of, and that end without a report. It is called in the order of
// the log, after every Claimed.
func (h *History) Observe(proposed, applied int64, events []state.Event) {
	const record = -1 // the client
	for i := range events {
		switch b := events[i].Body.(type) {
		case *state.LeaseGranted:
			if !h.claimed[b.Lease] {
				h.add(record, b.Task, deed{kind: deedClaim, lease: b.Lease}, protocol.CodeOK, proposed, applied)
			}
		case *state.AttemptEnded:
			if b.StartedUnix == 0 { // no pilot said so
				h.add(record, b.Task, deed{kind: deedEnd, lease: b.Lease}, protocol.CodeOK, proposed, applied)
			}
		case *state.AttemptsWithdrawn:
			for _, r := range b.Jobs {
				for j := r.First; j <= r.Last; j++ {
					task := protocol.TaskID{Dataset: b.Dataset, Job: j, Task: b.Task}
					h.add(record, task, deed{kind: deedWithdraw}, protocol.CodeOK, proposed, applied)
				}
			}
		}
	}
}

// taskModel is a task as the one coordinator that never fails would keep it.
type taskModel struct {
	current  protocol.LeaseID
	accepted protocol.LeaseID
	newest   protocol.LeaseID
	reported []protocol.LeaseID // reports that were taken, oldest first
	over     []protocol.LeaseID // leases that ended otherwise, or count no more
}

func (t *taskModel) clone() taskModel {
	c := *t
	c.reported, c.over = slices.Clone(t.reported), slices.Clone(t.over)
	return c
}

func (t *taskModel) equal(o *taskModel) bool {
	return t.current == o.current && t.accepted == o.accepted && t.newest == o.newest &&
		slices.Equal(t.reported, o.reported) && slices.Equal(t.over, o.over)
}

func (t *taskModel) end(l protocol.LeaseID) {
	t.over = append(t.over, l)
	if t.current == l {
		t.current = protocol.LeaseID{}
	}
}

// step does a deed that was answered so, or says that it could not have been.
func (t *taskModel) step(d deed, answer protocol.Code) bool {
	switch d.kind {
	case deedClaim:
		if d.lease.Compare(t.newest) <= 0 || !t.accepted.IsZero() {
			return false
		}
		if !t.current.IsZero() {
			t.end(t.current)
		}
		t.current, t.newest = d.lease, d.lease
	case deedReport:
		reported := slices.Contains(t.reported, d.lease)
		counts := t.current == d.lease && !reported
		switch {
		case answer == protocol.CodeOK && !counts:
			return reported
		case answer == protocol.CodeStale:
			return !counts && (!reported || slices.Contains(t.over, d.lease))
		case !counts: // its fate is open, and it had no effect
			return true
		}
		t.reported = append(t.reported, d.lease)
		if d.success {
			t.accepted = d.lease
		} else {
			t.current = protocol.LeaseID{}
		}
	case deedEnd:
		t.end(d.lease)
	case deedWithdraw:
		if t.accepted.IsZero() {
			return false
		}
		t.end(t.accepted)
		t.accepted = protocol.LeaseID{}
	}
	return true
}

var taskSpecification = porcupine.Model{
	Init: func() any { return taskModel{} },
	Step: func(s, in, out any) (bool, any) {
		t := s.(taskModel)
		t = t.clone()
		ok := t.step(in.(deed), out.(protocol.Code))
		return ok, t
	},
	Equal: func(a, b any) bool {
		x, y := a.(taskModel), b.(taskModel)
		return x.equal(&y)
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%v → %v", in, out) },
}

// ErrHistory is a history that no single coordinator could have given.
var ErrHistory = errors.New("the history of claims and reports is not linearizable")

// Check judges the history, each task by itself. A task that cannot be judged in the
// time, zero being none, is passed over and counted.
func (h *History) Check(within time.Duration) (passed int, err error) {
	ids := make([]protocol.TaskID, 0, len(h.tasks))
	for id := range h.tasks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareTasks)
	for _, id := range ids {
		switch porcupine.CheckOperationsTimeout(taskSpecification, h.tasks[id], within) {
		case porcupine.Illegal:
			return passed, fmt.Errorf("%w: task %v:%s", ErrHistory, id, h.describe(id))
		case porcupine.Unknown:
			passed++
		}
	}
	return passed, nil
}

// describe lists the operations on a task.
func (h *History) describe(id protocol.TaskID) (s string) {
	all := slices.Clone(h.tasks[id])
	slices.SortStableFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range all {
		ret := "never"
		if o.Return != Never {
			ret = time.Duration(o.Return).String()
		}
		s += fmt.Sprintf("\n\t%v to %s, client %d: %v → %v", time.Duration(o.Call), ret, o.ClientId, o.Input, o.Output)
	}
	return s
}

func compareTasks(a, b protocol.TaskID) int {
	return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Job, b.Job), cmp.Compare(a.Task, b.Task))
}
