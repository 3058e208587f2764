package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// HeaderFormat is the newest format of the record that a coordinator which asks to
// be admitted supports. One that does not say supports the first. It is a header,
// not a field, because a leader of an older release refuses fields it does not know.
const HeaderFormat = "Floe-Format"

// checkFormat refuses a coordinator that would stop at this record.
func (s *Server) checkFormat(node protocol.NodeID, r *http.Request) error {
	supports, err := strconv.ParseUint(r.Header.Get(HeaderFormat), 10, 32)
	if err != nil {
		supports = 1
	}
	var has uint32
	s.Record.Read(func(m *state.Machine) { has = m.Format() })
	if uint32(supports) < has {
		return protocol.Errorf(protocol.CodeConflict, "the record has format %d, coordinator %s supports %d: install a newer floe there", has, node, supports)
	}
	return nil
}

// upgrade raises the record's format once every coordinator supports it. A
// checkpoint goes before, so that all can compare the record they had.
func (s *Server) upgrade(ctx context.Context, in *struct{ Body protocol.UpgradeRequest }) (*body[protocol.UpgradeReply], error) {
	to := in.Body.To
	if to == 0 {
		to = s.Format
	}
	reply := s.standing()
	from := reply.Format
	switch {
	case to == from:
		return &body[protocol.UpgradeReply]{protocol.UpgradeReply{From: from, To: to}}, nil
	case to < from:
		return nil, protocol.Errorf(protocol.CodeConflict, "the record has format %d, and is never lowered", from)
	}
	if lacking := s.lackFormat(ctx, &reply, to); len(lacking) > 0 {
		return nil, &protocol.Error{
			Code: protocol.CodeConflict, Details: lacking,
			Message: fmt.Sprintf("not every coordinator is known to support format %d: install this release everywhere first", to),
		}
	}
	caller := transport.CallerOf(ctx)
	if _, err := s.propose(ctx, &state.Checkpoint{}); err != nil {
		return nil, err
	}
	raise := &state.SetFormat{By: state.Action{Actor: caller.User, From: caller.Remote.String(), Reason: fmt.Sprintf("from format %d", from)}, Format: to}
	if _, err := s.propose(ctx, raise); err != nil {
		return nil, err
	}
	s.Logger.Info("format of the record raised", "from", from, "to", to, "user", caller.User)
	return &body[protocol.UpgradeReply]{protocol.UpgradeReply{From: from, To: to}}, nil
}

// lackFormat says which coordinators are not known to support a format. Those that
// do not vote count, too: they would stop as well. A coordinator is asked, and not
// the record, because what it runs may be older than when it last said so.
func (s *Server) lackFormat(ctx context.Context, reply *protocol.ClusterReply, to uint32) []string {
	s.askMembers(ctx, reply)
	var lacking []string
	for _, m := range reply.Members {
		switch {
		case m.Status == nil:
			lacking = append(lacking, fmt.Sprintf("coordinator %s %s: what it supports is not known", m.ID, m.Problem))
		case max(m.Status.Supports, 1) < to:
			lacking = append(lacking, fmt.Sprintf("coordinator %s runs floe %s, which supports format %d", m.ID, m.Status.Version, max(m.Status.Supports, 1)))
		}
	}
	return lacking
}

// permits refuses a command that the record's format does not have yet: a
// coordinator of an older release would stop at it.
func (s *Server) permits(c state.Command) error {
	needs, has := state.FormatOf(c), uint32(1)
	if needs == has {
		return nil
	}
	s.Record.Read(func(m *state.Machine) { has = m.Format() })
	if needs > has {
		return protocol.Errorf(protocol.CodeConflict,
			"this needs format %d of the record, which has format %d: bring every coordinator to this release, then run floe cluster upgrade", needs, has)
	}
	return nil
}
