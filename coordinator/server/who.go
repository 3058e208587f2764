package server

import (
	"context"

	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
)

type ranInput struct {
	Host string          `query:"host" required:"true" minLength:"1" maxLength:"256" doc:"the node, with or without its domain"`
	At   int64           `query:"at" required:"true" minimum:"1" doc:"unix milliseconds"`
	Site protocol.SiteID `query:"site" maxLength:"128" doc:"only nodes of this site"`
	Page
}

// ran lists whose payloads ran on a node at a moment: what runs still, then what the
// history has, from which a page may be short and not be the last.
func (s *Server) ran(ctx context.Context, in *ranInput) (*body[protocol.RanPage], error) {
	if err := s.caughtUp(ctx); err != nil {
		return nil, err
	}
	there := func(site protocol.SiteID, host string) bool {
		return (in.Site == "" || site == in.Site) && protocol.SameHost(in.Host, host)
	}
	reply := protocol.RanPage{Attempts: []protocol.Ran{}}
	if in.Cursor == "" {
		s.Record.Read(func(m *state.Machine) {
			for p := range m.Pilots("") {
				if !there(p.Site, p.Host) {
					continue
				}
				for _, l := range m.PilotLeases(p.ID) {
					// A copied one has ended: the history has it.
					if l.State != state.Copied && int64(l.Wall) <= in.At {
						reply.Attempts = append(reply.Attempts, protocol.Ran{
							Site: l.Site, Host: p.Host, Pilot: l.Pilot, BatchID: p.BatchID, Lease: l.ID.String(), Task: l.Task, Number: l.Attempt, Begin: int64(l.Wall),
						})
					}
				}
			}
		})
	}
	found, err := s.Ledger.Ran(ctx, history.RanQuery{At: state.UnixMillis(in.At), Where: there, Cursor: in.Cursor, Limit: in.limit()})
	if err != nil {
		return nil, err
	}
	for i := range found.Attempts {
		a := &found.Attempts[i]
		reply.Attempts = append(reply.Attempts, protocol.Ran{
			Site: a.Site, Host: a.Host, Pilot: a.Pilot, Lease: a.Lease.String(), Task: a.Task, Number: a.AttemptEnded.Attempt,
			Begin: int64(a.GrantedWall), End: int64(a.EndedWall), Verdict: a.Verdict.String(),
		})
	}
	reply.Next = found.Next
	s.Record.Read(func(m *state.Machine) {
		for i := range reply.Attempts {
			x := &reply.Attempts[i]
			if d, known := m.Dataset(x.Task.Dataset); known {
				x.User, x.Group = d.Facts.Owner, d.Facts.Group
				if int(x.Task.Task) < len(d.Tasks) {
					x.Name = d.Tasks[x.Task.Task].Spec.Name
				}
			}
			if p, known := m.Pilot(x.Pilot); known {
				x.BatchID = p.BatchID
			}
		}
	})
	return &body[protocol.RanPage]{reply}, nil
}
