package state

import (
	"bytes"
	"sync"
	"testing"

	"floe/protocol"
)

// A frozen record is written and read by others while the machine goes on, and
// stays what it was. Run with -race this also shows that nothing is shared.
func TestFrozenWhileApplying(t *testing.T) {
	r := newRig(t)
	r.quick = true
	r.do(protocol.CodeOK, submission(1, 500, chain(3)))
	for p := range 4 {
		r.enrol(pilotName(p), "mill", big)
	}
	var wait sync.WaitGroup
	for round := range 30 {
		f := r.m.Snapshot()
		before := persisted(t, f)
		wait.Go(func() {
			var b bytes.Buffer
			if err := f.Persist(&b); err != nil || !bytes.Equal(b.Bytes(), before) {
				t.Errorf("round %d: the frozen record changed, %v", round, err)
			}
			for d := range f.Datasets(0) {
				_ = d.JobCounts
			}
			for l := range f.Leases() {
				_, _ = f.Explain(l.Task)
			}
			f.Preview(&ResetTasks{Select: Selection{Dataset: 1, States: protocol.TaskStates}})
			f.Totals()
		})
		for p := range 4 {
			for i, g := range r.acquire(pilotName(p), 5) {
				switch i {
				case 0:
					r.do(protocol.CodeOK, failure(&g.Lease, protocol.VerdictMemory))
				case 1:
					r.do(protocol.CodeOK, &Expire{Lease: g.Lease.ID, Task: g.Lease.Task, Term: 1})
				default:
					r.do(protocol.CodeOK, success(&g.Lease))
				}
			}
		}
		if round%10 == 9 {
			r.do(protocol.CodeOK, &ResetTasks{Select: Selection{Dataset: 1, States: []protocol.TaskState{protocol.TaskOK}}})
		}
	}
	wait.Wait()
	checkInvariants(t, r.m)
}
