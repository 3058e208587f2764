package server

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"floe/coordinator/blob"
	"floe/protocol"
	"floe/protocol/transport"
)

// storeLogs keeps the logs that came with reports, all with one sync, before the
// reports are proposed. A log that cannot be kept keeps no report waiting: its attempt
// is recorded without.
func (s *Server) storeLogs(ctx context.Context, logs []sentLog) {
	if len(logs) == 0 {
		return
	}
	all := make([]blob.Small, 0, len(logs))
	copies := make([]protocol.StoredLog, 0, len(logs))
	for _, l := range logs {
		info := blob.Info{Digest: l.report.Log.Digest, Class: logClass, Owner: logOwner(l.report.Task), Failed: l.report.Verdict != protocol.VerdictOK}
		if info.Digest != protocol.DigestOf(l.data) || int(l.report.Log.Size) != len(l.data) {
			s.Logger.Warn("the log that came with a report is not the one it names", "lease", l.report.Lease, "task", l.report.Task)
			l.report.Log = protocol.LogRecord{}
			continue
		}
		all = append(all, blob.Small{Info: info, Data: l.data})
		copies = append(copies, protocol.StoredLog{Owner: info.Owner, Data: l.data, Failed: info.Failed})
	}
	if err := s.Blobs.PutSmall(all); err != nil {
		s.Logger.Warn("logs of attempts are not kept", "attempts", len(all), "err", err)
		for _, l := range logs {
			l.report.Log = protocol.LogRecord{}
		}
		return
	}
	s.copyLogs(ctx, copies)
}

// copyLogs gives logs to one other coordinator. Where none takes them, the others
// learn of them when they look through what there is.
func (s *Server) copyLogs(ctx context.Context, logs []protocol.StoredLog) {
	if len(logs) == 0 || s.copies(logClass) == 0 {
		return
	}
	for _, node := range s.Peers.Others() {
		err := s.sendLogs(ctx, node, logs)
		if err == nil {
			return
		}
		s.Logger.Debug("logs not taken", "coordinator", node, "err", err)
	}
	s.Logger.Warn("logs have one copy only", "attempts", len(logs))
}

func (s *Server) sendLogs(ctx context.Context, node protocol.NodeID, logs []protocol.StoredLog) error {
	body, err := protocol.Marshal(protocol.LogsRequest{Logs: logs})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "/v1/coordinators/logs", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", transport.TypeCBOR)
	resp, err := s.Peers.Do(ctx, node, r)
	if err != nil {
		return err
	}
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}

// putLogs takes copies of small logs from another coordinator.
func (s *Server) putLogs(w http.ResponseWriter, r *http.Request) error {
	var request protocol.LogsRequest
	if err := transport.ReadCBOR(r, protocol.MaxExchangeBytes, &request); err != nil {
		return err
	}
	all := make([]blob.Small, len(request.Logs))
	for i, l := range request.Logs {
		all[i] = blob.Small{Info: blob.Info{Class: logClass, Owner: l.Owner, Failed: l.Failed}, Data: l.Data}
	}
	if err := s.Blobs.PutSmall(all); err != nil {
		return blobError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
