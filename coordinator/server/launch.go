package server

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// passes remembers the last pass of each site. A new leader knows of none.
type passes struct {
	mu   sync.Mutex
	last map[protocol.SiteID]*passSeen // guarded by mu; never changed
	// orders are those that passes have taken; guarded by mu.
	orders map[protocol.SiteID]takenOrder
}

// passSeen is what a site's last pass told.
type passSeen struct {
	at      time.Time
	shapes  []protocol.LaunchShape
	room    uint64 // of all shapes together
	bound   string // by which cap, empty where those of the shapes are narrower
	version string
}

func (p *passes) heard(site protocol.SiteID, seen *passSeen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[protocol.SiteID]*passSeen{}
	}
	p.last[site] = seen
}

// of is the last pass of a site, nil where none was heard of.
func (p *passes) of(site protocol.SiteID) *passSeen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[site]
}

// kinds are the shapes as pilot jobs that may be launched.
func (p *passSeen) kinds() []state.Launchable {
	all := make([]state.Launchable, len(p.shapes))
	for i := range p.shapes {
		s := &p.shapes[i]
		all[i] = state.Launchable{Name: s.Name, Offer: s.Offer, Room: uint64(s.Room)}
		if s.BatchError != "" {
			all[i].Room = 0
		}
	}
	return all
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
	if err := checkShapes(request.Shapes); err != nil {
		return nil, err
	}
	if request.Preview || request.Trial {
		return s.tryLaunch(ctx, site, request)
	}
	seen := seenOf(request)
	seen.at = time.Now()
	s.passes.heard(site, seen)
	reply := new(protocol.LaunchReply)
	reply.Answers = s.admitReports(ctx, site, request.Reports)
	reply.Addresses, _ = s.addresses()
	reply.Pilot = s.assigned(site)
	if request.Policy != nil {
		if _, err := s.putPolicy(ctx, &caller, &record, request.Policy); err != nil {
			return nil, err
		}
	}

	p := Launching{Site: site, Request: request, seen: seen}
	for _, step := range []func(*state.Machine) []state.Command{p.Ends, p.Surplus} {
		var ends []state.Command
		s.Record.Read(func(m *state.Machine) { ends = step(m) })
		for _, c := range ends {
			if _, err := s.propose(ctx, c); err != nil {
				return nil, err
			}
		}
	}
	for i := range request.Shapes {
		if x := &request.Shapes[i]; x.BatchError != "" {
			s.Logger.Warn("a site's batch system does not answer", "site", site, "shape", x.Name, "err", x.BatchError)
		}
	}
	var grants *state.GrantLaunches
	s.Record.Read(func(m *state.Machine) {
		p.Remove(m, reply)
		p.orders(m, reply)
		grants, reply.Grants = p.Grants(m, s.Timing.Launch, func() protocol.Token { return s.newToken(protocol.TokenPilot) })
		reply.Reasons = append(p.reasons(m), reply.Reasons...)
	})
	if grants != nil {
		_, err := s.propose(ctx, grants)
		switch protocol.CodeOf(err) {
		case protocol.CodeConflict, protocol.CodeForbidden: // one has come to nothing, or the site has closed, just now
			reply.Reasons = append(reply.Reasons, "nothing launched: "+err.Error())
			reply.Grants, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// checkShapes refuses shapes that cannot be told apart.
func checkShapes(shapes []protocol.LaunchShape) error {
	for i := range shapes {
		name := shapes[i].Name
		if err := protocol.CheckName("shape", name); err != nil {
			return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
		}
		if slices.ContainsFunc(shapes[:i], func(x protocol.LaunchShape) bool { return x.Name == name }) {
			return protocol.Errorf(protocol.CodeBadRequest, "two shapes have the name %s", name)
		}
	}
	return nil
}

// seenOf is what is remembered of a pass. What the site does not say of its nodes is
// no reason not to launch there.
func seenOf(request *protocol.LaunchRequest) *passSeen {
	p := &passSeen{shapes: slices.Clone(request.Shapes), version: request.Version}
	for i := range p.shapes {
		offer := &p.shapes[i].Offer
		for _, size := range []*protocol.ByteSize{&offer.Memory, &offer.Disk} {
			if *size == 0 {
				*size = protocol.MaxByteSize
			}
		}
		p.room += uint64(p.shapes[i].Room)
	}
	if request.Room > 0 && uint64(request.Room) < p.room {
		p.room, p.bound = uint64(request.Room), request.Bound
	}
	return p
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
