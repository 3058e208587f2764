package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

func (a *Acquire) apply(m *Machine) Answer {
	p := m.pilot(a.Pilot)
	switch {
	case p == nil || p.Left > 0:
		return refuse(protocol.CodeUnauthorized, fmt.Sprintf("pilot %s is not enrolled", a.Pilot))
	case p.Revoked:
		return refuse(protocol.CodeForbidden, fmt.Sprintf("pilot %s is revoked", a.Pilot))
	case a.Sequence != 0 && a.Sequence < p.Sequence:
		return refuse(protocol.CodeStale, fmt.Sprintf("exchange %d is over; the last was %d", a.Sequence, p.Sequence))
	}
	if a.Sequence != 0 && a.Sequence == p.Sequence {
		return Answer{Reason: "granted before", Grants: m.grantedBefore(p)}
	}
	s := m.site(p.Site)
	if reason := unserved(p, s, m.time); reason != "" {
		return Answer{Reason: reason}
	}

	free := bound(&a.Free, p, s, m.time)
	standing := m.cleared(p, &free)
	if standing.barred != "" {
		return Answer{Reason: standing.barred}
	}
	room := protocol.MaxHeld - len(p.Leases)
	want := min(int(a.Want), room)
	var grants []Grant
	give := func(ref laneRef, shape uint8) *Grant {
		d := m.dataset(ref.dataset)
		j := m.pick(d, ref, p.Host)
		l := m.grant(d, ref.task, j, p, s, shape, a.Sequence)
		m.settle(d, j)
		if grants == nil {
			grants = make([]Grant, 0, min(max(want, ahead(a.Ahead)), usualWant))
		}
		grants = append(grants, grantOf(d, l))
		return &grants[len(grants)-1]
	}
	for len(grants) < want && free.Cores > 0 && standing.barred == "" {
		ref, shape, found := m.best(s, &free)
		if !found {
			break
		}
		g := give(ref, shape)
		take(&free, &g.Granted)
		m.tried(&standing, &g.Lease, &g.Granted, &free)
	}
	if standing.isGood() {
		for n := min(ahead(a.Ahead), room-len(grants)); n > 0; n-- {
			all := m.inAll(p, s, a.Free.Remaining)
			ref, shape, found := m.comesNext(s, &all, a.Ahead)
			if !found {
				break
			}
			give(ref, shape)
		}
	}
	if len(grants) > 0 && a.Sequence != 0 {
		if p.Sequence == 0 {
			m.proved(p)
		}
		p.Sequence = a.Sequence
	}
	return Answer{Grants: grants}
}

// ahead is how many tasks are asked for beyond what is free.
func ahead(a *protocol.Ahead) int {
	if a == nil {
		return 0
	}
	return int(a.Count)
}

// inAll is what a pilot has while it runs nothing, but for cards: what comes ahead does
// without. What its site has capped counts from the grant.
func (m *Machine) inAll(p *Pilot, s *Site, remaining protocol.Seconds) protocol.Resources {
	all := p.Resources
	all.GPUs, all.Remaining = nil, remaining
	return bound(&all, p, s, m.time)
}

// comesNext returns the lane of a task that is asked for ahead, if no other comes
// before it.
func (m *Machine) comesNext(s *Site, all *protocol.Resources, a *protocol.Ahead) (ref laneRef, shape uint8, found bool) {
	ref, shape, found = m.best(s, all)
	return ref, shape, found && ref.dataset == a.Dataset && ref.task == a.Task
}

// usualWant is how many tasks a pilot asks for at most, as a rule: one per slot.
const usualWant = 16

// unserved says why a pilot is given nothing, whatever it has free; empty where it
// is served.
func unserved(p *Pilot, s *Site, now RecordTime) string {
	if p.Draining {
		return "the pilot drains"
	}
	return s.shut(now)
}

// AnyFits tells whether an Acquire of a pilot with these free resources would be
// granted something now. Its time is proportional to the number of requirement classes.
func (m *Machine) AnyFits(id protocol.PilotID, free *protocol.Resources) bool {
	p, known := m.pilots.Get(id)
	if !known || p.Left > 0 || p.Revoked || len(p.Leases) >= protocol.MaxHeld {
		return false
	}
	s, _ := m.sites.Get(p.Site)
	if unserved(p, s, m.time) != "" {
		return false
	}
	f := bound(free, p, s, m.time)
	if m.cleared(p, &f).barred != "" {
		return false
	}
	_, _, found := m.best(s, &f)
	return found && f.Cores > 0
}

// AnyAhead tells whether an Acquire that asks for tasks ahead would be granted one of
// them now.
func (m *Machine) AnyAhead(id protocol.PilotID, a *protocol.Ahead) bool {
	p, known := m.pilots.Get(id)
	if a == nil || a.Count == 0 || !known || p.Left > 0 || p.Revoked || len(p.Leases) >= protocol.MaxHeld {
		return false
	}
	s, _ := m.sites.Get(p.Site)
	all := m.inAll(p, s, 0)
	if unserved(p, s, m.time) != "" || !m.cleared(p, &all).isGood() {
		return false
	}
	_, _, found := m.comesNext(s, &all, a)
	return found
}

// Offered cuts what a pilot says is free to what it may be given while its node and
// its site stand as they do; false where that is nothing, however much is free. capped
// says that it may be given more when leases of its site end.
func (m *Machine) Offered(id protocol.PilotID, free *protocol.Resources) (offered protocol.Resources, any, capped bool) {
	offered = *free
	p, known := m.pilots.Get(id)
	if !known {
		return offered, false, false
	}
	s, known := m.sites.Get(p.Site)
	if !known || unserved(p, s, m.time) != "" {
		return offered, false, false
	}
	return offered, m.cleared(p, &offered).barred == "", s.Policy.Counts()
}

// maxPassedOver is how many jobs a pull looks past for one that has not failed on
// the pilot's host.
const maxPassedOver = 8

// pick chooses the job of a lane: the lowest that has not failed on the host, or
// the lowest where none of the first few is better.
func (m *Machine) pick(d *dataset, ref laneRef, host string) uint32 {
	queued := &d.tasks[ref.task].lanes[ref.lane].queued
	first := queued.min()
	if d.failedAt.Len() == 0 || host == "" {
		return first
	}
	choice, seen := first, 0
	each(queued.set, func(j uint32) bool {
		hosts, _ := d.failedAt.Get(taskKey(j, ref.task))
		if !slices.Contains(hosts, host) {
			choice = j
			return false
		}
		seen++
		return seen < maxPassedOver
	})
	return choice
}

func grantOf(d *dataset, l *Lease) Grant {
	v := &d.tasks[l.Task.Task]
	return Grant{Lease: *l, Granted: v.granted(uint32(l.Task.Job), l.Shape), Facts: d.facts, Task: v.spec, Jobs: d.jobs, Earlier: d.earlier(l)}
}

// grantedBefore returns the live leases that a pilot's last Acquire was given.
func (m *Machine) grantedBefore(p *Pilot) []Grant {
	var grants []Grant
	for _, h := range p.Leases {
		if h.Sequence != p.Sequence {
			continue
		}
		d, _ := m.datasets.Get(h.Task.Dataset)
		if l, current := d.current(uint32(h.Task.Job), h.Task.Task); current && l.State == Live {
			grants = append(grants, grantOf(d, l))
		}
	}
	return grants
}
