package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"floe/coordinator/blob"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

const logClass = blob.Log

// logOwner is whose log a blob is, jobOwner whose temp file.
func logOwner(t protocol.TaskID) string { return "task " + t.String() }

func jobOwner(d protocol.DatasetID, j protocol.JobIndex) string {
	return fmt.Sprintf("job %d.%d", d, j)
}

func datasetOwner(d protocol.Digest) string { return "steering " + d.Hex() }

// Headers by which an attempt shows that it may store a blob.
const (
	headerTask    = "Floe-Task"
	headerLease   = "Floe-Lease"
	headerPasskey = "Floe-Passkey"
	headerOwner   = "Floe-Owner" // between coordinators
)

// getBlob gives a blob, from a peer where this coordinator lacks it.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) error {
	d, err := protocol.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	body, size, err := s.openBlob(r.Context(), d, r.Header.Get(headerOwner) == "")
	if err != nil {
		return err
	}
	defer body.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.FormatInt(int64(size), 10))
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // the length is out: break off, so that nobody takes it for whole
	}
	return nil
}

// OpenBlob opens a blob here or, where it is missing, at a peer.
func (s *Server) OpenBlob(ctx context.Context, d protocol.Digest) (io.ReadCloser, protocol.ByteSize, error) {
	return s.openBlob(ctx, d, true)
}

// openBlob opens a blob here or, where ask says so, at a peer. It says that there is
// none only if every peer says so: for a pilot that is the word on which the blob's
// task runs again.
func (s *Server) openBlob(ctx context.Context, d protocol.Digest, ask bool) (io.ReadCloser, protocol.ByteSize, error) {
	f, info, err := s.Blobs.Open(d)
	if err == nil {
		return f, info.Size, nil
	}
	if !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrMissing) {
		return nil, 0, blobError(err)
	}
	var unasked protocol.NodeID
	if ask {
		for _, node := range s.Peers.Others() {
			body, size, err := s.peerBlob(ctx, node, d)
			if err == nil {
				return body, size, nil
			}
			if protocol.CodeOf(err) != protocol.CodeNotFound {
				unasked = node
				s.Logger.Debug("peer did not give a blob", "coordinator", node, "digest", d, "err", err)
			}
		}
	}
	if unasked != "" {
		return nil, 0, protocol.Errorf(protocol.CodeUnknown, "no blob %v here, and coordinator %s could not be asked; repeat the request", d, unasked)
	}
	return nil, 0, protocol.Errorf(protocol.CodeNotFound, "no blob %v", d)
}

// peerBlob opens a blob at another coordinator. The header says that the peer
// must not ask further.
func (s *Server) peerBlob(ctx context.Context, node protocol.NodeID, d protocol.Digest) (io.ReadCloser, protocol.ByteSize, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/blobs/"+d.Hex(), nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set(headerOwner, "-")
	resp, err := s.Peers.Do(ctx, node, r)
	if err != nil {
		return nil, 0, err
	}
	if err := transport.ResponseError(resp); err != nil {
		return nil, 0, err
	}
	return resp.Body, protocol.ByteSize(resp.ContentLength), nil
}

