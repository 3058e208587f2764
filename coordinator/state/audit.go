package state

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/tidwall/btree"

	"floe/protocol"
)

// MaxViolations bounds what one audit lists: a record that is broken in one place
// is often broken in many.
const MaxViolations = 100

// Violation is one thing in the record that must not be.
type Violation struct {
	// Invariant is its number in docs/invariants.md; empty where a count or an index
	// disagrees with what it counts.
	Invariant string
	Detail    string
}

func (v Violation) String() string {
	if v.Invariant == "" {
		return v.Detail
	}
	return v.Invariant + ": " + v.Detail
}

// Audit recounts everything that the record keeps a count of, and checks what the
// package promises of it: no task lost or stuck, one current lease and one
// accepted attempt, no child before its parents. It lists at most MaxViolations
// and nothing where all is well.
//
// It works on whole bitmaps, so it costs what the sets, leases and pilots cost,
// not what the jobs do: it may run every minute on a Frozen of a full record.
func (r *Record) Audit() []Violation {
	a := audit{sites: new(btree.Map[protocol.SiteID, *Site]), unproven: new(btree.Map[string, uint32])}
	a.pilots(r)
	r.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool {
		if l.Pilot == "" {
			a.site(l.Site).Launches++
		}
		if r.unproven(l) {
			n, _ := a.unproven.Get(shapeKey(l.Site, l.Shape))
			a.unproven.Set(shapeKey(l.Site, l.Shape), n+1)
		}
		return true
	})
	leases := uint64(0)
	r.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		a.dataset(r, d)
		leases += uint64(d.live.Len())
		return true
	})
	r.nodes.Scan(func(_ string, n *Node) bool {
		a.node(r, n)
		return true
	})
	if leases != r.leases || a.held != leases {
		a.fault("I-3", "%d leases are current, pilots hold %d, counted are %d", leases, a.held, r.leases)
	}
	r.sites.Scan(func(id protocol.SiteID, s *Site) bool {
		if n := a.site(id); n.Pilots != s.Pilots || n.Launches != s.Launches || n.Leases != s.Leases {
			a.fault("", "site %s counts %d pilots, %d launches, %d leases; has %d, %d, %d",
				id, s.Pilots, s.Launches, s.Leases, n.Pilots, n.Launches, n.Leases)
		}
		a.shapes(r, s)
		return true
	})
	a.software(r)
	a.pilotRelease(r)
	a.policies(r)
	return a.found
}

// audit gathers what one audit finds.
type audit struct {
	found []Violation
	sites *btree.Map[protocol.SiteID, *Site] // recounted
	held  uint64                             // leases that pilots hold

	unproven *btree.Map[string, uint32] // launch leases that have come to nothing so far, by shapeKey
}

func shapeKey(s protocol.SiteID, name string) string { return string(s) + "/" + name }

func (a *audit) fault(invariant, format string, args ...any) {
	if len(a.found) < MaxViolations {
		a.found = append(a.found, Violation{invariant, fmt.Sprintf(format, args...)})
	}
}

// shapes checks what is known of a site's kinds of pilot jobs: a launch lease that has
// come to nothing so far is counted, and there is always one to be tried.
func (a *audit) shapes(r *Record, s *Site) {
	for i := range s.Shapes {
		x := &s.Shapes[i]
		unproven, _ := a.unproven.Get(shapeKey(s.ID, x.Name))
		switch {
		case x.Unproven != unproven:
			a.fault("I-15", "site %s counts %d unproven pilot jobs of shape %s; there are %d", s.ID, x.Unproven, x.Name, unproven)
		case x.Allowance < 1 || x.Allowance > MaxAllowance:
			a.fault("I-15", "site %s may have %d unproven pilot jobs of shape %s, want 1 to %d", s.ID, x.Allowance, x.Name, MaxAllowance)
		case i > 0 && s.Shapes[i-1].Name >= x.Name:
			a.fault("I-15", "site %s has shapes %s and %s in this order", s.ID, s.Shapes[i-1].Name, x.Name)
		case x.Next > r.time+MaxProbe:
			a.fault("I-15", "site %s waits until %d for a pilot job of shape %s; it is %d", s.ID, x.Next, x.Name, r.time)
		}
	}
}

// none demands that no job of a task is in a set.
func (a *audit) none(invariant string, d *dataset, t int, set *roaring.Bitmap, what string) {
	if !set.IsEmpty() {
		first := keyTask(d.id, taskKey(set.Minimum(), protocol.TaskIndex(t)))
		a.fault(invariant, "task %v %s; %d jobs in all", first, what, set.GetCardinality())
	}
}

// same demands that two sets of jobs are equal.
func (a *audit) same(invariant string, d *dataset, t int, x, y *roaring.Bitmap, what string) {
	if !x.Equals(y) {
		a.none(invariant, d, t, roaring.Xor(x, y), what)
	}
}

