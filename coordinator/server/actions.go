package server

import (
	"context"

	"floe/coordinator/history"
	"floe/protocol"
)

type actionsInput struct {
	Dataset uint32          `query:"dataset" doc:"only actions on this dataset"`
	Object  string          `query:"object" maxLength:"512" doc:"only actions on this object, as the list names it"`
	Actor   protocol.UserID `query:"actor" maxLength:"128" doc:"only actions of this user"`
	Page
}

// actions lists what people did, newest first (I-39).
func (s *Server) actions(ctx context.Context, in *actionsInput) (*body[protocol.ActionPage], error) {
	if err := s.Ledger.WaitApplied(ctx, s.Record.Applied()); err != nil {
		return nil, err
	}
	found, err := s.Ledger.Actions(ctx, history.ActionQuery{
		Dataset: protocol.DatasetID(in.Dataset), Object: in.Object, Actor: in.Actor, Cursor: in.Cursor, Limit: in.limit(),
	})
	if err != nil {
		return nil, err
	}
	reply := protocol.ActionPage{Actions: []protocol.ActionRecord{}, Next: found.Next}
	for i := range found.Actions {
		a := &found.Actions[i]
		reply.Actions = append(reply.Actions, protocol.ActionRecord{
			Index: a.Index(), Time: int64(a.Wall), Actor: a.By.Actor, From: a.By.From, Action: a.Verb, Object: a.Object,
			Reason: a.By.Reason, Result: a.Code, Answer: a.Answer, Tasks: a.Moved.Tasks, Leases: a.Moved.Leases,
		})
	}
	return &body[protocol.ActionPage]{reply}, nil
}
