package state

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/tidwall/btree"

	"floe/protocol"
)

// dataset is one dataset in the record. One of an older generation is shared with
// a Frozen: Machine.dataset copies it before a change.
type dataset struct {
	gen       generation
	id        protocol.DatasetID
	facts     *Facts // never changed
	jobs      uint32
	priority  int
	sites     SiteRule
	suspended bool
	retired   bool
	submitted UnixMillis
	finished  UnixMillis // zero while a job is not final

	tasks []vertex

	// marks are the jobs by state; queued jobs are in none. stuck are the jobs in
	// error of which nothing can run by itself: with the ok ones they are final.
	marks [protocol.JobSuspended + 1]bits
	stuck bits
	// reopened are jobs that were ok, so that their temp files are gone, and were
	// reset since.
	reopened bits

	// live, accepted, saved, failedAt and lostAt are keyed by job and task (taskKey).
	live     *btree.Map[uint64, *Lease]    // current attempts
	accepted *btree.Map[uint64, *accepted] // of unfinished jobs, for children
	saved    *btree.Map[uint64, *saved]    // of tasks that are not done, for their next attempts
	failedAt *btree.Map[uint64, []string]  // hosts where attempts failed
	lostAt   *btree.Map[uint64, []string]  // nodes of the losses in a row, newest last
}

// accepted is what children need to know of the attempt that counts.
type accepted struct {
	Lease   protocol.LeaseID      `cbor:"1,keyasint"`
	Outputs []protocol.FileRecord `cbor:"2,keyasint,omitempty"`
}

// vertex is one task of a dataset's DAG in all its jobs.
type vertex struct {
	spec     *TaskSpec // never changed; its Classes are those of the submission
	children []protocol.TaskIndex
	depth    int // length of the longest path from a root

	classes []class
	lanes   []lane
	in      [protocol.TaskSuspended + 1]bits // by state; queued jobs are in lanes, waiting ones nowhere
	counts  [countKinds]counter
	// failing are the last two nodes where tasks failed fast since one succeeded
	// anywhere. Shared: replaced, never changed.
	failing []string
}

// class gives the jobs that ask for the same.
type class struct {
	requirements protocol.Requirements
	jobs         bits
	open         bool // every job, those added later included; jobs is empty
}

// lane is a queue: the queued jobs of one class whose request was raised by the
// same steps.
type lane struct {
	class  uint8
	steps  [3]uint8 // memory, walltime, disk
	queued bits
	ready  *readyClass // where it is indexed; nil while the dataset is held
}

// countKind names one number that is kept per task.
type countKind uint8

// What is counted. The numbers are part of snapshots.
const (
	countEnded    countKind = iota // attempts that ended and do not count; never cleared
	countFailed                    // attempts that failed by whatever fault: the poison count
	countPayload                   // payload verdicts
	countData                      // data verdicts without a known producer
	countLost                      // lost in a row
	countMemory                    // times the memory request was raised
	countWalltime                  // times the walltime request was raised
	countDisk                      // times the disk request was raised
	countKinds
)

func taskKey(j uint32, t protocol.TaskIndex) uint64 { return uint64(j)<<16 | uint64(t) }

func keyTask(d protocol.DatasetID, key uint64) protocol.TaskID {
	return protocol.TaskID{Dataset: d, Job: protocol.JobIndex(key >> 16), Task: protocol.TaskIndex(key & 0xffff)}
}

// clone copies a dataset that a Frozen shares. Bitmaps are copied when first changed.
func (d *dataset) clone(g generation) *dataset {
	c := *d
	c.gen = g
	c.tasks = slices.Clone(d.tasks)
	for i := range c.tasks {
		v := &c.tasks[i]
		v.lanes = slices.Clone(v.lanes)
		v.classes = slices.Clone(v.classes)
		for k := range v.counts {
			v.counts[k].slices = slices.Clone(v.counts[k].slices)
		}
	}
	c.live, c.accepted, c.saved = d.live.Copy(), d.accepted.Copy(), d.saved.Copy()
	c.failedAt, c.lostAt = d.failedAt.Copy(), d.lostAt.Copy()
	return &c
}

func newDataset(g generation, id protocol.DatasetID, facts *Facts, specs []TaskSpec) *dataset {
	d := &dataset{
		gen: g, id: id, facts: facts,
		tasks:    make([]vertex, len(specs)),
		live:     new(btree.Map[uint64, *Lease]),
		accepted: new(btree.Map[uint64, *accepted]),
		saved:    new(btree.Map[uint64, *saved]),
		failedAt: new(btree.Map[uint64, []string]),
		lostAt:   new(btree.Map[uint64, []string]),
	}
	for i := range specs {
		d.tasks[i].spec = &specs[i]
		for _, p := range specs[i].Parents {
			d.tasks[p].children = append(d.tasks[p].children, protocol.TaskIndex(i))
			d.tasks[i].depth = max(d.tasks[i].depth, d.tasks[p].depth+1)
		}
	}
	return d
}

func (d *dataset) held() bool { return d.suspended || d.retired }

