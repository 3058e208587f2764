package server

import (
	"context"
	"math/rand/v2"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// drawSeed draws a dataset's seed: never 0, which means none was given.
func drawSeed() uint64 { return rand.Uint64()>>1 + 1 }

type pilotsInput struct{ Page }

// pilots lists the pilots that are there now.
func (s *Server) pilots(_ context.Context, in *pilotsInput) (*body[protocol.PilotPage], error) {
	limit := in.limit()
	reply := protocol.PilotPage{Pilots: []protocol.Pilot{}}
	s.Record.Read(func(m *state.Machine) {
		for p := range m.Pilots(protocol.PilotID(in.Cursor)) {
			if p.Left != 0 {
				continue
			}
			if len(reply.Pilots) == limit {
				reply.Next = string(reply.Pilots[limit-1].ID)
				break
			}
			reply.Pilots = append(reply.Pilots, s.describePilot(p))
		}
	})
	return &body[protocol.PilotPage]{reply}, nil
}

func (s *Server) describePilot(p *state.Pilot) protocol.Pilot {
	reply := protocol.Pilot{
		ID: p.ID, Site: p.Site, Host: p.Host, BatchID: p.BatchID, Version: p.Version, State: "active",
		Resources: p.Resources, Enrolled: int64(p.Wall),
	}
	if p.Draining {
		reply.State = "draining"
	}
	for _, h := range p.Leases {
		reply.Leases = append(reply.Leases, h.Task.String())
	}
	if seen, over, why := s.core.watch.presence(p.ID); !seen.IsZero() {
		reply.LastSeen, reply.Transport, reply.Why = seen.UnixMilli(), over, why
		reply.Cache, _ = s.core.watch.caches(p.ID)
	}
	return reply
}

// sites lists the sites.
func (s *Server) sites(context.Context, *struct{}) (*body[protocol.SitePage], error) {
	reply := protocol.SitePage{Sites: []protocol.Site{}}
	s.Record.Read(func(m *state.Machine) {
		for x := range m.Sites() {
			site := protocol.Site{ID: x.ID, State: "active", Pilots: x.Pilots, Launches: x.Launches, Running: x.Leases}
			switch {
			case x.Revoked:
				site.State = "revoked"
			default:
				site.State = standingOf(&x)
			}
			if seen := s.passes.of(x.ID); seen != nil {
				site.LastPass = seen.at.UnixMilli()
			}
			reply.Sites = append(reply.Sites, site)
		}
	})
	return &body[protocol.SitePage]{reply}, nil
}

// newToken draws a token that leads to this cluster.
func (s *Server) newToken(role protocol.TokenRole) protocol.Token {
	addresses, _ := s.addresses()
	return protocol.NewToken(role, s.Authority.Pin(), s.Cluster, addresses...)
}

// Lives of tokens. Source: research D2.
const (
	joinTokenLife  = protocol.Seconds(3600)
	userTokenLife  = protocol.Seconds(90 * 24 * 3600)
	userTokenLimit = protocol.Seconds(366 * 24 * 3600)
)

// token makes an invitation or a person's token, shown once.
func (s *Server) token(ctx context.Context, in *struct{ Body protocol.TokenRequest }) (*body[protocol.TokenReply], error) {
	request := &in.Body
	caller := transport.CallerOf(ctx)
	if err := protocol.CheckName(request.Role, request.Name); err != nil {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	life, role := userTokenLife, protocol.TokenUser
	switch request.Role {
	case "site":
		life, role = joinTokenLife, protocol.TokenSite
	case "coordinator":
		life, role = joinTokenLife, protocol.TokenCoordinator
	}
	if request.TTL != 0 {
		life = request.TTL
	}
	if life < 0 || life > userTokenLimit {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "ttl %d: want 1 to %d seconds", life, userTokenLimit)
	}
	token := s.newToken(role)
	hash := token.Secret.Digest()
	var now state.RecordTime
	s.Record.Read(func(m *state.Machine) { now = m.Time() })
	by := state.Action{Actor: caller.User, From: caller.Remote.String()}
	if role == protocol.TokenUser {
		if err := s.makeUser(ctx, by, protocol.UserID(request.Name), request.Role); err != nil {
			return nil, err
		}
		if _, err := s.propose(ctx, &state.PutToken{By: by, Hash: hash, User: protocol.UserID(request.Name), Role: request.Role, Expires: now.After(life)}); err != nil {
			return nil, err
		}
	} else {
		kind := state.JoinSite
		if role == protocol.TokenCoordinator {
			if err := s.newName(protocol.NodeID(request.Name)); err != nil {
				return nil, err
			}
			kind = state.JoinCoordinator
		}
		if _, err := s.propose(ctx, &state.PutJoinToken{By: by, Hash: hash, For: kind, Name: request.Name, Uses: 1, Expires: now.After(life)}); err != nil {
			return nil, err
		}
	}
	s.Logger.Info("token made", "role", request.Role, "name", request.Name, "user", caller.User)
	return &body[protocol.TokenReply]{protocol.TokenReply{
		Token: token.Text(), Expires: time.Now().Add(life.Duration()).UnixMilli(),
	}}, nil
}

// makeUser makes a person known. What is known of somebody stays: a token with
// fewer rights must not take rights and groups away from their owner.
func (s *Server) makeUser(ctx context.Context, by state.Action, id protocol.UserID, role string) error {
	var user state.User
	var known bool
	s.Record.Read(func(m *state.Machine) { user, known = m.User(id) })
	switch {
	case user.Disabled:
		return protocol.Errorf(protocol.CodeConflict, "user %s is disabled: a token would not work", id)
	case known:
		return nil
	}
	_, err := s.propose(ctx, &state.PutUser{By: by, User: id, Role: role})
	return err
}
