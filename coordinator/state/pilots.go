package state

import (
	"bytes"
	"fmt"

	"floe/protocol"
)

func (g *GrantLaunches) apply(m *Machine) Answer {
	s := m.site(g.Site)
	switch {
	case s == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", g.Site))
	case s.shut(m.time) != "":
		return refuse(protocol.CodeForbidden, s.shut(m.time))
	}
	for i := range g.Launches {
		n := &g.Launches[i]
		if old, known := m.launches.Get(n.ID); known {
			if old.Site != g.Site || old.TicketHash != n.TicketHash {
				return refuse(protocol.CodeConflict, fmt.Sprintf("launch %s exists with another ticket", n.ID))
			}
		}
	}
	if m.format >= formatAllowance {
		if refused := m.allows(s, g.Launches); refused != nil {
			return *refused
		}
	}
	for i := range g.Launches {
		n := &g.Launches[i]
		if _, known := m.launches.Get(n.ID); known {
			continue
		}
		if m.format >= formatAllowance {
			m.launched(s, n.Shape)
		}
		m.launches.Set(n.ID, &Launch{
			ID: n.ID, Site: g.Site, Shape: n.Shape, Offer: n.Offer,
			TicketHash: n.TicketHash, Granted: m.time, Expires: n.Expires,
		})
		m.due.launches.add(n.Expires, string(n.ID))
		s.Launches++
		m.emit(&LaunchGranted{Launch: n.ID, Site: g.Site, Shape: n.Shape})
	}
	return Answer{}
}

func (e *EndLaunches) apply(m *Machine) Answer {
	for _, id := range e.Launches {
		if l, known := m.launches.Get(id); known && l.Site == e.Site && !(e.Unused && l.Pilot != "") {
			m.endLaunch(l, e.Cause, e.Reason)
		}
	}
	return Answer{}
}

func (m *Machine) endLaunch(l *Launch, cause EndCause, reason string) {
	if m.unproven(l) {
		m.cameToNothing(l, cause, reason)
	} else {
		cause = EndQuietly
	}
	m.launches.Delete(l.ID)
	m.due.launches.remove(l.Expires, string(l.ID))
	if l.Pilot == "" {
		m.site(l.Site).Launches--
	}
	m.emit(&LaunchEnded{Launch: l.ID, Site: l.Site, Pilot: l.Pilot, Reason: reason, Cause: cause})
}

func (e *EnrolPilot) apply(m *Machine) Answer {
	if p, known := m.pilots.Get(e.Pilot); known {
		switch {
		case p.Site != e.Site || !bytes.Equal(p.PublicKey, e.PublicKey):
			return refuse(protocol.CodeConflict, fmt.Sprintf("pilot %s is enrolled with another key or site", e.Pilot))
		case p.Left > 0 || p.Revoked:
			return refuse(protocol.CodeForbidden, fmt.Sprintf("pilot %s has ended", e.Pilot))
		}
		return Answer{Reason: "enrolled before"}
	}
	s := m.site(e.Site)
	switch {
	case s == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", e.Site))
	case s.shut(m.time) != "":
		return refuse(protocol.CodeForbidden, s.shut(m.time))
	}
	if refused := m.spendTicket(e, s); refused.Code != protocol.CodeOK {
		return refused
	}
	m.pilots.Set(e.Pilot, &Pilot{
		ID: e.Pilot, Site: e.Site, Launch: e.Launch, PublicKey: e.PublicKey,
		Host: e.Host, BatchID: e.BatchID, Resources: e.Resources, Version: e.Version,
		Enrolled: m.time, Wall: m.wall, gen: m.gen,
	})
	s.Pilots++
	m.running++
	m.emit(&PilotEnrolled{
		Pilot: e.Pilot, Site: e.Site, Launch: e.Launch, Host: e.Host, BatchID: e.BatchID,
		Resources: e.Resources, Version: e.Version,
	})
	return Answer{}
}

// spendTicket uses up a pilot's ticket: that of its launch, or one made by hand.
func (m *Machine) spendTicket(e *EnrolPilot, s *Site) Answer {
	wrong := refuse(protocol.CodeForbidden, fmt.Sprintf("the ticket of pilot %s is not good for site %s, used up or expired", e.Pilot, e.Site))
	if e.Launch != "" {
		l, known := m.launches.Get(e.Launch)
		if !known || l.Site != e.Site || l.TicketHash != e.TicketHash || l.Pilot != "" || l.Expires <= m.time {
			return wrong
		}
		used := *l
		used.Pilot = e.Pilot
		m.launches.Set(l.ID, &used)
		m.due.launches.remove(l.Expires, string(l.ID))
		s.Launches--
		return Answer{}
	}
	key := string(e.TicketHash[:])
	t, known := m.tickets.Get(key)
	if !known || t.Site != e.Site || t.Expires <= m.time {
		return wrong
	}
	used := *t
	if used.Uses--; used.Uses > 0 {
		m.tickets.Set(key, &used)
	} else {
		m.dropTicket(t)
	}
	return Answer{}
}