// taskState tells where a task stands.
func (v *vertex) taskState(j uint32) protocol.TaskState {
	switch {
	case v.in[protocol.TaskOK].has(j):
		return protocol.TaskOK
	case v.in[protocol.TaskProcessing].has(j):
		return protocol.TaskProcessing
	case v.queued(j):
		return protocol.TaskQueued
	case v.in[protocol.TaskCopied].has(j):
		return protocol.TaskCopied
	case v.in[protocol.TaskError].has(j):
		return protocol.TaskError
	case v.in[protocol.TaskSuspended].has(j):
		return protocol.TaskSuspended
	}
	return protocol.TaskWaiting
}

func (v *vertex) queued(j uint32) bool {
	for i := range v.lanes {
		if v.lanes[i].queued.has(j) {
			return true
		}
	}
	return false
}

// set returns the jobs of a state as a bitmap that the caller must not change.
func (v *vertex) set(s protocol.TaskState, jobs uint32) *roaring.Bitmap {
	switch s {
	case protocol.TaskQueued:
		if len(v.lanes) == 1 {
			return v.lanes[0].queued.view()
		}
		set := roaring.New()
		for i := range v.lanes {
			set.Or(v.lanes[i].queued.view())
		}
		return set
	case protocol.TaskWaiting:
		set := roaring.New()
		set.AddRange(0, uint64(jobs))
		for _, other := range protocol.TaskStates[1:] {
			set.AndNot(v.set(other, jobs))
		}
		return set
	}
	return v.in[s].view()
}

// count returns how many jobs' task is in a state.
func (v *vertex) count(s protocol.TaskState, jobs uint32) uint64 {
	switch s {
	case protocol.TaskQueued:
		n := uint64(0)
		for i := range v.lanes {
			n += v.lanes[i].queued.n
		}
		return n
	case protocol.TaskWaiting:
		n := uint64(jobs)
		for _, other := range protocol.TaskStates[1:] {
			n -= v.count(other, jobs)
		}
		return n
	}
	return v.in[s].n
}

// finished tells whether a task's outputs may be read.
func (v *vertex) finished(j uint32) bool {
	return v.in[protocol.TaskOK].has(j) || v.in[protocol.TaskCopied].has(j)
}

// finishedJobs returns a fresh set of the jobs whose task is finished.
func (v *vertex) finishedJobs() *roaring.Bitmap {
	return roaring.Or(v.in[protocol.TaskOK].view(), v.in[protocol.TaskCopied].view())
}

// parentsFinished tells whether all parents of a task are copied or ok.
func (d *dataset) parentsFinished(t protocol.TaskIndex, j uint32) bool {
	for _, p := range d.tasks[t].spec.Parents {
		if !d.tasks[p].finished(j) {
			return false
		}
	}
	return true
}

// classOf returns the class of a job.
func (v *vertex) classOf(j uint32) int {
	for i := range v.classes {
		if v.classes[i].open || v.classes[i].jobs.has(j) {
			return i
		}
	}
	panic("state: a job is in no requirement class")
}

// stepsOf returns how often each request of a task was raised.
func (v *vertex) stepsOf(j uint32) [3]uint8 {
	return [3]uint8{
		uint8(v.counts[countMemory].get(j)),
		uint8(v.counts[countWalltime].get(j)),
		uint8(v.counts[countDisk].get(j)),
	}
}

// granted returns what a task asks for now, and so what its attempt is given.
func (v *vertex) granted(j uint32, shape uint8) protocol.Requirements {
	r := raise(&v.classes[v.classOf(j)].requirements, v.stepsOf(j))
	if int(shape) > len(r.Alternatives) {
		panic("state: a lease of a shape that its task does not have")
	}
	if shape > 0 {
		return r.Alternatives[shape-1]
	}
	r.Alternatives = nil
	return r
}

// attempt returns the number of a task's next attempt, or of its current one.
func (v *vertex) attempt(j uint32) uint32 { return v.counts[countEnded].get(j) + 1 }

// clearBudgets gives tasks fresh retry budgets, and nothing to go on from. Attempt
// numbers go on.
func (m *Machine) clearBudgets(d *dataset, t protocol.TaskIndex, jobs jobSet) {
	v := &d.tasks[t]
	for k := countFailed; k < countKinds; k++ {
		v.counts[k].clear(m.gen, jobs)
	}
	forget(d.failedAt, t, jobs)
	forget(d.lostAt, t, jobs)
	forget(d.saved, t, jobs)
}

// forget takes what is kept of a task in some jobs from a map by taskKey.
func forget[T any](at *btree.Map[uint64, T], t protocol.TaskIndex, jobs jobSet) {
	if at.Len() == 0 {
		return
	}
	if jobs.many == nil {
		at.Delete(taskKey(jobs.one, t))
		return
	}
	var gone []uint64
	at.Scan(func(key uint64, _ T) bool {
		if protocol.TaskIndex(key&0xffff) == t && jobs.many.Contains(uint32(key>>16)) {
			gone = append(gone, key)
		}
		return true
	})
	for _, key := range gone {
		at.Delete(key)
	}
}
