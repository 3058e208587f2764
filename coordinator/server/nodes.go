package server

import (
	"context"
	"fmt"
	"strconv"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// actionOf says who does what a request asks for, and why.
func actionOf(ctx context.Context, reason string) state.Action {
	caller := transport.CallerOf(ctx)
	return state.Action{Actor: caller.User, Reason: reason, From: caller.Remote.String()}
}

type nodesInput struct {
	Site protocol.SiteID `query:"site" maxLength:"128" doc:"only nodes of this site"`
	All  bool            `query:"all" doc:"also those in good standing that failed of late"`
	Page
}

// nodes lists the nodes whose standing is worth a look.
func (s *Server) nodes(_ context.Context, in *nodesInput) (*body[protocol.NodePage], error) {
	skip, err := in.after(0)
	if err != nil {
		return nil, err
	}
	reply := protocol.NodePage{Nodes: []protocol.NodeStanding{}}
	limit, seen := in.limit(), int64(0)
	s.Record.Read(func(m *state.Machine) {
		for n := range m.Nodes() {
			if in.Site != "" && n.Site != in.Site || !in.All && n.State == state.NodeWatched {
				continue
			}
			if seen++; seen <= skip {
				continue
			}
			if len(reply.Nodes) == limit {
				reply.Next = strconv.FormatInt(seen-1, 10)
				break
			}
			reply.Nodes = append(reply.Nodes, describeNode(&n, m.Time()))
		}
		s.countPilots(m, reply.Nodes)
	})
	return &body[protocol.NodePage]{reply}, nil
}

func describeNode(n *state.Node, now state.RecordTime) protocol.NodeStanding {
	x := protocol.NodeStanding{
		Site: n.Site, Host: n.Host, GPUs: n.Part == state.NodeGPUs, State: n.State.String(),
		Since: int64(n.Wall), Reason: n.Reason, By: n.By, Failures: n.Streak, Next: millis(n.Next),
	}
	if n.State == state.NodeQuarantined {
		x.Left = millis(max(n.Until-now, 0))
	}
	return x
}

func millis(t state.RecordTime) int64 { return int64(t / (state.Second / 1000)) }

// countPilots counts the pilots that are on each node.
func (s *Server) countPilots(m *state.Machine, nodes []protocol.NodeStanding) {
	if len(nodes) == 0 {
		return
	}
	type place struct {
		site protocol.SiteID
		host string
	}
	there := map[place]int{}
	for p := range m.Pilots("") {
		if p.Left == 0 {
			there[place{p.Site, p.Host}]++
		}
	}
	for i := range nodes {
		nodes[i].Pilots = there[place{nodes[i].Site, nodes[i].Host}]
	}
}

type nodeActionInput struct {
	Site protocol.SiteID `path:"site" maxLength:"128"`
	Body protocol.NodeAction
}

// actOnNode excludes a node, or releases it.
func (s *Server) actOnNode(ctx context.Context, in *nodeActionInput) (*body[protocol.DoneReply], error) {
	by, at := actionOf(ctx, in.Body.Reason), fmt.Sprintf("node %s of site %s", in.Body.Host, in.Site)
	if in.Body.Action == "release" {
		a, err := s.propose(ctx, &state.ReleaseNode{By: by, Site: in.Site, Host: in.Body.Host})
		if err != nil {
			return nil, err
		}
		s.Logger.Info("node released", "site", in.Site, "host", in.Body.Host, "user", by.Actor)
		return done(&a, at+" is in good standing again", at+" is in good standing, as it was"), nil
	}
	exclude := &state.ExcludeNode{By: by, Site: in.Site, Host: in.Body.Host}
	what := at + " gets no more tasks until it is released; what runs there may finish"
	if in.Body.GPUs {
		exclude.Part = state.NodeGPUs
		what = at + " gets no more tasks with GPUs until it is released"
	}
	a, err := s.propose(ctx, exclude)
	if err != nil {
		return nil, err
	}
	s.Logger.Info("node excluded", "site", in.Site, "host", in.Body.Host, "user", by.Actor)
	return done(&a, what, at+" was excluded before"), nil
}

// done answers an action. The record gives a reason with an OK where there was
// nothing to change.
func done(a *state.Answer, changed, same string) *body[protocol.DoneReply] {
	if a.Reason != "" {
		return &body[protocol.DoneReply]{protocol.DoneReply{Detail: same}}
	}
	return &body[protocol.DoneReply]{protocol.DoneReply{Changed: true, Detail: changed}}
}
