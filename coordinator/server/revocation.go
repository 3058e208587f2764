package server

import (
	"context"
	"net/http"
	"net/netip"
	"sync"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// revocations end what is under way in the name of somebody who lost the right to
// it (I-35). Every coordinator does it by itself when the event reaches it: it
// closes the connections of machines that were revoked, and ends the requests of
// people whose token is gone. New requests are judged by the record anyway.
type revocations struct {
	more chan struct{} // holds one: there is something to look for

	mu      sync.Mutex
	all     bool                        // guarded by mu: connections, too, not only people's requests
	ongoing map[*peopleRequest]struct{} // guarded by mu
}

// peopleRequest is one request of a person.
type peopleRequest struct {
	token  protocol.Digest
	remote netip.AddrPort
	cancel context.CancelFunc
}

func newRevocations() *revocations {
	return &revocations{more: make(chan struct{}, 1), ongoing: map[*peopleRequest]struct{}{}}
}

// observe runs in the goroutine that applies: it may not wait.
func (v *revocations) observe(e *state.Event) {
	switch b := e.Body.(type) {
	case *state.PilotLeft:
		if b.Verdict == protocol.VerdictWithdrawn {
			v.wake(true)
		}
	case *state.SiteChanged:
		v.wake(true)
	case *state.MemberChanged:
		if b.Removed {
			v.wake(true)
		}
	case *state.TokenChanged:
		v.wake(false)
	}
}

// wake has the record looked through: for people's requests, or for all.
func (v *revocations) wake(all bool) {
	v.mu.Lock()
	v.all = v.all || all
	v.mu.Unlock()
	select {
	case v.more <- struct{}{}:
	default:
	}
}

// begin counts in a request of a person, which ends when ctx does or its token.
func (v *revocations) begin(ctx context.Context, token protocol.Digest, remote netip.AddrPort) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	r := &peopleRequest{token, remote, cancel}
	v.mu.Lock()
	v.ongoing[r] = struct{}{}
	v.mu.Unlock()
	return ctx, func() {
		v.mu.Lock()
		delete(v.ongoing, r)
		v.mu.Unlock()
		cancel()
	}
}

// take gives what is to be looked through.
func (v *revocations) take() (all bool, requests []*peopleRequest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	all, v.all = v.all, false
	for r := range v.ongoing {
		requests = append(requests, r)
	}
	return all, requests
}

// enforceRevocations ends what was revoked, until ctx ends.
func (s *Server) enforceRevocations(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.revocations.more:
		}
		all, requests := s.revocations.take()
		ended := map[netip.AddrPort]bool{}
		for _, r := range requests {
			var good bool
			s.Record.Read(func(m *state.Machine) {
				t, known := m.Token(r.token)
				u, member := m.User(t.User)
				good = known && member && !u.Disabled
			})
			if !good {
				ended[r.remote] = true
				r.cancel()
			}
		}
		if s.Disconnect == nil || !all && len(ended) == 0 {
			continue
		}
		closed := s.Disconnect(func(c transport.Caller) (gone bool) {
			if c.Kind == transport.Anonymous {
				return ended[c.Remote] // people come over connections without a name
			}
			s.Record.Read(func(m *state.Machine) { gone = all && revoked(m, &c) != nil })
			return gone
		})
		if closed > 0 {
			s.Logger.Info("connections of the revoked closed", "connections", closed)
		}
	}
}

// Restored has everything looked through: the events that led to a restored record
// were not seen here.
func (s *Server) Restored() { s.revocations.wake(true) }

// trusts refuses machines that were revoked: the coordinator that speaks for itself
// or forwards, and for verbs that every coordinator answers the caller. Other verbs
// go to the leader, which judges pilots and sites itself.
func (s *Server) trusts(r *http.Request, caller *transport.Caller, leading, anywhere bool) (err error) {
	if c := transport.CallerOf(r.Context()); c.Kind == transport.Coordinator {
		var here state.Member
		s.Record.Read(func(m *state.Machine) {
			err = revoked(m, &c)
			here, _ = m.Member(s.Node)
		})
		if err != nil && r.Header.Get(headerCaller) != "" {
			// Whoever asked did nothing wrong: they are told to come here.
			return &protocol.Error{Code: protocol.CodeNotLeader, Leader: here.Address, Message: err.Error()}
		}
	}
	if err == nil && anywhere {
		s.Record.Read(func(m *state.Machine) { err = revoked(m, caller) })
	}
	if protocol.CodeOf(err) == protocol.CodeUnauthorized && !leading {
		// A follower that is behind cannot say no.
		return protocol.Errorf(protocol.CodeUnknown, "%v here yet; repeat the request", err)
	}
	return err
}

// revoked tells why a machine's certificate counts no more, nil where it does, as
// far as this record knows.
func revoked(m *state.Machine, c *transport.Caller) error {
	switch c.Kind {
	case transport.Coordinator:
		if m.RemovedMember(c.Node) {
			return protocol.Errorf(protocol.CodeForbidden, "coordinator %s was removed from the cluster for good", c.Node)
		}
	case transport.Site, transport.Pilot:
		site, known := m.Site(c.Site)
		switch {
		case !known:
			return protocol.Errorf(protocol.CodeUnauthorized, "site %s is not known", c.Site)
		case site.Revoked:
			return protocol.Errorf(protocol.CodeForbidden, "site %s was revoked", c.Site)
		case c.Kind == transport.Site && !site.Holder.IsZero() && site.Holder != c.KeyFingerprint:
			return protocol.Errorf(protocol.CodeForbidden, "site %s has joined again with another key", c.Site)
		}
		if p, known := m.Pilot(c.Pilot); c.Kind == transport.Pilot && known && p.Revoked {
			return protocol.Errorf(protocol.CodeForbidden, "pilot %s was revoked", c.Pilot)
		}
	}
	return nil
}
