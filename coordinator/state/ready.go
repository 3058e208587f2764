package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/tidwall/btree"

	"floe/protocol"
)

// ready indexes queued work by requirement class, so that a pull looks at classes
// and never at tasks. It is derived: restoring a snapshot rebuilds it.
type ready struct {
	byKey  *btree.Map[string, *readyClass]
	active []*readyClass // those with queued tasks, in no order that matters
}

// readyClass gathers the lanes of all datasets that ask for the same at the same
// sites.
type readyClass struct {
	key          string
	demand       string // key without Twin: equal where the same pilots fit
	requirements protocol.Requirements
	sites        SiteRule
	lanes        int // linked
	at           int // place in active, -1 when not there
	// order holds the lanes that are not empty by laneOrder.
	order btree.Map[uint64, laneRef]
	count uint64 // queued tasks
}

// laneRef names a lane. Datasets are copied on write, so it is no pointer.
type laneRef struct {
	dataset protocol.DatasetID
	task    protocol.TaskIndex
	lane    int
}

// release counts the tasks that one entry let be pulled.
type release struct {
	ref   laneRef
	class *readyClass
	count uint64
}

func newReady() ready { return ready{byKey: new(btree.Map[string, *readyClass])} }

// priorityShift is where the priority stands in the order of lanes.
const priorityShift = 56

// laneOrder is the order in which lanes are served, smallest first: priority,
// then finishing jobs before beginning new ones, then older datasets, then the
// order of the steering file.
func laneOrder(d *dataset, t protocol.TaskIndex) uint64 {
	return uint64(MaxPriority-d.priority)<<priorityShift |
		uint64(protocol.MaxTasks-1-d.tasks[t].depth)<<44 |
		uint64(d.id)<<12 | uint64(t)
}

// readyKey is equal for lanes that the same pilots may pull.
type readyKey struct {
	Requirements protocol.Requirements `cbor:"1,keyasint"`
	Sites        SiteRule              `cbor:"2,keyasint"`
	// Twin tells apart lanes of one task that came to ask for the same.
	Twin int `cbor:"3,keyasint"`
}

// link puts a lane into the index. Lanes of a held dataset stay outside.
func (m *Machine) link(d *dataset, t protocol.TaskIndex, i int) {
	v := &d.tasks[t]
	l := &v.lanes[i]
	if d.held() || l.ready != nil {
		return
	}
	key := readyKey{raise(&v.classes[l.class].requirements, l.steps), d.sites, 0}
	var c *readyClass
	for demand := ""; ; {
		b, err := protocol.Marshal(&key)
		if err != nil {
			panic("state: requirements cannot be encoded: " + err.Error())
		}
		if key.Twin == 0 {
			demand = string(b)
		}
		known := false
		if c, known = m.ready.byKey.Get(string(b)); !known {
			c = &readyClass{key: string(b), demand: demand, requirements: key.Requirements, sites: key.Sites, at: -1}
			m.ready.byKey.Set(c.key, c)
		}
		if !slices.ContainsFunc(v.lanes, func(o lane) bool { return o.ready == c }) {
			break
		}
		key.Twin++
	}
	c.lanes++
	l.ready = c
	if l.queued.n > 0 {
		m.ready.fill(c, d, t, i, l.queued.n)
		m.noteReleased(laneRef{d.id, t, i}, c, l.queued.n)
	}
}

// unlink takes a lane out of the index.
func (m *Machine) unlink(d *dataset, t protocol.TaskIndex, i int) {
	l := &d.tasks[t].lanes[i]
	c := l.ready
	if c == nil {
		return
	}
	if l.queued.n > 0 {
		m.ready.drain(c, d, t, l.queued.n, true)
	}
	l.ready = nil
	if c.lanes--; c.lanes == 0 {
		m.ready.byKey.Delete(c.key)
	}
}

