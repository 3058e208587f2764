package server

import (
	"context"
	"errors"
	"slices"

	"floe/protocol"
)

// leads tells whether this node led all the time since it led the term, by a
// majority's word. What it read since is then what was acknowledged anywhere (I-17).
// Who was frozen, or hears late that it was deposed, goes on answering for a moment
// from a record that others have changed.
func (s *Server) leads(ctx context.Context, term uint64) bool {
	if term == 0 || s.Record.Confirm(ctx) != nil {
		return false
	}
	now, _ := s.Record.Leading() // a term that was lost does not come back
	return now == term
}

// errDeposed is answered where a refusal would rest on an old record.
var errDeposed = protocol.Errorf(protocol.CodeUnknown, "leadership moved; repeat the request")

// certain lets a refusal pass that a proven leader gives. One that may be behind does
// not know of a pilot that has just enrolled, or a token just made, and whoever
// believes it gives up.
func (s *Server) certain(ctx context.Context, term uint64, err error) error {
	var refused *protocol.Error
	if !errors.As(err, &refused) || refused.Code.Retryable() || s.leads(ctx, term) {
		return err
	}
	return errDeposed
}

// IsFinal tells whether a reply makes a pilot give up work: it is ordered to, or a
// report is called stale. Only a proven leader gives it.
func IsFinal(reply *protocol.ExchangeReply) bool {
	for _, o := range reply.Orders {
		if o.Kind == protocol.OrderAbandon {
			return true
		}
	}
	return slices.ContainsFunc(reply.Answers, isRefused)
}

// isRefused tells whether a report is refused for good: it leaves its spool.
func isRefused(a protocol.ReportAnswer) bool {
	return a.Code != protocol.CodeOK && !a.Code.Retryable()
}