// within demands that a set of jobs is part of another.
func (a *audit) within(invariant string, d *dataset, t int, part, whole *roaring.Bitmap, what string) {
	if part.AndCardinality(whole) != part.GetCardinality() {
		a.none(invariant, d, t, roaring.AndNot(part, whole), what)
	}
}

// site returns the recount of a site.
func (a *audit) site(id protocol.SiteID) *Site {
	s, known := a.sites.Get(id)
	if !known {
		s = new(Site)
		a.sites.Set(id, s)
	}
	return s
}

// pilots checks that what a pilot holds is leased to it, once.
func (a *audit) pilots(r *Record) {
	running := uint64(0)
	r.pilots.Scan(func(id protocol.PilotID, p *Pilot) bool {
		if p.Left == 0 {
			running++
			a.site(p.Site).Pilots++
		}
		a.held += uint64(len(p.Leases))
		for i, h := range p.Leases {
			if l, current := r.Lease(h.Task); !current || l.ID != h.Lease || l.Pilot != id {
				a.fault("I-3", "pilot %s holds lease %v of task %v, which is not its own", id, h.Lease, h.Task)
			}
			if i > 0 && p.Leases[i-1].Lease.Compare(h.Lease) >= 0 {
				a.fault("I-3", "pilot %s holds lease %v twice, or out of order", id, h.Lease)
			}
		}
		return true
	})
	if running != r.running {
		a.fault("", "%d pilots run, counted are %d", running, r.running)
	}
}

// node checks that a standing bars as long as it says, and that the one task of a
// node on probation runs there.
func (a *audit) node(r *Record, n *Node) {
	name := nodeName(n.Site, n.Host)
	if _, known := r.sites.Get(n.Site); !known {
		a.fault("I-14", "node %s is of an unknown site", name)
	}
	if (n.State == NodeQuarantined) != (n.Until > 0) {
		a.fault("I-14", "node %s is %v until %d", name, n.State, n.Until)
	}
	if n.Canary.IsZero() {
		return
	}
	there := false
	r.pilots.Scan(func(_ protocol.PilotID, p *Pilot) bool {
		for _, h := range p.Leases {
			there = there || h.Lease == n.Canary && p.Site == n.Site && p.Host == n.Host
		}
		return !there
	})
	if n.State != NodeCanary || !there {
		a.fault("I-14", "node %s is %v and has the one task of lease %v, which is not current there", name, n.State, n.Canary)
	}
}

// vertexSets are the jobs of one task of a DAG, by where they stand.
type vertexSets struct {
	in       [protocol.TaskSuspended + 1]*roaring.Bitmap // by state, queued and waiting ones, too
	finished *roaring.Bitmap                             // copied or ok
	ready    *roaring.Bitmap                             // all parents finished
	leased   [Copied + 1]*roaring.Bitmap                 // by state of the lease
	accepted *roaring.Bitmap                             // an accepted attempt is on record
}

func (a *audit) dataset(r *Record, d *dataset) {
	every := roaring.New()
	every.AddRange(0, uint64(d.jobs))
	sets := make([]vertexSets, len(d.tasks))
	for t := range d.tasks {
		a.vertex(d, t, &sets[t], every)
	}
	a.leases(r, d, sets)
	a.saved(d)
	d.accepted.Scan(func(key uint64, made *accepted) bool {
		id := keyTask(d.id, key)
		if int(id.Task) >= len(sets) || made.Lease.IsZero() {
			a.fault("I-1", "task %v: accepted attempt %v of no lease or no task", id, made.Lease)
			return true
		}
		sets[id.Task].accepted.Add(uint32(id.Job))
		return true
	})
	for t := range sets {
		a.order(d, t, sets)
	}
	a.jobs(d, sets, every)
}

// vertex checks that every job is in exactly one state of a task and, where it is
// queued, in the right lane.
func (a *audit) vertex(d *dataset, t int, s *vertexSets, every *roaring.Bitmap) {
	v := &d.tasks[t]
	total, all := uint64(0), roaring.New()
	note := func(b *bits) *roaring.Bitmap {
		if n := b.view().GetCardinality(); b.n != n {
			a.fault("", "task %d.*.%d: a set of %d counts %d", d.id, t, n, b.n)
		}
		total += b.view().GetCardinality()
		all.Or(b.view())
		return b.view()
	}
	for state := range v.in {
		s.in[state] = note(&v.in[state])
	}
	queued := roaring.New()
	for i := range v.lanes {
		l := &v.lanes[i]
		queued.Or(note(&l.queued))
		a.lane(d, t, l)
	}
	if total != all.GetCardinality() || !all.IsEmpty() && all.Maximum() >= d.jobs {
		a.fault("I-5", "task %d.*.%d: %d states of %d among %d jobs", d.id, t, total, all.GetCardinality(), d.jobs)
	}
	s.in[protocol.TaskQueued] = queued
	s.in[protocol.TaskWaiting] = roaring.AndNot(every, all)
	s.finished = v.finishedJobs()
	s.accepted = roaring.New()
	for i := range s.leased {
		s.leased[i] = roaring.New()
	}
	s.ready = every
}

