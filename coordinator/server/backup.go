package server

import (
	"net/http"

	"floe/protocol"
	"floe/protocol/transport"
)

// backup streams a backup of this coordinator to an administrator. One that breaks
// off has no manifest, and nobody takes it for whole.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) error {
	if s.Backup == nil {
		return protocol.Errorf(protocol.CodeNotFound, "this coordinator makes no backups")
	}
	if gap, open := s.Ledger.Gap(); open {
		return protocol.Errorf(protocol.CodeBusy, "history from log index %d to %d is not here yet; repeat later", gap.From, gap.To)
	}
	caller := transport.CallerOf(r.Context())
	s.Logger.Info("backup is being made", "user", caller.User, "from", caller.Remote)
	w.Header().Set("Content-Type", "application/x-tar")
	if err := s.Backup(r.Context(), w); err != nil {
		s.Logger.Error("backup broken off", "user", caller.User, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
