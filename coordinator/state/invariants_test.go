package state

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// checkInvariants recounts everything a machine keeps a count or an index of, and
// checks what the package promises. The numbers are those of the invariants in
// docs/invariants.md.
func checkInvariants(t failer, m *Machine) {
	t.Helper()
	var leases, running uint64
	sites := map[protocol.SiteID]*Site{}
	held := map[protocol.LeaseID]protocol.PilotID{}
	m.pilots.Scan(func(id protocol.PilotID, p *Pilot) bool {
		s := siteCount(sites, p.Site)
		if p.Left == 0 {
			running++
			s.Pilots++
		}
		for _, h := range p.Leases {
			if by, twice := held[h.Lease]; twice {
				t.Fatalf("I-3: lease %v is held by %s and %s", h.Lease, by, id)
			}
			held[h.Lease] = id
		}
		return true
	})
	m.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool {
		if l.Pilot == "" {
			siteCount(sites, l.Site).Launches++
		}
		return true
	})
	lanes := map[string]uint64{}
	m.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		for t := range d.tasks {
			for i := range d.tasks[t].lanes {
				if l := &d.tasks[t].lanes[i]; l.ready != nil {
					lanes[l.ready.key] += l.queued.n
				}
			}
		}
		checkDataset(t, d)
		d.live.Scan(func(key uint64, l *Lease) bool {
			leases++
			siteCount(sites, l.Site).Leases++
			if held[l.ID] != l.Pilot || keyTask(d.id, key) != l.Task {
				t.Fatalf("lease %v of task %v is not held by its pilot %s", l.ID, l.Task, l.Pilot)
			}
			return true
		})
		return true
	})
	if leases != m.leases || leases != uint64(len(held)) || running != m.running {
		t.Fatalf("%d leases and %d pilots run, held %d, counted %d and %d", leases, running, len(held), m.leases, m.running)
	}
	m.sites.Scan(func(id protocol.SiteID, s *Site) bool {
		if c := siteCount(sites, id); c.Pilots != s.Pilots || c.Launches != s.Launches || c.Leases != s.Leases {
			t.Fatalf("site %s counts %d pilots, %d launches, %d leases; has %d, %d, %d", id, s.Pilots, s.Launches, s.Leases, c.Pilots, c.Launches, c.Leases)
		}
		return true
	})
	checkReady(t, m, lanes)
}

func siteCount(sites map[protocol.SiteID]*Site, id protocol.SiteID) *Site {
	if sites[id] == nil {
		sites[id] = new(Site)
	}
	return sites[id]
}

// checkReady compares the index of ready work with the lanes.
func checkReady(t failer, m *Machine, lanes map[string]uint64) {
	t.Helper()
	active := 0
	m.ready.byKey.Scan(func(key string, c *readyClass) bool {
		if c.count != lanes[key] {
			t.Fatalf("a class counts %d queued tasks, its lanes hold %d", c.count, lanes[key])
		}
		delete(lanes, key)
		if (c.count > 0) != (c.at >= 0) || c.count > 0 && m.ready.active[c.at] != c {
			t.Fatalf("a class of %d queued tasks stands at %d of the active ones", c.count, c.at)
		}
		if c.count > 0 {
			active++
		}
		n := 0
		c.order.Scan(func(order uint64, ref laneRef) bool {
			d, _ := m.datasets.Get(ref.dataset)
			l := &d.tasks[ref.task].lanes[ref.lane]
			if l.ready != c || l.queued.n == 0 || order != laneOrder(d, ref.task) {
				t.Fatalf("lane %+v stands wrongly in the index", ref)
			}
			n++
			return true
		})
		return true
	})
	if active != len(m.ready.active) || len(lanes) > 0 {
		t.Fatalf("%d classes active, %d listed, %d lanes indexed nowhere", active, len(m.ready.active), len(lanes))
	}
}

