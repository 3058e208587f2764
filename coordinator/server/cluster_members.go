package server

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// Membership changes who belongs to the cluster and who leads it. It is used on
// the leader.
type Membership interface {
	// Remove takes a member's vote and place, dead or alive. The record still knows it.
	Remove(ctx context.Context, node protocol.NodeID) error
	// Transfer hands leadership to a voter, empty: to the best one, and returns who
	// leads then.
	Transfer(ctx context.Context, to protocol.NodeID) (leader protocol.NodeID, err error)
	// Snapshot writes a snapshot of the record, unless there is nothing new.
	Snapshot(ctx context.Context) (protocol.SnapshotReply, error)
}

// newName refuses a coordinator's name that was used before: what its disk knew of
// votes may be lost (I-25).
func (s *Server) newName(node protocol.NodeID) error {
	if err := protocol.CheckName("coordinator", string(node)); err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	var member, removed bool
	s.Record.Read(func(m *state.Machine) {
		_, member = m.Member(node)
		removed = m.RemovedMember(node)
	})
	member = member || slices.ContainsFunc(s.Record.Members(), func(m protocol.Member) bool { return m.ID == node })
	switch {
	case removed:
		return protocol.Errorf(protocol.CodeConflict, "coordinator %s was removed for good: its name is not used again; choose a new one", node)
	case member:
		return protocol.Errorf(protocol.CodeConflict,
			"coordinator %s is a member already; if its disk is lost: floe cluster remove %[1]s, then floe cluster add under a new name", node)
	}
	return nil
}

// addMember invites a coordinator.
func (s *Server) addMember(ctx context.Context, in *struct{ Body protocol.AddMemberRequest }) (*body[protocol.AddMemberReply], error) {
	request := &in.Body
	if host, port, err := net.SplitHostPort(request.Address); err != nil || host == "" || port == "" {
		return nil, protocol.Errorf(protocol.CodeBadRequest, "address %q: want host:port", request.Address)
	}
	made, err := s.token(ctx, &struct{ Body protocol.TokenRequest }{
		protocol.TokenRequest{Role: "coordinator", Name: string(request.Node), TTL: request.TTL},
	})
	if err != nil {
		return nil, err
	}
	return &body[protocol.AddMemberReply]{protocol.AddMemberReply{
		Token: made.Body.Token, Expires: made.Body.Expires,
		Command: fmt.Sprintf("floe coordinator %s --address %s --join %s", request.Node, request.Address, made.Body.Token),
	}}, nil
}

type memberInput struct {
	Node protocol.NodeID `path:"node" maxLength:"128"`
	Body protocol.RemoveMemberRequest
}

// removeMember removes a coordinator for good: its vote, its identity, its name.
// Repeating it is safe, whatever became of it the first time.
func (s *Server) removeMember(ctx context.Context, in *memberInput) (*body[protocol.RemoveMemberReply], error) {
	node, caller := in.Node, transport.CallerOf(ctx)
	members := s.Record.Members()
	i := slices.IndexFunc(members, func(m protocol.Member) bool { return m.ID == node })
	switch {
	case i >= 0:
		if err := checkRemoval(members, members[i], in.Body.Force); err != nil {
			return nil, err
		}
		if node == s.Node {
			// The next leader removes it: one that removes itself could not answer.
			leader, err := s.Membership.Transfer(ctx, "")
			if err != nil {
				return nil, err
			}
			return nil, protocol.Errorf(protocol.CodeUnknown, "%s led and has handed over to %s; repeat the request", node, leader)
		}
		if err := s.Membership.Remove(ctx, node); err != nil {
			return nil, err
		}
	case !in.Body.Force:
		var known bool
		s.Record.Read(func(m *state.Machine) {
			_, known = m.Member(node)
			known = known || m.RemovedMember(node)
		})
		if !known {
			return nil, protocol.Errorf(protocol.CodeNotFound, "no coordinator %s; force forbids the name all the same", node)
		}
	}
	remove := &state.RemoveMember{By: state.Action{Actor: caller.User, Reason: in.Body.Reason, From: caller.Remote.String()}, Node: node}
	if _, err := s.propose(ctx, remove); err != nil && protocol.CodeOf(err) != protocol.CodeNotFound {
		return nil, err
	}
	s.Logger.Info("coordinator removed", "coordinator", node, "user", caller.User)
	reply := protocol.RemoveMemberReply{Node: node}
	for _, m := range s.Record.Members() {
		if m.Voter {
			reply.Voters++
		}
	}
	switch {
	case reply.Voters == 1:
		reply.Note = "one voter is left: its loss is the loss of the record; add two with floe cluster add"
	case reply.Voters%2 == 0:
		reply.Note = "an even number of voters survives no more losses than one fewer would; add one with floe cluster add"
	}
	return &body[protocol.RemoveMemberReply]{reply}, nil
}

// checkRemoval refuses to remove a voter where what is left could not write.
func checkRemoval(members []protocol.Member, gone protocol.Member, force bool) error {
	if !gone.Voter {
		return nil
	}
	var left, healthy int
	var silent []protocol.NodeID
	for _, m := range members {
		switch {
		case m.ID == gone.ID || !m.Voter:
		case m.Healthy:
			left++
			healthy++
		default:
			left++
			silent = append(silent, m.ID)
		}
	}
	need := left/2 + 1
	switch {
	case left == 0:
		return protocol.Errorf(protocol.CodeConflict, "coordinator %s is the only voter; the cluster ends when it is stopped", gone.ID)
	case healthy < need && !force:
		return protocol.Errorf(protocol.CodeConflict,
			"without %s %d of %d voters would be in reach and %d are needed: nothing could be written. Bring back %v, or add another coordinator and wait until it votes; force removes it all the same",
			gone.ID, healthy, left, need, silent)
	}
	return nil
}

// transferLeader hands leadership over.
func (s *Server) transferLeader(ctx context.Context, in *struct{ Body protocol.TransferRequest }) (*body[protocol.TransferReply], error) {
	to := in.Body.To
	if to == s.Node {
		return &body[protocol.TransferReply]{protocol.TransferReply{From: s.Node, Leader: s.Node, Term: s.Record.Term()}}, nil
	}
	if to != "" {
		members := s.Record.Members()
		i := slices.IndexFunc(members, func(m protocol.Member) bool { return m.ID == to })
		switch {
		case i < 0:
			return nil, protocol.Errorf(protocol.CodeNotFound, "no coordinator %s", to)
		case !members[i].Voter:
			return nil, protocol.Errorf(protocol.CodeConflict, "coordinator %s does not vote yet: it is %d entries behind", to, members[i].Behind)
		case !members[i].Healthy:
			return nil, protocol.Errorf(protocol.CodeConflict, "coordinator %s does not answer this one", to)
		}
	}
	start := time.Now()
	leader, err := s.Membership.Transfer(ctx, to)
	if err != nil {
		return nil, err
	}
	s.Logger.Info("leadership handed over", "coordinator", leader, "user", transport.CallerOf(ctx).User, "took", time.Since(start))
	return &body[protocol.TransferReply]{protocol.TransferReply{From: s.Node, Leader: leader, Term: s.Record.Term()}}, nil
}

// snapshot writes a snapshot of the record on the leader.
func (s *Server) snapshot(ctx context.Context, _ *struct{}) (*body[protocol.SnapshotReply], error) {
	reply, err := s.Membership.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	reply.Node = s.Node
	return &body[protocol.SnapshotReply]{reply}, nil
}
