package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

// MaxEnded is how many taken leases are remembered per pilot.
const MaxEnded = 1024

func (p *Pilot) clone() *Pilot {
	c := *p
	c.Leases, c.Ended = slices.Clone(p.Leases), slices.Clone(p.Ended)
	return &c
}

// current returns the current lease of a task.
func (d *dataset) current(j uint32, t protocol.TaskIndex) (*Lease, bool) {
	return d.live.Get(taskKey(j, t))
}

// grant leases a queued task to a pilot. A lapsed lease of the task ends as lost.
func (m *Machine) grant(d *dataset, t protocol.TaskIndex, j uint32, p *Pilot, s *Site, shape uint8, sequence uint64) *Lease {
	v := &d.tasks[t]
	if old, lapsed := d.current(j, t); lapsed {
		m.endAttempt(d, old, protocol.VerdictLost, "claimed by "+string(p.ID), protocol.TaskProcessing)
	}
	l := &Lease{
		ID:      protocol.LeaseID{Index: m.index, Ordinal: m.ordinal},
		Task:    protocol.TaskID{Dataset: d.id, Job: protocol.JobIndex(j), Task: t},
		State:   Live,
		Attempt: v.attempt(j),
		Pilot:   p.ID, Site: p.Site,
		Nonce: m.nonce, Granted: m.time, Wall: m.wall,
		Shape: shape,
	}
	m.ordinal++
	if n := len(v.spec.Parents); n > 0 {
		l.Parents = make([]protocol.LeaseID, n)
		for i, parent := range v.spec.Parents {
			a, known := d.accepted.Get(taskKey(j, parent))
			if !known {
				panic(fmt.Sprintf("state: task %v is queued without the accepted attempt of parent %d", l.Task, parent))
			}
			l.Parents[i] = a.Lease
		}
	}
	if s.Policy.Counts() {
		l.Counted = s.use(d, l)
		s.Use.add(l.Counted, 1)
	}
	d.live.Set(taskKey(j, t), l)
	p.Leases = append(p.Leases, HeldTask{l.ID, l.Task, sequence})
	s.Leases++
	m.leases++
	m.move(d, t, oneJob(j), protocol.TaskQueued, protocol.TaskProcessing, ByGrant)
	m.emit(&LeaseGranted{Lease: l.ID, Task: l.Task, Attempt: l.Attempt, Pilot: l.Pilot, Site: l.Site})
	return l
}

// mark replaces a lease by one in another state.
func (d *dataset) mark(l *Lease, s LeaseState) *Lease {
	c := *l
	c.State = s
	d.live.Set(taskKey(uint32(l.Task.Job), l.Task.Task), &c)
	return &c
}

// forget takes a lease from the record. taken says that its pilot does not know yet.
func (m *Machine) forget(d *dataset, l *Lease, taken bool) {
	d.live.Delete(taskKey(uint32(l.Task.Job), l.Task.Task))
	m.leases--
	s := m.site(l.Site)
	s.Leases--
	if l.Counted != nil && s.Policy.Counts() {
		s.Use.add(l.Counted, -1)
	}
	p := m.pilot(l.Pilot)
	p.Leases = slices.DeleteFunc(p.Leases, func(h HeldTask) bool { return h.Lease == l.ID })
	if m.nodes.Len() > 0 {
		m.canaryEnded(l, p.Host)
	}
	if taken {
		if len(p.Ended) == MaxEnded {
			p.Ended = p.Ended[1:] // append moves the rest once in a while, not each time
		}
		// What a copied attempt used was counted when its report was accepted.
		p.Ended = append(p.Ended, EndedLease{Lease: l.ID, Counted: l.State == Copied})
	}
}

// endAttempt ends a lease without its pilot's report. next is the state its task
// goes to, for history; the caller moves it.
func (m *Machine) endAttempt(d *dataset, l *Lease, verdict protocol.Verdict, evidence string, next protocol.TaskState) {
	m.forget(d, l, true)
	if l.State == Copied {
		return // it has ended already: its report was accepted
	}
	d.tasks[l.Task.Task].counts[countEnded].add(m.gen, uint32(l.Task.Job))
	m.emit(&AttemptEnded{
		Lease: l.ID, Task: l.Task, Attempt: l.Attempt, Pilot: l.Pilot, Site: l.Site,
		Host: m.pilot(l.Pilot).Host, Verdict: verdict, Evidence: evidence, Next: next,
		Granted: l.Granted, GrantedWall: l.Wall,
	})
}

