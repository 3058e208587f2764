package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

// apply accepts the report of a current lease, also of a lapsed one whose task
// nobody has claimed. A lease that is no longer current was either taken from
// the pilot, which the pilot's record remembers: the report is stale; or it
// ended by this very report before: it is answered OK again.
func (r *Report) apply(m *Machine) Answer {
	p := m.pilot(r.Pilot)
	if p == nil {
		return refuse(protocol.CodeStale, fmt.Sprintf("pilot %s is not known", r.Pilot))
	}
	d, l, a := m.leaseOf(r.Lease, r.Task)
	switch {
	case d == nil:
		return a
	case l == nil:
		return m.lateReport(p, r)
	case l.Pilot != r.Pilot:
		return refuse(protocol.CodeBadRequest, fmt.Sprintf("lease %v is not held by pilot %s", r.Lease, r.Pilot))
	case l.State == Copied && r.Verdict == protocol.VerdictOK && r.Cleaned:
		m.forget(d, l, false)
		m.clean(d, l, false, ByCleaned)
		m.settle(d, uint32(l.Task.Job))
		return Answer{}
	case l.State == Copied:
		return Answer{Reason: "accepted before"}
	case l.State == Lapsed:
		l = m.revive(d, l)
	}
	if !d.parentsStand(l) {
		panic(fmt.Sprintf("state: lease %v outlived an attempt that it reads", l.ID))
	}
	if r.Verdict == protocol.VerdictOK {
		m.accept(d, l, r)
	} else {
		m.fail(d, l, r, p.Host)
	}
	return Answer{}
}

// lateReport answers a report whose lease is not current.
func (m *Machine) lateReport(p *Pilot, r *Report) Answer {
	if slices.ContainsFunc(p.Leases, func(h HeldTask) bool { return h.Lease == r.Lease }) {
		return refuse(protocol.CodeBadRequest, fmt.Sprintf("lease %v is not for task %v", r.Lease, r.Task))
	}
	i := slices.IndexFunc(p.Ended, func(e EndedLease) bool { return e.Lease == r.Lease })
	if i < 0 {
		if r.Lease.Index > m.index {
			return refuse(protocol.CodeBadRequest, fmt.Sprintf("lease %v was never granted", r.Lease))
		}
		return Answer{Reason: "reported before"}
	}
	if !p.Ended[i].Counted {
		p.Ended[i].Counted = true
		m.emit(&UsageWasted{Lease: r.Lease, Task: r.Task, Pilot: p.ID, Site: p.Site, Usage: r.Usage})
	}
	return refuse(protocol.CodeStale, fmt.Sprintf("lease %v had ended before its report came", r.Lease))
}

// parentsStand tells whether the attempts that a lease reads are still those that
// count. Withdrawing one ends the leases of its descendants, so they always are.
func (d *dataset) parentsStand(l *Lease) bool {
	for i, parent := range d.tasks[l.Task.Task].spec.Parents {
		a, known := d.accepted.Get(taskKey(uint32(l.Task.Job), parent))
		if !known || a.Lease != l.Parents[i] {
			return false
		}
	}
	return true
}

// reportEvent is the history of an attempt that ended by its report.
func reportEvent(l *Lease, r *Report, host string, next protocol.TaskState) *AttemptEnded {
	if r.Host != "" {
		host = r.Host
	}
	return &AttemptEnded{
		Lease: l.ID, Task: l.Task, Attempt: l.Attempt, Pilot: l.Pilot, Site: l.Site, Host: host,
		Verdict: r.Verdict, Evidence: r.Evidence, ExitCode: r.ExitCode, Signal: r.Signal,
		Next: next, Usage: r.Usage, Statistics: r.Statistics, Outputs: r.Outputs, Modules: r.Modules, Log: r.Log,
		Granted: l.Granted, GrantedWall: l.Wall, StartedUnix: r.StartedUnix, EndedUnix: r.EndedUnix,
	}
}

// accept makes an attempt the one that counts and lets the children go on.
func (m *Machine) accept(d *dataset, l *Lease, r *Report) {
	t, j := l.Task.Task, uint32(l.Task.Job)
	v := &d.tasks[t]
	next := protocol.TaskCopied
	if r.Cleaned {
		next = protocol.TaskOK
	}
	host := m.pilot(l.Pilot).Host
	e := reportEvent(l, r, host, next)
	e.Accepted = true
	e.Remove = d.keepSaved(l, r.Verdict, nil)
	m.emit(e)
	v.failing = nil
	if m.nodes.Len() > 0 {
		m.nodeSucceeded(d, l, host)
	}
	if a := v.keep(l.ID, r.Outputs); a != nil {
		d.accepted.Set(taskKey(j, t), a)
	}
	v.counts[countLost].clear(m.gen, oneJob(j))
	forget(d.failedAt, t, oneJob(j))
	forget(d.lostAt, t, oneJob(j))
	if r.Cleaned {
		m.forget(d, l, false)
	} else {
		d.mark(l, Copied)
	}
	m.move(d, t, oneJob(j), protocol.TaskProcessing, next, ByReport)
	for _, child := range v.children {
		if d.tasks[child].taskState(j) == protocol.TaskWaiting && d.parentsFinished(child, j) {
			m.move(d, child, oneJob(j), protocol.TaskWaiting, protocol.TaskQueued, ByParents)
		}
	}
	m.settle(d, j)
}

