package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"floe/protocol"
)

// Pace of server-sent events: at most one per settle, a comment when nothing
// happens for keepAlive, so that a dead connection is noticed.
const (
	settle    = 250 * time.Millisecond
	keepAlive = 20 * time.Second
)

// events streams a dataset's summary whenever it changes, as server-sent events
// of type dataset. The first comes at once, so a client that comes back has
// missed nothing that matters.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	id, err := number(r.URL.Query().Get("dataset"))
	if err != nil || id == 0 {
		return protocol.Errorf(protocol.CodeBadRequest, "dataset: want its number")
	}
	dataset := protocol.DatasetID(id)
	if _, err := s.view(dataset); err != nil {
		return err
	}
	l := s.changes.listen(dataset)
	defer s.changes.leave(l)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	control := http.NewResponseController(w)
	_, changed := s.Record.Leading()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	calm := time.NewTimer(settle)
	defer calm.Stop()
	for {
		if err := s.sendDataset(w, dataset); err != nil {
			return nil // the answer has begun: the client sees the stream end and comes back
		}
		if err := control.Flush(); err != nil {
			return nil // the client has gone
		}
		calm.Reset(settle)
		select {
		case <-calm.C:
		case <-r.Context().Done():
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-l.changed:
				waiting = false
			case <-alive.C:
				if _, err := fmt.Fprint(w, ": alive\n\n"); err != nil {
					return nil // the client has gone
				}
				_ = control.Flush()
			case <-changed:
				return nil // another coordinator leads now: the client comes back
			case <-r.Context().Done():
				return nil
			}
		}
	}
}

func (s *Server) sendDataset(w http.ResponseWriter, id protocol.DatasetID) error {
	d, err := s.view(id)
	if err != nil {
		return err
	}
	b, err := json.Marshal(describe(&d))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: dataset\nid: %d\ndata: %s\n\n", s.Record.Applied(), b)
	return err
}
