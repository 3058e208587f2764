package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// passes remembers when each site's glidein last asked.
type passes struct {
	mu   sync.Mutex
	last map[protocol.SiteID]time.Time // guarded by mu
}

func (p *passes) heard(site protocol.SiteID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[protocol.SiteID]time.Time{}
	}
	p.last[site] = time.Now()
}

func (p *passes) of(site protocol.SiteID) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[site]
}

// launch answers a glidein pass (protocol.LaunchRequest).
func (s *Server) launch(w http.ResponseWriter, r *http.Request) error {
	var request protocol.LaunchRequest
	if err := transport.ReadCBOR(r, protocol.MaxExchangeBytes, &request); err != nil {
		return err
	}
	reply, err := s.Launch(r.Context(), transport.CallerOf(r.Context()), &request)
	if err != nil {
		return err
	}
	return transport.WriteCBOR(w, reply)
}

// Launch is the verb without its network.
func (s *Server) Launch(ctx context.Context, caller transport.Caller, request *protocol.LaunchRequest) (*protocol.LaunchReply, error) {
	if len(request.Shapes) > protocol.MaxShapes || len(request.Reports) > protocol.MaxReports {
		return nil, protocol.Errorf(protocol.CodeTooLarge, "%d shapes and %d reports, limits %d and %d", len(request.Shapes), len(request.Reports), protocol.MaxShapes, protocol.MaxReports)
	}
	record, err := s.siteOf(caller)
	if err != nil {
		return nil, err
	}
	site := record.ID
	s.passes.heard(site)
	reply := new(protocol.LaunchReply)
	reply.Answers = s.admitReports(ctx, site, request.Reports)
	reply.Addresses, _ = s.addresses()
	if len(request.Ended) > 0 {
		if _, err := s.propose(ctx, &state.EndLaunches{Site: site, Launches: request.Ended, Reason: "its pilot job is gone"}); err != nil {
			return nil, err
		}
	}
	if err := s.endForgotten(ctx, site, request.Known); err != nil {
		return nil, err
	}
	reply.Remove = s.orphans(site, request.Known)
	if record.Suspended {
		reply.Reasons = []string{"nothing launched: an operator suspended this site"}
		return reply, nil
	}
	for i := range request.Shapes {
		shape := &request.Shapes[i]
		if request.Room > 0 {
			shape.Room = min(shape.Room, request.Room-min(request.Room, uint32(len(reply.Grants))))
		}
		if shape.BatchError != "" {
			s.Logger.Warn("a site's batch system does not answer", "site", site, "shape", shape.Name, "err", shape.BatchError)
			reply.Reasons = append(reply.Reasons, fmt.Sprintf("shape %s: nothing launched, the batch system does not answer", shape.Name))
			continue
		}
		if err := s.grantLaunches(ctx, site, shape, reply); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// siteOf finds the caller in the record. A key that another has replaced, by
// joining as the same site, speaks for it no more.
func (s *Server) siteOf(caller transport.Caller) (state.Site, error) {
	var site state.Site
	var known bool
	s.Record.Read(func(m *state.Machine) { site, known = m.Site(caller.Site) })
	term, _ := s.Record.Leading()
	switch {
	case !known && term == 0:
		return site, protocol.Errorf(protocol.CodeUnknown, "site %s is not known here yet; repeat the request", caller.Site)
	case !known:
		return site, protocol.Errorf(protocol.CodeUnauthorized, "site %s is not known; join again", caller.Site)
	case site.Revoked:
		return site, protocol.Errorf(protocol.CodeForbidden, "site %s was revoked", caller.Site)
	case !site.Holder.IsZero() && site.Holder != caller.KeyFingerprint:
		return site, protocol.Errorf(protocol.CodeForbidden, "site %s has joined again with another key", caller.Site)
	}
	return site, nil
}

// endForgotten ends launch leases that the site does not know: their answer was
// lost, or they were not used. A site has one pass at a time, and its ledger holds
// a lease before its job is submitted, so what is not listed has no job.
func (s *Server) endForgotten(ctx context.Context, site protocol.SiteID, known []protocol.KnownLaunch) error {
	listed := make(map[protocol.LaunchID]bool, len(known))
	for _, k := range known {
		listed[k.Launch] = true
	}
	var forgotten []protocol.LaunchID
	s.Record.Read(func(m *state.Machine) {
		for l := range m.Launches() {
			if l.Site == site && l.Pilot == "" && !listed[l.ID] && len(forgotten) < state.MaxLaunches {
				forgotten = append(forgotten, l.ID)
			}
		}
	})
	if len(forgotten) == 0 {
		return nil
	}
	_, err := s.propose(ctx, &state.EndLaunches{Site: site, Launches: forgotten, Reason: "the site has no pilot job for it"})
	return err
}

// orphans are pilot jobs whose launch lease is not known: nobody would let their
// pilots in.
func (s *Server) orphans(site protocol.SiteID, known []protocol.KnownLaunch) []protocol.LaunchID {
	var remove []protocol.LaunchID
	s.Record.Read(func(m *state.Machine) {
		for _, k := range known {
			l, ok := m.Launch(k.Launch)
			if !ok || l.Site != site {
				// A launch lease is forgotten when its pilot has left: the job is about to
				// end by itself. One that still waits would enrol in vain.
				if !k.Running && !k.Unseen {
					remove = append(remove, k.Launch)
				}
			}
		}
	})
	return remove
}

// grantLaunches reserves demand for as many pilot jobs of a shape as there is
// work for that no launching or idle pilot of the site will take.
func (s *Server) grantLaunches(ctx context.Context, site protocol.SiteID, shape *protocol.LaunchShape, reply *protocol.LaunchReply) error {
	// What the site does not say of its nodes is no reason not to launch there.
	for _, size := range []*protocol.ByteSize{&shape.Offer.Memory, &shape.Offer.Disk} {
		if *size == 0 {
			*size = protocol.MaxByteSize
		}
	}
	var demand state.Demand
	var launching uint64
	s.Record.Read(func(m *state.Machine) {
		demand = m.Demand(site, &shape.Offer)
		if r, ok := m.Site(site); ok {
			launching = r.Launches
		}
	})
	idle := s.core.parked.idle(site)
	cores := uint64(max(shape.Offer.Cores, 1))
	wanted := (demand.Cores + cores - 1) / cores
	want := wanted
	if covered := launching + idle; want > covered {
		want -= covered
	} else {
		want = 0
	}
	grant := min(want, uint64(shape.Room), state.MaxLaunches)
	reply.Reasons = append(reply.Reasons, fmt.Sprintf("shape %s: %d queued tasks fit, %d pilots wanted for them; %d launching, %d idle; room for %d; granted %d",
		shape.Name, demand.Fit, wanted, launching, idle, shape.Room, grant))
	if grant == 0 {
		return nil
	}
	command := &state.GrantLaunches{Site: site}
	var grants []protocol.LaunchGrant
	var now state.RecordTime
	s.Record.Read(func(m *state.Machine) { now = m.Time() })
	for range grant {
		ticket := s.newToken(protocol.TokenPilot)
		command.Launches = append(command.Launches, state.NewLaunch{
			ID: protocol.LaunchID(ticket.ID), Shape: shape.Name, Offer: shape.Offer,
			TicketHash: ticket.Secret.Digest(), Expires: now.After(protocol.SecondsOf(s.Timing.Launch)),
		})
		grants = append(grants, protocol.LaunchGrant{Launch: protocol.LaunchID(ticket.ID), Shape: shape.Name, Ticket: ticket.Text()})
	}
	if _, err := s.propose(ctx, command); err != nil {
		return err
	}
	reply.Grants = append(reply.Grants, grants...)
	return nil
}