// keep returns what the record must remember of an accepted attempt until its job
// is ok: all outputs where tasks may read them, else the temp files to remove;
// nil where that is nothing.
func (v *vertex) keep(id protocol.LeaseID, outputs []protocol.FileRecord) *accepted {
	if len(v.children) > 0 {
		return &accepted{id, outputs}
	}
	var kept []protocol.FileRecord
	for _, o := range outputs {
		if isTemp(o.Type) {
			kept = append(kept, o)
		}
	}
	if kept == nil {
		return nil
	}
	return &accepted{id, kept}
}

// fail ends an attempt that did not succeed, as its verdict demands.
func (m *Machine) fail(d *dataset, l *Lease, r *Report, host string) {
	t, j := l.Task.Task, uint32(l.Task.Job)
	v := &d.tasks[t]
	producer, known := protocol.TaskIndex(0), false
	if r.Verdict == protocol.VerdictData && r.BadInput != "" {
		producer, known = d.producer(t, j, r.BadInput)
	}
	next := protocol.TaskQueued
	blamed := m.nodeFailed(d, l, r.Verdict, host, !known)
	known = known && !blamed // what a bad node finds bad may be good
	switch {
	case blamed:
		m.excuse(d, t, j, host)
	case known:
		next = protocol.TaskWaiting // the producer pays
	case m.charge(d, t, j, r.Verdict, host):
		next = protocol.TaskError
	}
	e := reportEvent(l, r, host, next)
	e.Remove = d.keepSaved(l, r.Verdict, savedBy(r.Outputs))
	m.emit(e)
	m.forget(d, l, false)
	v.counts[countEnded].add(m.gen, j)
	if known {
		m.remake(d, producer, j, r)
	} else {
		m.move(d, t, oneJob(j), protocol.TaskProcessing, next, ByFailure)
	}
	m.settle(d, j)
}

// producer finds the ancestor of a task whose accepted attempt made a file.
func (d *dataset) producer(t protocol.TaskIndex, j uint32, name string) (protocol.TaskIndex, bool) {
	for _, a := range d.ancestors(t) {
		if made, kept := d.accepted.Get(taskKey(j, a)); kept {
			for i := range made.Outputs {
				if made.Outputs[i].Name == name {
					return a, true
				}
			}
		}
	}
	return 0, false
}

// ancestors lists the tasks that come before a task in its job's DAG, in order.
func (d *dataset) ancestors(t protocol.TaskIndex) []protocol.TaskIndex {
	before := make([]bool, t+1)
	before[t] = true
	var list []protocol.TaskIndex
	for i := int(t); i >= 0; i-- {
		if !before[i] {
			continue
		}
		for _, p := range d.tasks[i].spec.Parents {
			before[p] = true
		}
		if i != int(t) {
			list = append(list, protocol.TaskIndex(i))
		}
	}
	slices.Reverse(list)
	return list
}

// remake withdraws the attempt that made a bad input and returns everything that
// reads it to waiting. The lease that complained has ended already.
func (m *Machine) remake(d *dataset, producer protocol.TaskIndex, j uint32, r *Report) {
	was := d.tasks[producer].taskState(j)
	next := protocol.TaskQueued
	if m.charge(d, producer, j, protocol.VerdictData, "") {
		next = protocol.TaskError
	}
	m.withdraw(d, producer, j, fmt.Sprintf("task %v found %s missing or damaged", r.Task, r.BadInput), next)
	m.move(d, producer, oneJob(j), was, next, ByBadInput)

	gone := make([]bool, len(d.tasks))
	gone[producer] = true
	for t := int(producer) + 1; t < len(d.tasks); t++ {
		index := protocol.TaskIndex(t)
		if !slices.ContainsFunc(d.tasks[t].spec.Parents, func(p protocol.TaskIndex) bool { return gone[p] }) {
			continue
		}
		s := d.tasks[t].taskState(j)
		if s == protocol.TaskWaiting || s == protocol.TaskSuspended {
			continue // and so are its descendants
		}
		gone[t] = s == protocol.TaskCopied || s == protocol.TaskOK
		m.withdraw(d, index, j, "an input was withdrawn", protocol.TaskWaiting)
		m.move(d, index, oneJob(j), s, protocol.TaskWaiting, ByAncestor)
	}
}

// withdraw ends a task's lease, if it has one, and takes back its accepted
// attempt, if it has one. The caller moves the task.
func (m *Machine) withdraw(d *dataset, t protocol.TaskIndex, j uint32, reason string, next protocol.TaskState) {
	if l, current := d.current(j, t); current {
		m.endAttempt(d, l, protocol.VerdictWithdrawn, reason, next)
	}
	v := &d.tasks[t]
	d.saved.Delete(taskKey(j, t))
	if v.finished(j) {
		d.accepted.Delete(taskKey(j, t))
		v.counts[countEnded].add(m.gen, j)
		at := protocol.JobIndex(j)
		m.emit(&AttemptsWithdrawn{Dataset: d.id, Task: t, Jobs: []protocol.JobRange{{First: at, Last: at}}})
	}
}
