package state

import (
	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// jobState returns a job's state as marked.
func (d *dataset) jobState(j uint32) protocol.JobState {
	for s := protocol.JobProcessing; s <= protocol.JobSuspended; s++ {
		if d.marks[s].has(j) {
			return s
		}
	}
	return protocol.JobQueued
}

func (d *dataset) jobCount(s protocol.JobState) uint64 {
	if s != protocol.JobQueued {
		return d.marks[s].n
	}
	n := uint64(d.jobs)
	for s := protocol.JobProcessing; s <= protocol.JobSuspended; s++ {
		n -= d.marks[s].n
	}
	return n
}

// final tells whether nothing more happens in a job by itself.
func (d *dataset) final(j uint32) bool { return d.marks[protocol.JobOK].has(j) || d.stuck.has(j) }

// state derives where the dataset stands.
func (d *dataset) state() protocol.DatasetState {
	switch {
	case d.held():
		return protocol.DatasetSuspended
	case d.jobs == 0 || d.marks[protocol.JobOK].n+d.stuck.n < uint64(d.jobs):
		return protocol.DatasetProcessing
	case d.stuck.n > 0:
		return protocol.DatasetErrors
	}
	return protocol.DatasetComplete
}

// judge derives a job's state from those of its tasks.
func (d *dataset) judge(j uint32) (s protocol.JobState, stuck bool) {
	var seen [protocol.TaskSuspended + 1]bool
	for t := range d.tasks {
		seen[d.tasks[t].taskState(j)] = true
	}
	busy := seen[protocol.TaskProcessing] || seen[protocol.TaskCopied]
	switch {
	case seen[protocol.TaskError]:
		return protocol.JobError, !busy && !seen[protocol.TaskQueued]
	case seen[protocol.TaskSuspended]:
		return protocol.JobSuspended, false
	case busy:
		return protocol.JobProcessing, false
	case seen[protocol.TaskWaiting] || seen[protocol.TaskQueued]:
		return protocol.JobQueued, false
	}
	return protocol.JobOK, false
}

// settle brings a job's marks up to date after moves of its tasks.
func (m *Machine) settle(d *dataset, j uint32) {
	was, wasFinal := d.jobState(j), d.final(j)
	s, stuck := d.judge(j)
	if s != was {
		if was != protocol.JobQueued {
			d.marks[was].remove(m.gen, j)
		}
		if s != protocol.JobQueued {
			d.marks[s].add(m.gen, j)
		}
	}
	if stuck {
		d.stuck.add(m.gen, j)
	} else if d.stuck.n > 0 {
		d.stuck.remove(m.gen, j)
	}
	switch final := stuck || s == protocol.JobOK; {
	case final && (!wasFinal || s != was):
		m.finishJob(d, j, s)
		m.finishDataset(d)
	case wasFinal && !final:
		d.finished = 0
	}
}

// remark derives the marks of all jobs from the states of their tasks.
func (d *dataset) remark(g generation) {
	broken, held, busy, queued := roaring.New(), roaring.New(), roaring.New(), roaring.New()
	done := roaring.New()
	done.AddRange(0, uint64(d.jobs))
	for t := range d.tasks {
		v := &d.tasks[t]
		broken.Or(v.set(protocol.TaskError, d.jobs))
		held.Or(v.set(protocol.TaskSuspended, d.jobs))
		busy.Or(v.set(protocol.TaskProcessing, d.jobs))
		busy.Or(v.set(protocol.TaskCopied, d.jobs))
		queued.Or(v.set(protocol.TaskQueued, d.jobs))
		done.And(v.set(protocol.TaskOK, d.jobs))
	}
	stuck := roaring.AndNot(broken, busy)
	stuck.AndNot(queued)
	held.AndNot(broken)
	busy.AndNot(broken)
	busy.AndNot(held)
	d.marks[protocol.JobError].assign(g, broken)
	d.marks[protocol.JobSuspended].assign(g, held)
	d.marks[protocol.JobProcessing].assign(g, busy)
	d.marks[protocol.JobOK].assign(g, done)
	d.stuck.assign(g, stuck)
}

// settleAll brings the marks of all jobs up to date after moves of many tasks.
func (m *Machine) settleAll(d *dataset) {
	before := roaring.Or(d.marks[protocol.JobOK].view(), d.stuck.view())
	d.remark(m.gen)
	after := roaring.Or(d.marks[protocol.JobOK].view(), d.stuck.view())
	if !roaring.AndNot(before, after).IsEmpty() {
		d.finished = 0
	}
	each(roaring.AndNot(after, before), func(j uint32) bool {
		m.finishJob(d, j, d.jobState(j))
		return true
	})
	m.finishDataset(d)
}

// finishJob announces that a job is final. An ok job's outputs and failures are
// forgotten: what is permanent is in history.
func (m *Machine) finishJob(d *dataset, j uint32, s protocol.JobState) {
	if s == protocol.JobOK {
		d.reopened.remove(m.gen, j)
		for t := range d.tasks {
			for _, k := range [...]countKind{countFailed, countPayload, countData, countLost} {
				d.tasks[t].counts[k].clear(m.gen, oneJob(j))
			}
		}
	}
	e := &JobFinished{Dataset: d.id, Job: protocol.JobIndex(j), State: s}
	if s == protocol.JobOK && d.accepted.Len() > 0 {
		keys, temps := m.keys[:0], 0
		d.accepted.Ascend(taskKey(j, 0), func(key uint64, a *accepted) bool {
			if key>>16 != uint64(j) {
				return false
			}
			keys = append(keys, key)
			for i := range a.Outputs {
				if isTemp(a.Outputs[i].Type) {
					temps++
				}
			}
			return true
		})
		if temps > 0 {
			e.Remove = make([]protocol.FileRecord, 0, temps)
		}
		for _, key := range keys {
			a, _ := d.accepted.Delete(key)
			for i := range a.Outputs {
				if isTemp(a.Outputs[i].Type) {
					e.Remove = append(e.Remove, a.Outputs[i])
				}
			}
		}
		m.keys = keys
	}
	m.emit(e)
}

// isTemp tells whether a file goes when its job is ok.
func isTemp(t protocol.FileType) bool { return t == protocol.FileJobTemp || t == protocol.FileTaskTemp }

// finishDataset announces that every job is final, once.
func (m *Machine) finishDataset(d *dataset) {
	if d.finished != 0 || d.jobs == 0 || d.marks[protocol.JobOK].n+d.stuck.n < uint64(d.jobs) {
		return
	}
	d.finished = max(m.wall, 1)
	s := protocol.DatasetComplete
	if d.stuck.n > 0 {
		s = protocol.DatasetErrors
	}
	m.emit(&DatasetFinished{Dataset: d.id, State: s})
}
