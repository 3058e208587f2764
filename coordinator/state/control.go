package state

import (
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// find resolves a selection's dataset, or tells why not.
func (r *Record) find(s *Selection) (*dataset, Answer) {
	d, known := r.datasets.Get(s.Dataset)
	if !known {
		return nil, refuse(protocol.CodeNotFound, "no "+datasetObject(s.Dataset))
	}
	for _, t := range s.Tasks {
		if int(t) >= len(d.tasks) {
			return nil, refuse(protocol.CodeNotFound, fmt.Sprintf("dataset %d has no task %d", d.id, t))
		}
	}
	return d, Answer{}
}

// selected returns, per task of the DAG, the jobs that a selection names, cut to
// the states that an action can move.
func (d *dataset) selected(s *Selection, able, standard []protocol.TaskState) []*roaring.Bitmap {
	states := s.statesOr(standard)
	var jobs *roaring.Bitmap
	if len(s.Jobs) > 0 {
		jobs = setOf(s.Jobs, d.jobs)
	}
	chosen := make([]*roaring.Bitmap, len(d.tasks))
	for t := range d.tasks {
		chosen[t] = roaring.New()
		if len(s.Tasks) > 0 && !slices.Contains(s.Tasks, protocol.TaskIndex(t)) {
			continue
		}
		for _, st := range states {
			if slices.Contains(able, st) {
				chosen[t].Or(d.tasks[t].set(st, d.jobs))
			}
		}
		if jobs != nil {
			chosen[t].And(jobs)
		}
	}
	return chosen
}

func (s *Selection) statesOr(standard []protocol.TaskState) []protocol.TaskState {
	if len(s.States) == 0 {
		return standard
	}
	return s.States
}

// States that each action can move. A task that waits has nothing to reset, nor
// has a queued one without a lapsed lease.
var (
	resettable = []protocol.TaskState{
		protocol.TaskProcessing, protocol.TaskCopied, protocol.TaskOK, protocol.TaskError, protocol.TaskSuspended,
	}
	suspendable = []protocol.TaskState{
		protocol.TaskWaiting, protocol.TaskQueued, protocol.TaskProcessing, protocol.TaskError,
	}
	resumable = []protocol.TaskState{protocol.TaskSuspended}
)

// resetPlan is what a reset will do, per task of the DAG.
type resetPlan struct {
	chosen    []*roaring.Bitmap // selected, and ancestors in finished jobs
	below     []*roaring.Bitmap // descendants of what is withdrawn
	withdrawn []*roaring.Bitmap // accepted attempts that will not count any more
	leased    []*roaring.Bitmap // live and lapsed leases
	selected  uint64
}

func (d *dataset) planReset(s *Selection) *resetPlan {
	n := len(d.tasks)
	standard := []protocol.TaskState{protocol.TaskError}
	p := &resetPlan{
		chosen:    d.selected(s, resettable, standard),
		below:     make([]*roaring.Bitmap, n),
		withdrawn: make([]*roaring.Bitmap, n),
		leased:    d.leased(),
	}
	if states := s.statesOr(standard); slices.Contains(states, protocol.TaskProcessing) || slices.Contains(states, protocol.TaskQueued) {
		// To people a lapsed lease may look like one that runs: a reset ends it, too.
		queued := []protocol.TaskState{protocol.TaskQueued}
		for t, jobs := range d.selected(&Selection{Jobs: s.Jobs, Tasks: s.Tasks}, queued, queued) {
			p.chosen[t].Or(roaring.And(jobs, p.leased[t]))
		}
	}
	for t := range p.chosen {
		p.selected += p.chosen[t].GetCardinality()
	}
	// What tasks of a finished job passed on is gone. There, all that a task needs
	// runs again with it, and then all that hangs on that.
	gone := roaring.Or(d.marks[protocol.JobOK].view(), d.reopened.view())
	for before := uint64(0); ; {
		for t := n - 1; t >= 0; t-- {
			again := p.chosen[t]
			if p.below[t] != nil {
				again = roaring.Or(again, p.below[t])
			}
			again = roaring.And(again, gone)
			for _, parent := range d.tasks[t].spec.Parents {
				p.chosen[parent].Or(roaring.And(again, d.tasks[parent].finishedJobs()))
			}
		}
		for t := range n {
			d.planBelow(p, t)
		}
		c := p.count()
		if c.Tasks == before || gone.IsEmpty() {
			return p
		}
		before = c.Tasks
	}
}

// planBelow adds what hangs on withdrawn attempts to the plan of a task.
func (d *dataset) planBelow(p *resetPlan, t int) {
	v := &d.tasks[t]
	above := roaring.New()
	for _, parent := range v.spec.Parents {
		above.Or(p.withdrawn[parent])
	}
	// A child that waits or is suspended has nothing that hangs on its parent.
	if !above.IsEmpty() {
		above.AndNot(v.set(protocol.TaskWaiting, d.jobs))
		above.AndNot(v.in[protocol.TaskSuspended].view())
	}
	p.below[t] = above
	p.withdrawn[t] = v.finishedJobs()
	p.withdrawn[t].And(roaring.Or(above, p.chosen[t]))
}

// count says what the plan will move.
func (p *resetPlan) count() Moved {
	var c Moved
	for t := range p.chosen {
		all := roaring.Or(p.chosen[t], p.below[t])
		c.Tasks += all.GetCardinality()
		c.Accepted += p.withdrawn[t].GetCardinality()
		c.Leases += all.AndCardinality(p.leased[t])
	}
	c.Relatives = c.Tasks - p.selected
	return c
}

func (r *ResetTasks) apply(m *Machine) Answer {
	d, refused := m.find(&r.Select)
	if d == nil {
		return refused
	}
	if d.retired {
		return refuse(protocol.CodeConflict, datasetObject(d.id)+" is retired")
	}
	p := d.planReset(&r.Select)
	moved := p.count()
	if moved.Tasks == 0 {
		return Answer{Reason: "nothing to reset"}
	}
	d = m.dataset(d.id)
	for t := range d.tasks {
		d.reopened.addAll(m.gen, roaring.And(p.withdrawn[t], d.marks[protocol.JobOK].view()))
	}
	for t := range d.tasks {
		m.resetTask(d, protocol.TaskIndex(t), p)
	}
	m.settleAll(d)
	return Answer{Moved: moved}
}

// resetTask carries out a plan for one task of the DAG. Its parents were reset before.
func (m *Machine) resetTask(d *dataset, t protocol.TaskIndex, p *resetPlan) {
	v := &d.tasks[t]
	chosen := roaring.AndNot(p.chosen[t], p.below[t]) // a relative's fate is decided by its parents
	ready := d.readyJobs(t)
	// The sets change under the moves, so they are taken first.
	var from [protocol.TaskSuspended + 1]*roaring.Bitmap
	for _, st := range protocol.TaskStates[1:] {
		from[st] = roaring.And(v.set(st, d.jobs), roaring.Or(chosen, p.below[t]))
	}
	m.endAll(d, t, chosen, "reset", protocol.TaskQueued)
	m.endAll(d, t, p.below[t], "an ancestor was reset", protocol.TaskWaiting)
	m.withdrawAll(d, t, p.withdrawn[t])
	m.clearBudgets(d, t, manyJobs(roaring.Or(p.chosen[t], p.below[t])))
	for _, st := range protocol.TaskStates[1:] {
		m.moveMany(d, t, roaring.And(from[st], p.below[t]), st, protocol.TaskWaiting, ByAncestor)
		stay := roaring.And(from[st], chosen)
		m.moveMany(d, t, roaring.And(stay, ready), st, protocol.TaskQueued, ByReset)
		m.moveMany(d, t, roaring.AndNot(stay, ready), st, protocol.TaskWaiting, ByReset)
	}
	m.emitMoved(d, t, ByReset, chosen)
	m.emitMoved(d, t, ByAncestor, p.below[t])
}

// readyJobs returns the jobs in which all parents of a task are copied or ok.
func (d *dataset) readyJobs(t protocol.TaskIndex) *roaring.Bitmap {
	ready := roaring.New()
	ready.AddRange(0, uint64(d.jobs))
	for _, parent := range d.tasks[t].spec.Parents {
		ready.And(d.tasks[parent].finishedJobs())
	}
	return ready
}

func (m *Machine) moveMany(d *dataset, t protocol.TaskIndex, jobs *roaring.Bitmap, from, to protocol.TaskState, by Cause) {
	if !jobs.IsEmpty() {
		m.move(d, t, manyJobs(jobs), from, to, by)
	}
}

// endAll ends every current lease of a task in these jobs.
func (m *Machine) endAll(d *dataset, t protocol.TaskIndex, jobs *roaring.Bitmap, reason string, next protocol.TaskState) {
	if jobs.IsEmpty() {
		return
	}
	var ending []*Lease
	d.live.Scan(func(_ uint64, l *Lease) bool {
		if l.Task.Task == t && jobs.Contains(uint32(l.Task.Job)) {
			ending = append(ending, l)
		}
		return true
	})
	for _, l := range ending {
		m.endAttempt(d, l, protocol.VerdictWithdrawn, reason, next)
	}
}

// withdrawAll takes back accepted attempts.
func (m *Machine) withdrawAll(d *dataset, t protocol.TaskIndex, jobs *roaring.Bitmap) {
	if jobs.IsEmpty() {
		return
	}
	d.tasks[t].counts[countEnded].addAll(m.gen, jobs)
	var gone []uint64
	d.accepted.Scan(func(key uint64, _ *accepted) bool {
		if protocol.TaskIndex(key&0xffff) == t && jobs.Contains(uint32(key>>16)) {
			gone = append(gone, key)
		}
		return true
	})
	for _, key := range gone {
		d.accepted.Delete(key)
	}
	for part := range slices.Chunk(rangesOf(jobs), MaxEventRanges) {
		m.emit(&AttemptsWithdrawn{Dataset: d.id, Task: t, Jobs: part})
	}
}

func (m *Machine) emitMoved(d *dataset, t protocol.TaskIndex, by Cause, jobs *roaring.Bitmap) {
	for part := range slices.Chunk(rangesOf(jobs), MaxEventRanges) {
		m.emit(&TasksMoved{Dataset: d.id, Task: t, By: by, Jobs: part})
	}
}

func (s *SuspendTasks) apply(m *Machine) Answer {
	d, refused := m.find(&s.Select)
	if d == nil {
		return refused
	}
	return Answer{Moved: m.suspendTasks(m.dataset(d.id), &s.Select)}
}

func (m *Machine) suspendTasks(d *dataset, s *Selection) Moved {
	chosen := d.selected(s, suspendable, suspendable)
	moved := d.count(chosen)
	for t, jobs := range chosen {
		if jobs.IsEmpty() {
			continue
		}
		index := protocol.TaskIndex(t)
		v := &d.tasks[t]
		m.endAll(d, index, jobs, "suspended", protocol.TaskSuspended)
		for _, st := range suspendable {
			m.moveMany(d, index, roaring.And(jobs, v.set(st, d.jobs)), st, protocol.TaskSuspended, BySuspend)
		}
		m.emitMoved(d, index, BySuspend, jobs)
	}
	if moved.Tasks > 0 {
		m.settleAll(d)
	}
	return moved
}

func (r *ResumeTasks) apply(m *Machine) Answer {
	d, refused := m.find(&r.Select)
	if d == nil {
		return refused
	}
	if d.retired {
		return refuse(protocol.CodeConflict, datasetObject(d.id)+" is retired")
	}
	d = m.dataset(d.id)
	chosen := d.selected(&r.Select, resumable, resumable)
	moved := d.count(chosen)
	for t, jobs := range chosen {
		if jobs.IsEmpty() {
			continue
		}
		index := protocol.TaskIndex(t)
		ready := d.readyJobs(index)
		m.moveMany(d, index, roaring.And(jobs, ready), protocol.TaskSuspended, protocol.TaskQueued, ByResume)
		m.moveMany(d, index, roaring.AndNot(jobs, ready), protocol.TaskSuspended, protocol.TaskWaiting, ByResume)
		m.emitMoved(d, index, ByResume, jobs)
	}
	if moved.Tasks > 0 {
		m.settleAll(d)
	}
	return Answer{Moved: moved}
}
