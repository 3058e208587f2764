package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"

	"floe/coordinator/history"
	"floe/protocol"
	"floe/protocol/transport"
)

// hashes tells another coordinator what this one's record is known by.
func (s *Server) hashes(w http.ResponseWriter, r *http.Request) error {
	at := uint64(0)
	if text := r.URL.Query().Get("at"); text != "" {
		var err error
		if at, err = strconv.ParseUint(text, 10, 64); err != nil {
			return protocol.Errorf(protocol.CodeBadRequest, "at %q: want a log index", text)
		}
	}
	reply := protocol.HashesReply{Node: s.Node}
	if s.Hashes != nil {
		reply = s.Hashes(at)
	}
	return transport.WriteCBOR(w, &reply)
}

// historyStanding says whether this coordinator's history can be copied.
func (s *Server) historyStanding(w http.ResponseWriter, _ *http.Request) error {
	_, gap := s.Ledger.Gap()
	return transport.WriteCBOR(w, &protocol.HistoryReply{Applied: s.Ledger.Applied(), Incomplete: gap})
}

// historyJournal gives a consistent copy of the newest history.
func (s *Server) historyJournal(w http.ResponseWriter, _ *http.Request) error {
	if _, gap := s.Ledger.Gap(); gap {
		return protocol.Errorf(protocol.CodeConflict, "the history of %s has a gap itself", s.Node)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := s.Ledger.WriteJournal(w); err != nil {
		panic(http.ErrAbortHandler) // break off, so that nobody takes it for whole
	}
	return nil
}

// historySealed gives a file of older history.
func (s *Server) historySealed(w http.ResponseWriter, r *http.Request) error {
	d, err := protocol.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	f, err := s.Ledger.OpenSeal(history.Seal{Digest: d})
	if errors.Is(err, fs.ErrNotExist) {
		return protocol.Errorf(protocol.CodeNotFound, "no history file %v", d)
	} else if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, f); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// caughtUp waits until history has all that is applied. With a gap in it nothing is
// answered: what is missing would look as if it had never happened.
func (s *Server) caughtUp(ctx context.Context) error {
	if gap, open := s.Ledger.Gap(); open {
		return &protocol.Error{
			Code: protocol.CodeBusy, RetryAfter: 2,
			Message: "history from log index " + strconv.FormatUint(gap.From, 10) + " to " + strconv.FormatUint(gap.To, 10) + " is on its way from another coordinator",
		}
	}
	return s.Ledger.WaitApplied(ctx, s.Record.Applied())
}