// relink runs change, which may alter a dataset's priority, sites or hold.
func (m *Machine) relink(d *dataset, change func()) {
	for t := range d.tasks {
		for i := range d.tasks[t].lanes {
			m.unlink(d, protocol.TaskIndex(t), i)
		}
	}
	change()
	for t := range d.tasks {
		for i := range d.tasks[t].lanes {
			m.link(d, protocol.TaskIndex(t), i)
		}
	}
}

// fill notes n more queued tasks of a lane.
func (r *ready) fill(c *readyClass, d *dataset, t protocol.TaskIndex, lane int, n uint64) {
	if d.tasks[t].lanes[lane].queued.n == n { // it was empty
		c.order.Set(laneOrder(d, t), laneRef{d.id, t, lane})
	}
	if c.count += n; c.at < 0 {
		c.at = len(r.active)
		r.active = append(r.active, c)
	}
}

// drain notes n fewer queued tasks of a lane, which may now be empty.
func (r *ready) drain(c *readyClass, d *dataset, t protocol.TaskIndex, n uint64, empty bool) {
	if empty {
		c.order.Delete(laneOrder(d, t))
	}
	if c.count -= n; c.count == 0 {
		last := r.active[len(r.active)-1]
		r.active[c.at], last.at = last, c.at
		r.active[len(r.active)-1] = nil
		r.active = r.active[:len(r.active)-1]
		c.at = -1
	}
}

// best returns the lane to serve next for a pilot at a site, and the shape of its
// requirements that fits. The site's own groups may come first.
func (m *Machine) best(s *Site, free *protocol.Resources) (ref laneRef, shape uint8, found bool) {
	for _, w := range s.choices() {
		if ref, shape, found = m.bestOf(s, free, w); found {
			break
		}
	}
	return ref, shape, found
}

// bestOf is best for part of the work. A pilot with a card that is free is given what
// uses it before other tasks of the same priority: cores there are everywhere.
func (m *Machine) bestOf(s *Site, free *protocol.Resources, w choice) (ref laneRef, shape uint8, found bool) {
	order, ref, shape, found := m.leastOf(s, free, w, false)
	if found && slices.ContainsFunc(free.GPUs, func(g protocol.GPU) bool { return g.Tested }) {
		if other, r, x, some := m.leastOf(s, free, w, true); some && other>>priorityShift == order>>priorityShift {
			return r, x, true
		}
	}
	return ref, shape, found
}

// leastOf returns the first lane that fits, of all or of those that would use a card.
func (m *Machine) leastOf(s *Site, free *protocol.Resources, w choice, card bool) (least uint64, ref laneRef, shape uint8, found bool) {
	for _, c := range m.ready.active {
		order, r, some := m.first(c, s, w)
		if !some || found && (order > least || order == least && !m.earlier(r, ref)) {
			continue
		}
		if lack, x := s.fits(&c.requirements, &c.sites, free, m.time); lack == LackNothing && (!card || shapeOf(&c.requirements, x).GPUs > 0) {
			least, ref, shape, found = order, r, x, true
		}
	}
	return least, ref, shape, found
}

// shapeOf returns requirements in one of their shapes.
func shapeOf(r *protocol.Requirements, shape uint8) *protocol.Requirements {
	if shape > 0 {
		return &r.Alternatives[shape-1]
	}
	return r
}

// earlier orders two lanes of the same task.
func (m *Machine) earlier(a, b laneRef) bool {
	d, _ := m.datasets.Get(a.dataset)
	return d.tasks[a.task].lanes[a.lane].compare(&d.tasks[b.task].lanes[b.lane]) < 0
}

func (l *lane) compare(o *lane) int {
	if l.class != o.class {
		return int(l.class) - int(o.class)
	}
	return slices.Compare(l.steps[:], o.steps[:])
}

// laneFor returns the lane of a class and its raises, making it where there is none.
func (m *Machine) laneFor(d *dataset, t protocol.TaskIndex, class int, steps [3]uint8) int {
	v := &d.tasks[t]
	for i := range v.lanes {
		if int(v.lanes[i].class) == class && v.lanes[i].steps == steps {
			return i
		}
	}
	v.lanes = append(v.lanes, lane{class: uint8(class), steps: steps})
	m.link(d, t, len(v.lanes)-1)
	return len(v.lanes) - 1
}