func (p *PutTicket) apply(m *Machine) Answer {
	if m.site(p.Site) == nil {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", p.Site))
	}
	key := string(p.Hash[:])
	if old, known := m.tickets.Get(key); known {
		if old.Site != p.Site {
			return refuse(protocol.CodeConflict, "the ticket exists for another site")
		}
		return Answer{Reason: "exists"}
	}
	m.tickets.Set(key, &Ticket{Hash: p.Hash, Site: p.Site, Uses: p.Uses, Expires: p.Expires})
	m.due.tickets.add(p.Expires, key)
	return Answer{}
}

func (m *Machine) dropTicket(t *Ticket) {
	key := string(t.Hash[:])
	m.tickets.Delete(key)
	m.due.tickets.remove(t.Expires, key)
}

func (d *DrainPilot) apply(m *Machine) Answer {
	p := m.pilot(d.Pilot)
	if p == nil || p.Left > 0 {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no pilot %s", d.Pilot))
	}
	if p.Draining == !d.Undo {
		return Answer{Reason: "nothing to change"}
	}
	p.Draining = !d.Undo
	m.emit(&PilotChanged{Pilot: p.ID, Site: p.Site, Draining: p.Draining})
	return Answer{}
}

func (l *LeavePilot) apply(m *Machine) Answer {
	p := m.pilot(l.Pilot)
	switch {
	case p == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no pilot %s", l.Pilot))
	case p.Left > 0:
		return Answer{Reason: "left before"}
	}
	m.endPilot(p, l.Verdict, l.Reason)
	return Answer{}
}

// endPilot ends a pilot. The leases of a lost one lapse, as they would have one
// by one: its results may still come by another way. Others end.
func (m *Machine) endPilot(p *Pilot, verdict protocol.Verdict, reason string) {
	for _, h := range append([]HeldTask(nil), p.Leases...) {
		d := m.dataset(h.Task.Dataset)
		l, _ := d.current(uint32(h.Task.Job), h.Task.Task)
		if verdict == protocol.VerdictLost {
			m.lapse(d, l)
		} else {
			m.leave(d, l, verdict, reason)
		}
	}
	p.Left = max(m.time, 1)
	p.Revoked = verdict == protocol.VerdictWithdrawn
	m.running--
	m.site(p.Site).Pilots--
	m.emit(&PilotLeft{Pilot: p.ID, Site: p.Site, Verdict: verdict, Reason: reason, Enrolled: p.Enrolled})
	if l, known := m.launches.Get(p.Launch); known && l.Pilot == p.ID {
		switch {
		case m.inVain(p, l, verdict):
			m.endLaunch(l, EndVain, "its pilot left without a task ("+reason+"), though tasks wait that it was launched for")
		default:
			m.endLaunch(l, EndQuietly, "the pilot left")
		}
	}
	m.due.pilots.add(p.Left+PilotMemory, string(p.ID))
	if m.due.pilots.tree.Len() > MaxLeftPilots {
		m.due.pilots.popFirst(m.forgetPilot)
	}
}

// forgetPilot removes a pilot that left long ago, with leases that lapsed and
// were never claimed.
func (m *Machine) forgetPilot(name string) {
	p := m.pilot(protocol.PilotID(name))
	m.endLapsed(p, "the pilot is forgotten")
	m.pilots.Delete(p.ID)
	m.recent = nil
}

func (m *Machine) endLapsed(p *Pilot, reason string) {
	for _, h := range append([]HeldTask(nil), p.Leases...) {
		d := m.dataset(h.Task.Dataset)
		l, _ := d.current(uint32(h.Task.Job), h.Task.Task)
		m.leave(d, l, protocol.VerdictLost, reason)
	}
}

func (r *RevokePilot) apply(m *Machine) Answer {
	p := m.pilot(r.Pilot)
	switch {
	case p == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no pilot %s", r.Pilot))
	case p.Revoked:
		return Answer{Reason: "revoked before"}
	case p.Left > 0:
		m.endLapsed(p, "revoked")
		p.Revoked = true
	default:
		reason := "revoked"
		if r.By.Reason != "" {
			reason += ": " + r.By.Reason
		}
		m.endPilot(p, protocol.VerdictWithdrawn, reason)
	}
	return Answer{}
}
