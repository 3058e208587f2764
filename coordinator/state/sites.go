package state

import (
	"fmt"

	"floe/protocol"
)

func (p *PutSite) apply(m *Machine) Answer {
	s := m.site(p.Site)
	if s == nil {
		s = m.newSite(p.Site, protocol.Digest{})
	} else if s.Suspended == p.Suspended && s.Description == p.Description {
		return Answer{Reason: "nothing to change"}
	}
	s.Suspended, s.Description = p.Suspended, p.Description
	m.emitSite(s, false)
	return Answer{}
}

func (m *Machine) newSite(id protocol.SiteID, holder protocol.Digest) *Site {
	s := &Site{ID: id, Joined: m.wall, Holder: holder, gen: m.gen}
	m.sites.Set(id, s)
	return s
}

func (m *Machine) emitSite(s *Site, removed bool) {
	m.emit(&SiteChanged{Site: s.ID, Suspended: s.Suspended, Revoked: s.Revoked, Removed: removed})
}

func (r *RemoveSite) apply(m *Machine) Answer {
	s := m.site(r.Site)
	switch {
	case s == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", r.Site))
	case s.Pilots > 0 || s.Launches > 0:
		return refuse(protocol.CodeConflict, fmt.Sprintf("site %s has %d pilots and %d launches; suspend it and wait, or revoke it", s.ID, s.Pilots, s.Launches))
	}
	for _, p := range m.pilotsOf(s.ID) { // they left, but leases may have lapsed
		m.endLapsed(m.pilot(p), "the site was removed")
	}
	m.dropInvitations(s.ID)
	m.dropNodes(s.ID)
	m.sites.Delete(s.ID)
	m.emitSite(s, true)
	return Answer{}
}

// dropInvitations ends the tickets and join tokens of a site: whoever holds them
// must not come back by them when the name is used again.
func (m *Machine) dropInvitations(s protocol.SiteID) {
	var tickets []*Ticket
	m.tickets.Scan(func(_ string, t *Ticket) bool {
		if t.Site == s {
			tickets = append(tickets, t)
		}
		return true
	})
	for _, t := range tickets {
		m.dropTicket(t)
	}
	m.dropJoins(JoinSite, string(s))
}

func (m *Machine) pilotsOf(s protocol.SiteID) []protocol.PilotID {
	var list []protocol.PilotID
	m.pilots.Scan(func(id protocol.PilotID, p *Pilot) bool {
		if p.Site == s {
			list = append(list, id)
		}
		return true
	})
	return list
}

func (r *RevokeSite) apply(m *Machine) Answer {
	s := m.site(r.Site)
	switch {
	case s == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", r.Site))
	case s.Revoked:
		return Answer{Reason: "revoked before"}
	}
	for _, id := range m.pilotsOf(s.ID) {
		switch p := m.pilot(id); {
		case p.Left == 0:
			m.endPilot(p, protocol.VerdictWithdrawn, "site revoked")
		default:
			m.endLapsed(p, "site revoked")
			p.Revoked = true
		}
	}
	var launches []*Launch
	m.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool {
		if l.Site == s.ID {
			launches = append(launches, l)
		}
		return true
	})
	for _, l := range launches {
		m.endLaunch(l, EndQuietly, "site revoked")
	}
	m.dropInvitations(s.ID)
	s.Revoked = true
	m.emitSite(s, false)
	return Answer{}
}