// lane checks that what is queued in a lane asks for what the lane says, and that
// the lane can be found.
func (a *audit) lane(d *dataset, t int, l *lane) {
	v := &d.tasks[t]
	if (l.ready == nil) != d.held() {
		a.fault("I-5", "task %d.*.%d: a lane is indexed: %v, though its dataset is held: %v", d.id, t, l.ready != nil, d.held())
	}
	if l.queued.n == 0 {
		return
	}
	queued := l.queued.view()
	if c := &v.classes[l.class]; !c.open {
		a.within("", d, t, queued, c.jobs.view(), "is queued in a lane of another class")
	}
	for i, k := range [...]countKind{countMemory, countWalltime, countDisk} {
		for bit := range 8 {
			raised := noJobs
			if bit < len(v.counts[k].slices) {
				raised = v.counts[k].slices[bit].view()
			}
			if l.steps[i]&(1<<bit) != 0 {
				a.within("", d, t, queued, raised, "is queued in a lane of raises that it did not have")
			} else if queued.Intersects(raised) {
				a.none("", d, t, roaring.And(queued, raised), "was raised, and is queued in another lane")
			}
		}
	}
}

// leases checks each current lease of a dataset.
func (a *audit) leases(r *Record, d *dataset, sets []vertexSets) {
	d.live.Scan(func(key uint64, l *Lease) bool {
		t, j := protocol.TaskIndex(key&0xffff), uint32(key>>16)
		if l.Task != keyTask(d.id, key) || int(t) >= len(sets) || j >= d.jobs || l.State < Live || l.State > Copied {
			a.fault("I-3", "lease %v in state %d is for no task", l.ID, l.State)
			return true
		}
		a.site(l.Site).Leases++
		sets[t].leased[l.State].Add(j)
		v := &d.tasks[t]
		if l.State == Copied {
			if made, kept := d.accepted.Get(key); len(v.children) > 0 && (!kept || made.Lease != l.ID) {
				a.fault("I-1", "task %v is copied, but its lease %v is not the accepted attempt", l.Task, l.ID)
			}
			return true
		}
		if l.Attempt != v.attempt(j) {
			a.fault("I-3", "lease %v of task %v is attempt %d, its next is %d", l.ID, l.Task, l.Attempt, v.attempt(j))
		}
		if len(l.Parents) != len(v.spec.Parents) || !d.parentsStand(l) {
			a.fault("I-12", "lease %v of task %v reads attempts that do not count", l.ID, l.Task)
		}
		if l.ID.IsZero() || l.ID.Index > r.index {
			a.fault("I-3", "lease %v of task %v was never granted", l.ID, l.Task)
		}
		return true
	})
}

// order checks the states of a task against its parents, its leases and its
// accepted attempts.
func (a *audit) order(d *dataset, t int, sets []vertexSets) {
	s := &sets[t]
	for _, p := range d.tasks[t].spec.Parents {
		s.ready = roaring.And(s.ready, sets[p].finished)
		a.within("I-12", d, t, s.in[protocol.TaskQueued], sets[p].accepted, "is queued without the accepted attempt of a parent")
	}
	if s.in[protocol.TaskWaiting].Intersects(s.ready) {
		a.none("I-5", d, t, roaring.And(s.in[protocol.TaskWaiting], s.ready), "waits though all its parents are finished")
	}
	for _, state := range protocol.TaskStates {
		if state != protocol.TaskWaiting && state != protocol.TaskSuspended {
			a.within("I-12", d, t, s.in[state], s.ready, "is "+state.String()+" though a parent is unfinished")
		}
	}
	a.same("I-5", d, t, s.in[protocol.TaskProcessing], s.leased[Live], "is processing without a live lease, or leased without processing")
	a.same("I-5", d, t, s.in[protocol.TaskCopied], s.leased[Copied], "is copied without its lease, or has the lease of a copied one")
	a.within("I-5", d, t, s.leased[Lapsed], s.in[protocol.TaskQueued], "has a lapsed lease and is not queued")
	a.within("I-1", d, t, s.accepted, s.finished, "has an accepted attempt and is not finished")
	if ok := d.marks[protocol.JobOK].view(); s.accepted.Intersects(ok) {
		a.none("I-1", d, t, roaring.And(s.accepted, ok), "keeps its accepted attempt though its job is ok")
	}
}

