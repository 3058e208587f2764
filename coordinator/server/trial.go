package server

import (
	"context"
	"fmt"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// tryLaunch answers a person who sets a site up: what a pass would be granted and why,
// or one launch lease for a trial.
func (s *Server) tryLaunch(ctx context.Context, site protocol.SiteID, request *protocol.LaunchRequest) (*protocol.LaunchReply, error) {
	reply := &protocol.LaunchReply{Now: time.Now().UnixMilli(), Version: protocol.Version}
	reply.Addresses, _ = s.addresses()
	reply.Pilot = s.assigned(site)
	if !request.Trial {
		s.Record.Read(func(m *state.Machine) {
			p := Launching{Site: site, Request: request}
			p.Ends(m)
			p.Surplus(m)
			p.Remove(m, reply)
			// Tickets that nobody is given.
			_, grants := p.Grants(m, s.Timing.Launch, func() protocol.Token { return protocol.Token{} })
			reply.Reasons = append(append(p.reasons(m), reply.Reasons...), fmt.Sprintf("a pass would be granted %d pilot jobs now", len(grants)))
		})
		return reply, nil
	}
	ticket := s.newToken(protocol.TokenPilot)
	launch := state.NewLaunch{
		// Its offer is nothing, so that it is taken for the supply of no task.
		ID: protocol.LaunchID(ticket.ID), Shape: protocol.TrialShape, TicketHash: ticket.Secret.Digest(),
	}
	s.Record.Read(func(m *state.Machine) { launch.Expires = m.Time().After(protocol.SecondsOf(s.Timing.Launch)) })
	if _, err := s.propose(ctx, &state.GrantLaunches{Site: site, Launches: []state.NewLaunch{launch}}); err != nil {
		return nil, err
	}
	reply.Grants = []protocol.LaunchGrant{{Launch: launch.ID, Shape: launch.Shape, Ticket: ticket.Text()}}
	return reply, nil
}