// putBlob stores what an attempt, a site, a person or a peer sends.
func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) error {
	d, err := protocol.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	class, err := blob.ParseClass(r.URL.Query().Get("class"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	caller := transport.CallerOf(r.Context())
	info := blob.Info{Digest: d, Size: protocol.ByteSize(r.ContentLength), Class: class}
	copies := 0
	switch caller.Kind {
	case transport.Coordinator:
		info.Owner = r.Header.Get(headerOwner)
		if info.Owner == "" {
			return protocol.Errorf(protocol.CodeBadRequest, "a peer's blob needs an owner")
		}
	case transport.Pilot:
		if info.Owner, err = s.attemptOwner(r, caller, class); err != nil {
			return err
		}
		copies = s.copies(class)
	default:
		if class != blob.Durable {
			return protocol.Errorf(protocol.CodeForbidden, "class %v is for attempts", class)
		}
		info.Owner = "user " + string(caller.User)
		if caller.Kind == transport.Site {
			if _, err := s.siteOf(caller); err != nil {
				return err
			}
			info.Owner = "site " + string(caller.Site)
		}
		copies = s.copies(class)
	}
	if _, err := s.Blobs.Put(r.Context(), info, r.Body); err != nil {
		return blobError(err)
	}
	if err := s.replicate(r.Context(), info, copies); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// attemptOwner checks that a pilot holds the lease it stores for.
func (s *Server) attemptOwner(r *http.Request, caller transport.Caller, class blob.Class) (string, error) {
	if class == blob.Durable {
		return "", protocol.Errorf(protocol.CodeForbidden, "an attempt stores logs, temp files and outputs only")
	}
	task, err := protocol.ParseTaskID(r.Header.Get(headerTask))
	if err != nil {
		return "", protocol.Errorf(protocol.CodeBadRequest, "%s: %v", headerTask, err)
	}
	id, err := protocol.ParseLeaseID(r.Header.Get(headerLease))
	if err != nil {
		return "", protocol.Errorf(protocol.CodeBadRequest, "%s: %v", headerLease, err)
	}
	pilot, err := s.core.pilotOf(&caller)
	if term, _ := s.Record.Leading(); err != nil && term == 0 {
		return "", protocol.Errorf(protocol.CodeUnknown, "pilot %s is not known here yet; repeat the request", caller.Pilot)
	}
	if err != nil {
		return "", err
	}
	var lease state.Lease
	var current bool
	s.Record.Read(func(m *state.Machine) { lease, current = m.Lease(task) })
	if !current || lease.ID != id || lease.Pilot != pilot.ID {
		if term, _ := s.Record.Leading(); term == 0 && (!current || lease.ID.Compare(id) < 0) {
			return "", protocol.Errorf(protocol.CodeUnknown, "lease %v is not known here yet; repeat the request", id)
		}
		return "", protocol.Errorf(protocol.CodeStale, "lease %v of task %v is not current", id, task)
	}
	if !s.core.passkey(&lease, pilot.PublicKey).Matches(protocol.Passkey(r.Header.Get(headerPasskey))) {
		return "", protocol.Errorf(protocol.CodeStale, "the passkey is not that of lease %v", id)
	}
	if class == blob.Log {
		return logOwner(task), nil
	}
	return jobOwner(task.Dataset, task.Job), nil
}

// copies is how many peers must hold a blob beside this coordinator before it is
// acknowledged: a majority for durable ones, one more for the others.
func (s *Server) copies(class blob.Class) int {
	voters := 0
	for _, m := range s.Record.Members() {
		if m.Voter {
			voters++
		}
	}
	if class == blob.Durable {
		return voters / 2
	}
	return min(1, max(voters-1, 0))
}

// replicate sends a blob to peers until enough have it. Peers that miss it fetch
// it when asked for it.
func (s *Server) replicate(ctx context.Context, info blob.Info, copies int) error {
	peers := s.Peers.Others()
	next := make(chan protocol.NodeID, len(peers))
	for _, node := range peers {
		next <- node
	}
	close(next)
	var mu sync.Mutex
	var all []error   // guarded by mu
	missing := copies // guarded by mu
	var sending sync.WaitGroup
	for range copies {
		sending.Go(func() { // one copy: at the first peer that takes it and has none yet
			for node := range next {
				err := s.sendBlob(ctx, node, info)
				mu.Lock()
				if err == nil {
					missing--
				} else {
					all = append(all, fmt.Errorf("coordinator %s: %w", node, err))
				}
				mu.Unlock()
				if err == nil {
					return
				}
			}
		})
	}
	sending.Wait()
	if missing > 0 {
		s.Logger.Warn("blob has too few copies", "digest", info.Digest, "err", errors.Join(all...))
		return protocol.Errorf(protocol.CodeUnknown, "blob %v: too few coordinators hold it; repeat", info.Digest)
	}
	return nil
}

func (s *Server) sendBlob(ctx context.Context, node protocol.NodeID, info blob.Info) error {
	f, stat, err := s.Blobs.Open(info.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "/v1/blobs/"+info.Digest.Hex()+"?class="+info.Class.String(), io.NopCloser(f))
	if err != nil {
		return err
	}
	r.ContentLength = int64(stat.Size)
	r.Header.Set(headerOwner, info.Owner)
	resp, err := s.Peers.Do(ctx, node, r)
	if err != nil {
		return err
	}
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	discard(resp.Body)
	return resp.Body.Close()
}

// keep stores bytes this coordinator made itself, such as a steering document.
func (s *Server) keep(ctx context.Context, class blob.Class, owner string, b []byte) (protocol.Digest, error) {
	info := blob.Info{Digest: protocol.DigestOf(b), Size: protocol.ByteSize(len(b)), Class: class, Owner: owner}
	if _, err := s.Blobs.Put(ctx, info, bytes.NewReader(b)); err != nil {
		return info.Digest, blobError(err)
	}
	return info.Digest, s.replicate(ctx, info, s.copies(class))
}

// blobError gives a refusal of the store its code.
func blobError(err error) error {
	var code protocol.Code
	switch {
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrMissing):
		code = protocol.CodeNotFound
	case errors.Is(err, blob.ErrDigest), errors.Is(err, blob.ErrSize), errors.Is(err, blob.ErrReference):
		code = protocol.CodeBadRequest
	case errors.Is(err, blob.ErrTooLarge):
		code = protocol.CodeTooLarge
	case errors.Is(err, blob.ErrQuota), errors.Is(err, blob.ErrWatermark):
		code = protocol.CodeBusy
	default:
		return err
	}
	return protocol.Errorf(code, "%v", err)
}