// jobs derives the state of every job from those of its tasks.
func (a *audit) jobs(d *dataset, sets []vertexSets, every *roaring.Bitmap) {
	broken, held, busy, queued, done := roaring.New(), roaring.New(), roaring.New(), roaring.New(), every.Clone()
	for t := range sets {
		in := &sets[t].in
		broken.Or(in[protocol.TaskError])
		held.Or(in[protocol.TaskSuspended])
		busy.Or(in[protocol.TaskProcessing])
		busy.Or(in[protocol.TaskCopied])
		queued.Or(in[protocol.TaskQueued])
		done.And(in[protocol.TaskOK])
	}
	stuck := roaring.AndNot(broken, roaring.Or(busy, queued))
	held.AndNot(broken)
	busy.AndNot(roaring.Or(broken, held))
	for _, c := range []struct {
		marked *bits
		want   *roaring.Bitmap
		what   string
	}{
		{&d.marks[protocol.JobError], broken, "error"},
		{&d.marks[protocol.JobSuspended], held, "suspended"},
		{&d.marks[protocol.JobProcessing], busy, "processing"},
		{&d.marks[protocol.JobOK], done, "ok"},
		{&d.stuck, stuck, "stuck"},
	} {
		if !c.marked.view().Equals(c.want) || c.marked.n != c.want.GetCardinality() {
			wrong := roaring.Xor(c.marked.view(), c.want)
			a.fault("", "dataset %d: %d jobs are marked %s, %d are; wrong are %d, such as %v",
				d.id, c.marked.n, c.what, c.want.GetCardinality(), wrong.GetCardinality(), firstOf(wrong))
		}
	}
	final := stuck.GetCardinality() + done.GetCardinality()
	if (d.finished != 0) != (d.jobs > 0 && final == uint64(d.jobs)) {
		a.fault("", "dataset %d: finished at %d with %d of %d jobs final", d.id, d.finished, final, d.jobs)
	}
}

// firstOf shows the lowest job of a set.
func firstOf(set *roaring.Bitmap) string {
	if set.IsEmpty() {
		return "none"
	}
	return fmt.Sprint(set.Minimum())
}

// AuditIndex compares the index of ready work with the queues it must lead to: a
// task that is queued and cannot be found is stuck. It costs what the queues do,
// whatever their length, and needs the machine as Apply does.
func (m *Machine) AuditIndex() []Violation {
	var a audit
	queued := new(btree.Map[string, uint64]) // by class
	m.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		for t := range d.tasks {
			for i := range d.tasks[t].lanes {
				l := &d.tasks[t].lanes[i]
				if l.ready == nil {
					continue
				}
				n, _ := queued.Get(l.ready.key)
				queued.Set(l.ready.key, n+l.queued.n)
				if known, _ := m.ready.byKey.Get(l.ready.key); known != l.ready {
					a.fault("I-5", "task %d.*.%d: a lane is of a class that is not in the index", d.id, t)
				}
			}
		}
		return true
	})
	active := 0
	m.ready.byKey.Scan(func(key string, c *readyClass) bool {
		if n, _ := queued.Get(key); c.count != n {
			a.fault("I-5", "a class counts %d queued tasks, its lanes hold %d", c.count, n)
		}
		if c.count > 0 {
			active++
		}
		if (c.count > 0) != (c.at >= 0) || c.count > 0 && (c.at >= len(m.ready.active) || m.ready.active[c.at] != c) {
			a.fault("I-5", "a class of %d queued tasks stands at %d of the active ones", c.count, c.at)
		}
		a.ordered(m, c)
		return true
	})
	if active != len(m.ready.active) {
		a.fault("I-5", "%d classes have queued tasks, %d are listed", active, len(m.ready.active))
	}
	return a.found
}

// ordered checks that the lanes a class lists are its own, not empty, and all.
func (a *audit) ordered(m *Machine, c *readyClass) {
	listed := uint64(0)
	c.order.Scan(func(order uint64, ref laneRef) bool {
		d, known := m.datasets.Get(ref.dataset)
		if !known || int(ref.task) >= len(d.tasks) || ref.lane >= len(d.tasks[ref.task].lanes) {
			a.fault("I-5", "lane %+v is indexed and does not exist", ref)
			return true
		}
		l := &d.tasks[ref.task].lanes[ref.lane]
		if l.ready != c || l.queued.n == 0 || order != laneOrder(d, ref.task) {
			a.fault("I-5", "lane %+v stands wrongly in the index", ref)
		}
		listed += l.queued.n
		return true
	})
	if listed != c.count {
		a.fault("I-5", "a class counts %d queued tasks and lists lanes of %d", c.count, listed)
	}
}