// leave ends a lease because its pilot did, and lets the task go on.
func (m *Machine) leave(d *dataset, l *Lease, verdict protocol.Verdict, reason string) {
	j := uint32(l.Task.Job)
	switch l.State {
	case Copied:
		m.forget(d, l, false) // to its pilot, it was accepted
		m.clean(d, l, true, ByLeave)
	case Lapsed: // its task is queued
		m.endAttempt(d, l, verdict, reason, protocol.TaskQueued)
	case Live:
		m.endAttempt(d, l, verdict, reason, protocol.TaskQueued)
		m.move(d, l.Task.Task, oneJob(j), protocol.TaskProcessing, protocol.TaskQueued, ByLeave)
	}
	m.settle(d, j)
}

// lapse lets the task of a silent lease be pulled, while the lease stays current
// until somebody does.
func (m *Machine) lapse(d *dataset, l *Lease) {
	t, j := l.Task.Task, uint32(l.Task.Job)
	switch {
	case l.State == Copied:
		m.forget(d, l, false) // to its pilot, it was accepted
		m.clean(d, l, true, ByLapse)
	case l.State == Lapsed:
		return
	case m.chargeLoss(d, l):
		why := "silent, and the budget for lost attempts is spent"
		if d.crashes(t, j) {
			why = fmt.Sprintf("silent; lost %d times in a row and on different nodes: it may be what brings its pilots down", d.tasks[t].counts[countLost].get(j))
		}
		m.endAttempt(d, l, protocol.VerdictLost, why, protocol.TaskError)
		m.move(d, t, oneJob(j), protocol.TaskProcessing, protocol.TaskError, ByLapse)
	default:
		d.mark(l, Lapsed)
		if m.nodes.Len() > 0 {
			m.canaryEnded(l, m.pilot(l.Pilot).Host) // the node may have another
		}
		m.emit(&LeaseLapsed{Lease: l.ID, Task: l.Task, Pilot: l.Pilot})
		m.move(d, t, oneJob(j), protocol.TaskProcessing, protocol.TaskQueued, ByLapse)
	}
	m.settle(d, j)
}

// clean moves a copied task to ok.
func (m *Machine) clean(d *dataset, l *Lease, uncleaned bool, by Cause) {
	m.emit(&AttemptCleaned{Lease: l.ID, Task: l.Task, Uncleaned: uncleaned})
	m.move(d, l.Task.Task, oneJob(uint32(l.Task.Job)), protocol.TaskCopied, protocol.TaskOK, by)
}

// leaseOf finds a current lease by its id and task.
func (m *Machine) leaseOf(id protocol.LeaseID, t protocol.TaskID) (*dataset, *Lease, Answer) {
	d := m.dataset(t.Dataset)
	if d == nil || uint32(t.Job) >= d.jobs || int(t.Task) >= len(d.tasks) {
		return nil, nil, refuse(protocol.CodeNotFound, fmt.Sprintf("no task %v", t))
	}
	l, current := d.current(uint32(t.Job), t.Task)
	if !current || l.ID != id {
		return d, nil, refuse(protocol.CodeStale, fmt.Sprintf("lease %v is not the current one of task %v", id, t))
	}
	return d, l, Answer{}
}

func (e *Expire) apply(m *Machine) Answer {
	if e.Term != m.term {
		return refuse(protocol.CodeStale, "expiry was decided in another term")
	}
	d, l, a := m.leaseOf(e.Lease, e.Task)
	if l == nil {
		return a
	}
	if e.Saved != nil && l.State == Live {
		d.keepSaved(l, protocol.VerdictLost, e.Saved)
	}
	m.lapse(d, l)
	return Answer{}
}

func (r *Revive) apply(m *Machine) Answer {
	d, l, a := m.leaseOf(r.Lease, r.Task)
	if l == nil {
		return a
	}
	if l.State != Lapsed {
		return Answer{Reason: "had not lapsed"}
	}
	if p, _ := m.pilots.Get(l.Pilot); p.Left > 0 {
		return refuse(protocol.CodeStale, fmt.Sprintf("pilot %s has left", l.Pilot))
	}
	m.revive(d, l)
	m.settle(d, uint32(l.Task.Job))
	return Answer{}
}

// revive makes a lapsed lease live and takes back the charge for losing it.
func (m *Machine) revive(d *dataset, l *Lease) *Lease {
	t, j := l.Task.Task, uint32(l.Task.Job)
	m.unchargeLoss(d, l)
	l = d.mark(l, Live)
	m.emit(&LeaseRevived{Lease: l.ID, Task: l.Task, Pilot: l.Pilot})
	m.move(d, t, oneJob(j), protocol.TaskQueued, protocol.TaskProcessing, ByRevive)
	return l
}
