package state

import (
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// checkInvariants fails where an audit of the machine finds anything.
func checkInvariants(t failer, m *Machine) {
	t.Helper()
	for _, v := range slices.Concat(m.Audit(), m.AuditIndex()) {
		t.Fatalf("at index %d: %v", m.index, v)
	}
}

// audited is a record with something in every state: a chain of three tasks of
// which some are ok, copied, leased, lapsed, queued, suspended, in error, raised.
func audited(t *testing.T) *rig {
	r := newRig(t)
	r.do(protocol.CodeOK, submission(1, 40, chain(3)))
	r.do(protocol.CodeOK, submission(2, 5, chain(1)))
	r.do(protocol.CodeOK, &SetDataset{Dataset: 2, Verb: DatasetSuspend})
	r.enrol("p1", "mill", big)
	r.enrol("p2", "mill", big)
	grants := r.acquire("p1", 12)
	for i := range grants {
		l := &grants[i].Lease
		switch i {
		case 0, 1, 2, 3:
			r.do(protocol.CodeOK, success(l))
		case 4, 5:
			c := success(l)
			c.Cleaned = false
			r.do(protocol.CodeOK, c)
		case 6:
			r.do(protocol.CodeOK, failure(l, protocol.VerdictMemory))
		case 7:
			r.do(protocol.CodeOK, &Expire{Lease: l.ID, Task: l.Task, Term: r.term})
		}
	}
	r.acquire("p2", 3)
	r.do(protocol.CodeOK, &SuspendTasks{Select: Selection{Dataset: 1, Jobs: []protocol.JobRange{{First: 39, Last: 39}}}})
	return r
}

func TestAuditFindsWhatIsBroken(t *testing.T) {
	one := func(m *Machine) *dataset { return m.dataset(1) }
	lease := func(d *dataset, s LeaseState) (found *Lease) {
		d.live.Scan(func(_ uint64, l *Lease) bool {
			found = l
			return l.State != s
		})
		return found
	}
	for _, c := range []struct {
		name string
		harm func(m *Machine)
		want string
	}{
		{"a queued task is lost", func(m *Machine) { one(m).tasks[0].lanes[0].queued.remove(m.gen, 30) }, "I-5: task 1.30.0 waits though all its parents are finished"},
		{"a task is in two states", func(m *Machine) { one(m).tasks[0].in[protocol.TaskOK].add(m.gen, 30) }, "I-5: task 1.*.0"},
		{"a set miscounts", func(m *Machine) { one(m).tasks[0].lanes[0].queued.n++ }, "counts"},
		{"a job beyond the last", func(m *Machine) { one(m).tasks[0].lanes[0].queued.add(m.gen, 40) }, "I-5: task 1.*.0"},
		{"a child runs before its parent", func(m *Machine) { one(m).tasks[1].in[protocol.TaskProcessing].add(m.gen, 30) }, "I-12: task 1.30.1 is processing though a parent is unfinished"},
		{"a child reads nothing", func(m *Machine) {
			d := one(m)
			each(d.tasks[1].set(protocol.TaskQueued, d.jobs), func(j uint32) bool {
				d.accepted.Delete(taskKey(j, 0))
				return true
			})
		}, "I-12: task 1."},
		{"an attempt is accepted for nothing", func(m *Machine) { one(m).accepted.Set(taskKey(30, 0), &accepted{Lease: protocol.LeaseID{Index: 1}}) }, "I-1: task 1.30.0 has an accepted attempt and is not finished"},
		{"a copied task's attempt is another's", func(m *Machine) {
			l := lease(one(m), Copied)
			one(m).accepted.Set(taskKey(uint32(l.Task.Job), 0), &accepted{Lease: protocol.LeaseID{Index: 1}})
		}, "I-1: task"},
		{"a lease against the site's policy", func(m *Machine) {
			m.site("mill").Policy = &protocol.SitePolicy{Ban: protocol.SiteWho{Users: []protocol.UserID{"ann"}}}
		}, "I-40: lease"},
		{"a lease that does not count", func(m *Machine) {
			m.site("mill").Policy = &protocol.SitePolicy{Caps: protocol.SiteCaps{Cores: 1}}
		}, "I-41: lease"},
		{"a site that miscounts", func(m *Machine) { m.site("mill").Use.Cores++ }, "I-41: site mill counts"},
		{"a lease is gone", func(m *Machine) {
			l := lease(one(m), Live)
			one(m).live.Delete(taskKey(uint32(l.Task.Job), l.Task.Task))
		}, "I-5: task"},
		{"a lease is held twice", func(m *Machine) {
			p := m.pilot("p1")
			p.Leases = append(p.Leases, p.Leases[0])
		}, "I-3: pilot p1"},
		{"a lease is held by nobody", func(m *Machine) { m.pilot("p1").Leases = nil }, "I-3"},
		{"an attempt number is used again", func(m *Machine) {
			l := lease(one(m), Live)
			one(m).tasks[l.Task.Task].counts[countEnded].add(m.gen, uint32(l.Task.Job))
		}, "I-3: lease"},
		{"a lease reads what was withdrawn", func(m *Machine) {
			d := one(m)
			d.live.Scan(func(key uint64, l *Lease) bool {
				if len(l.Parents) > 0 {
					d.accepted.Delete(key - 1)
				}
				return true
			})
		}, "I-12: lease"},
		{"a raised task is queued with others", func(m *Machine) { one(m).tasks[0].counts[countDisk].add(m.gen, 30) }, "task 1.30.0 was raised"},
		{"a job is marked ok", func(m *Machine) { one(m).marks[protocol.JobOK].add(m.gen, 30) }, "marked ok"},
		{"a dataset is finished early", func(m *Machine) { one(m).finished = 7 }, "finished at 7"},
		{"a site miscounts", func(m *Machine) { m.site("mill").Pilots++ }, "site mill counts 3 pilots"},
		{"pilots are miscounted", func(m *Machine) { m.running++ }, "pilots run"},
		{"a held dataset is indexed", func(m *Machine) { m.dataset(2).suspended = false }, "I-5: task 2.*.0: a lane is indexed: false"},
		{"a class is not listed", func(m *Machine) { m.ready.active = m.ready.active[:0] }, "I-5: a class of"},
		{"a class miscounts", func(m *Machine) { m.ready.active[0].count++ }, "I-5: a class counts"},
		{"a lane is not listed", func(m *Machine) {
			c := m.ready.active[0]
			order, _, _ := c.order.Min()
			c.order.Delete(order)
		}, "I-5: a class counts"},
	} {
		r := audited(t)
		m := r.m
		before := m.Snapshot()
		c.harm(m)
		found := slices.Concat(m.Audit(), m.AuditIndex())
		if !slices.ContainsFunc(found, func(v Violation) bool { return strings.Contains(v.String(), c.want) }) {
			t.Errorf("%s: found %v, want %q", c.name, found, c.want)
		}
		if found := before.Audit(); len(found) > 0 {
			t.Errorf("%s: a record frozen before is said to be broken: %v", c.name, found)
		}
	}
}

func TestAuditIsBounded(t *testing.T) {
	r := newRig(t)
	r.quick = true
	for d := range protocol.DatasetID(MaxViolations + 20) {
		r.do(protocol.CodeOK, submission(d+1, 3, chain(1)))
		r.m.dataset(d + 1).tasks[0].lanes[0].queued.remove(r.m.gen, 1)
	}
	if n := len(r.m.Audit()); n != MaxViolations {
		t.Errorf("%d violations are listed, want %d", n, MaxViolations)
	}
}

// BenchmarkAudit audits the full record: a thousand datasets of 100,000
// queued tasks, a tenth of them touched so that their sets are ragged.
func BenchmarkAudit(b *testing.B) {
	r := bench(b, 1000, 100_000, 1)
	for d := range protocol.DatasetID(100) {
		odd := roaring.New()
		for j := uint32(0); j < 100_000; j += 2 {
			odd.Add(j)
		}
		m := r.m
		m.move(m.dataset(d+1), 0, manyJobs(odd), protocol.TaskQueued, protocol.TaskSuspended, BySuspend)
		m.settleAll(m.dataset(d + 1))
	}
	f := r.m.Snapshot()
	for b.Loop() {
		if found := f.Audit(); len(found) > 0 {
			b.Fatal(found)
		}
	}
}