// enqueue puts tasks into the lanes they belong to.
func (m *Machine) enqueue(d *dataset, t protocol.TaskIndex, jobs jobSet) {
	v := &d.tasks[t]
	if jobs.many == nil {
		m.enqueueLane(d, t, m.laneFor(d, t, v.classOf(jobs.one), v.stepsOf(jobs.one)), jobs)
		return
	}
	raised := roaring.FastOr(v.counts[countMemory].any(), v.counts[countWalltime].any(), v.counts[countDisk].any())
	raised.And(jobs.many)
	each(raised, func(j uint32) bool {
		m.enqueue(d, t, oneJob(j))
		return true
	})
	plain := roaring.AndNot(jobs.many, raised)
	for i := range v.classes {
		part := plain
		if !v.classes[i].open {
			part = roaring.And(plain, v.classes[i].jobs.view())
		}
		if !part.IsEmpty() {
			m.enqueueLane(d, t, m.laneFor(d, t, i, [3]uint8{}), manyJobs(part))
		}
	}
}

func (m *Machine) enqueueLane(d *dataset, t protocol.TaskIndex, i int, jobs jobSet) {
	l := &d.tasks[t].lanes[i]
	before := l.queued.n
	l.queued.put(m.gen, jobs)
	if n := l.queued.n - before; n > 0 && l.ready != nil {
		m.ready.fill(l.ready, d, t, i, n)
		m.noteReleased(laneRef{d.id, t, i}, l.ready, n)
	}
}

// dequeue takes tasks out of their lanes and tells whether all were queued.
func (m *Machine) dequeue(d *dataset, t protocol.TaskIndex, jobs jobSet) bool {
	want := uint64(1)
	if jobs.many != nil {
		want = jobs.many.GetCardinality()
	}
	lanes := d.tasks[t].lanes
	for i := range lanes {
		l := &lanes[i]
		before := l.queued.n
		l.queued.drop(m.gen, jobs)
		n := before - l.queued.n
		if n > 0 && l.ready != nil {
			m.ready.drain(l.ready, d, t, n, l.queued.n == 0)
		}
		if want -= n; want == 0 {
			return true
		}
	}
	return want == 0
}

// noteReleased gathers releases, so that an entry announces each lane once.
func (m *Machine) noteReleased(ref laneRef, c *readyClass, n uint64) {
	for i := len(m.released) - 1; i >= max(0, len(m.released)-8); i-- {
		if r := &m.released[i]; r.ref == ref && r.class == c {
			r.count += n
			return
		}
	}
	m.released = append(m.released, release{ref, c, n})
}

// announceReleased emits what was gathered. Lanes and classes of a restored
// machine may have come about in another order, so the order is made here.
func (m *Machine) announceReleased() {
	if len(m.released) == 0 {
		return
	}
	order := func(a, b release) int {
		if c := cmp.Or(cmp.Compare(a.ref.dataset, b.ref.dataset), cmp.Compare(a.ref.task, b.ref.task)); c != 0 {
			return c
		}
		d, _ := m.datasets.Get(a.ref.dataset)
		lanes := d.tasks[a.ref.task].lanes
		return cmp.Or(lanes[a.ref.lane].compare(&lanes[b.ref.lane]), strings.Compare(a.class.demand, b.class.demand))
	}
	slices.SortFunc(m.released, order)
	for i := 0; i < len(m.released); {
		r := m.released[i]
		for i++; i < len(m.released) && order(r, m.released[i]) == 0; i++ {
			r.count += m.released[i].count
		}
		m.emit(&TasksReleased{
			Dataset: r.ref.dataset, Task: r.ref.task, Count: r.count,
			Requirements: r.class.requirements, Sites: r.class.sites,
		})
	}
	clear(m.released)
}