// checkDataset recounts one dataset.
func checkDataset(t failer, d *dataset) {
	t.Helper()
	for i := range d.tasks {
		checkVertex(t, d, protocol.TaskIndex(i))
	}
	var stuck, final uint64
	for j := range d.jobs {
		s, isStuck := d.judge(j)
		if got := d.jobState(j); got != s || d.stuck.has(j) != isStuck {
			t.Fatalf("job %d.%d is marked %v, stuck %v; its tasks say %v, %v", d.id, j, got, d.stuck.has(j), s, isStuck)
		}
		if isStuck {
			stuck++
		}
		if isStuck || s == protocol.JobOK {
			final++
		}
		for i := range d.tasks {
			checkTask(t, d, protocol.TaskIndex(i), j)
		}
	}
	total := uint64(0)
	for _, s := range protocol.JobStates {
		total += d.jobCount(s)
	}
	if total != uint64(d.jobs) || d.stuck.n != stuck {
		t.Fatalf("dataset %d: %d jobs by state and %d stuck, want %d and %d", d.id, total, d.stuck.n, d.jobs, stuck)
	}
	if (d.finished != 0) != (d.jobs > 0 && final == uint64(d.jobs)) {
		t.Fatalf("dataset %d: finished at %d with %d of %d jobs final", d.id, d.finished, final, d.jobs)
	}
}

// checkVertex checks that every job is in exactly one state of a task, and in the
// right lane.
func checkVertex(t failer, d *dataset, index protocol.TaskIndex) {
	t.Helper()
	v := &d.tasks[index]
	n, all := uint64(0), roaring.New()
	note := func(b *bits) {
		if b.n != b.view().GetCardinality() {
			t.Fatalf("task %d.*.%d: a set of %d counts %d", d.id, index, b.view().GetCardinality(), b.n)
		}
		n += b.n
		all.Or(b.view())
	}
	for s := range v.in {
		note(&v.in[s])
	}
	for i := range v.lanes {
		l := &v.lanes[i]
		note(&l.queued)
		if (l.ready == nil) != d.held() {
			t.Fatalf("task %d.*.%d: a lane is indexed: %v, though held: %v", d.id, index, l.ready != nil, d.held())
		}
		each(l.queued.view(), func(j uint32) bool {
			if v.classOf(j) != int(l.class) || v.stepsOf(j) != l.steps {
				t.Fatalf("task %d.%d.%d: in lane of class %d raised %v, want %d %v", d.id, j, index, l.class, l.steps, v.classOf(j), v.stepsOf(j))
			}
			return true
		})
	}
	if all.GetCardinality() != n || !all.IsEmpty() && all.Maximum() >= d.jobs {
		t.Fatalf("task %d.*.%d: %d states of %d jobs", d.id, index, n, all.GetCardinality())
	}
}

// checkTask checks one task against its parents, its lease and its accepted attempt.
func checkTask(t failer, d *dataset, index protocol.TaskIndex, j uint32) {
	t.Helper()
	v := &d.tasks[index]
	s := v.taskState(j)
	id := keyTask(d.id, taskKey(j, index))
	ready := d.parentsFinished(index, j)
	switch s {
	case protocol.TaskWaiting:
		if ready {
			t.Fatalf("I-5: task %v waits though all its parents are finished", id)
		}
	case protocol.TaskSuspended: // wherever it was held
	default:
		if !ready {
			t.Fatalf("I-12: task %v is %v though a parent is unfinished", id, s)
		}
	}
	a, accepted := d.accepted.Get(taskKey(j, index))
	if accepted && (!v.finished(j) || d.marks[protocol.JobOK].has(j)) {
		t.Fatalf("I-1: task %v is %v and has an accepted attempt on record", id, s)
	}
	if accepted && a.Lease.IsZero() {
		t.Fatalf("task %v: accepted attempt without a lease", id)
	}
	l, current := d.current(j, index)
	want := map[protocol.TaskState]LeaseState{protocol.TaskProcessing: Live, protocol.TaskQueued: Lapsed, protocol.TaskCopied: Copied}[s]
	if current && l.State != want || !current && (s == protocol.TaskProcessing || s == protocol.TaskCopied) {
		t.Fatalf("I-5: task %v is %v, its lease %+v", id, s, l)
	}
	if !current {
		return
	}
	if l.State != Copied && l.Attempt != v.attempt(j) {
		t.Fatalf("I-3: task %v: lease of attempt %d, next is %d", id, l.Attempt, v.attempt(j))
	}
	if l.State != Copied && !parentsStand(d, l) {
		t.Fatalf("task %v: its lease reads attempts that do not count", id)
	}
	if l.State == Copied && len(v.children) > 0 && (!accepted || a.Lease != l.ID) {
		t.Fatalf("I-1: task %v is copied, but its lease is not the accepted attempt", id)
	}
	if slices.ContainsFunc(l.Parents, protocol.LeaseID.IsZero) {
		t.Fatalf("task %v: reads no attempt", id)
	}
}

func parentsStand(d *dataset, l *Lease) bool { return (*Machine)(nil).parentsStand(d, l) }
