package server

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"floe/coordinator/blob"
	"floe/protocol"
	"floe/protocol/transport"
)

// How a coordinator comes to have its copies. Durable files are few and decide
// whether work can go on, so the others' are looked through often; logs and
// outputs are many. Files between tasks are left out: they live for as long as their
// job, and a lost one has its producer run again.
const (
	mendEvery    = time.Minute      // pull what a reference names and is not here
	learnEvery   = 10 * time.Minute // look through the others' durable files
	learnAll     = 24 * time.Hour   // and through their logs and outputs, too
	learnAgain   = 5 * time.Second  // ask those that have not answered since the start
	mendBatch    = 256
	inventoryMax = 1000 // references in one answer
)

// keepCopies brings this coordinator's files up to full number until ctx ends: it
// learns from every other coordinator what there is, and pulls what is not here. A
// coordinator with an empty disk so comes to have everything, and one that a file
// was not sent to when it was acknowledged has it soon after.
func (s *Server) keepCopies(ctx context.Context) {
	mend, learn, all, again := time.NewTicker(mendEvery), time.NewTicker(learnEvery), time.NewTicker(learnAll), time.NewTicker(learnAgain)
	defer mend.Stop()
	defer learn.Stop()
	defer all.Stop()
	defer again.Stop()
	known := map[protocol.NodeID]bool{} // looked through since the start
	for {
		learned := 0
		select {
		case <-ctx.Done():
			return
		case <-mend.C:
		case <-learn.C:
			for _, node := range s.Peers.Others() {
				n, _ := s.learnClass(ctx, node, blob.Durable) // logged there; the next time is soon
				learned += n
			}
		case <-all.C:
			clear(known)
			continue
		case <-again.C:
			fresh := false
			for _, node := range s.Peers.Others() {
				if !known[node] {
					n, ok := s.learnFrom(ctx, node)
					known[node] = ok
					learned, fresh = learned+n, fresh || ok
				}
			}
			if !fresh {
				continue
			}
		}
		if learned > 0 {
			s.Logger.Info("files that other coordinators have and this one should", "references", learned)
		}
		s.mend(ctx)
	}
}

// learnFrom takes over what another coordinator has of every class worth copying.
func (s *Server) learnFrom(ctx context.Context, node protocol.NodeID) (learned int, ok bool) {
	for _, class := range []blob.Class{blob.Durable, blob.Output, blob.Log} {
		n, ok := s.learnClass(ctx, node, class)
		learned += n
		if !ok {
			return learned, false
		}
	}
	return learned, true
}

func (s *Server) learnClass(ctx context.Context, node protocol.NodeID, class blob.Class) (learned int, ok bool) {
	var page protocol.BlobsReply
	for {
		path := "/v1/coordinators/blobs?class=" + class.String() + "&cursor=" + hex.EncodeToString(page.Next)
		page = protocol.BlobsReply{}
		if err := s.readPeer(ctx, node, path, &page); err != nil {
			s.Logger.Debug("files of another coordinator not listed", "coordinator", node, "class", class.String(), "err", err)
			return learned, false
		}
		infos := make([]blob.Info, len(page.Blobs))
		for i, b := range page.Blobs {
			infos[i] = blob.Info{Digest: b.Digest, Size: b.Size, Class: class, Owner: b.Owner, Failed: b.Failed, Added: time.Unix(b.AddedUnix, 0)}
		}
		n, err := s.Blobs.Refer(infos)
		learned += n
		if err != nil {
			s.Logger.Warn("files of another coordinator not noted", "coordinator", node, "err", err)
			return learned, false
		}
		if len(page.Next) == 0 {
			return learned, true
		}
	}
}

// listBlobs tells another coordinator what this one has of a class.
func (s *Server) listBlobs(w http.ResponseWriter, r *http.Request) error {
	class, err := blob.ParseClass(r.URL.Query().Get("class"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	cursor, err := hex.DecodeString(r.URL.Query().Get("cursor"))
	if err != nil {
		return protocol.Errorf(protocol.CodeBadRequest, "cursor: %v", err)
	}
	infos, next, err := s.Blobs.List(class, string(cursor), inventoryMax)
	if err != nil {
		return err
	}
	reply := protocol.BlobsReply{Next: []byte(next)}
	for _, i := range infos {
		if !i.Missing {
			reply.Blobs = append(reply.Blobs, protocol.BlobReference{Digest: i.Digest, Size: i.Size, Owner: i.Owner, AddedUnix: i.Added.Unix(), Failed: i.Failed})
		}
	}
	return transport.WriteCBOR(w, &reply)
}

// readPeer gets a CBOR document from another coordinator.
func (s *Server) readPeer(ctx context.Context, node protocol.NodeID, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", transport.TypeCBOR)
	resp, err := s.Peers.Do(ctx, node, r)
	if err != nil {
		return err
	}
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return protocol.ReadMessage(resp.Body, resp.ContentLength, 4<<20, into)
}

// mend pulls blobs that this coordinator should have and lacks from its peers.
func (s *Server) mend(ctx context.Context) {
	var from protocol.Digest
	restored, lost := 0, 0
	for ctx.Err() == nil {
		missing, err := s.Blobs.Missing(from, mendBatch)
		if err != nil {
			s.Logger.Warn("missing blobs not listed", "err", err)
			return
		}
		for _, d := range missing {
			if err := s.mendOne(ctx, d); err != nil {
				lost++
				s.Logger.Debug("missing blob not restored", "digest", d, "err", err)
				continue
			}
			restored++
		}
		if len(missing) < mendBatch {
			break
		}
		more := false
		if from, more = blob.After(missing[len(missing)-1]); !more {
			break
		}
	}
	if restored > 0 {
		s.Logger.Info("missing blobs restored from other coordinators", "blobs", restored)
	}
	if lost > 0 && ctx.Err() == nil {
		s.Logger.Warn("missing blobs not found at any other coordinator", "blobs", lost)
	}
}

func (s *Server) mendOne(ctx context.Context, d protocol.Digest) error {
	owners, err := s.Blobs.Owners(d)
	if err != nil || len(owners) == 0 {
		return err
	}
	body, size, err := s.openBlob(ctx, d, true)
	if err != nil {
		return err
	}
	defer body.Close()
	info := owners[0]
	info.Digest, info.Size = d, size
	if _, err := s.Blobs.Put(ctx, info, body); err != nil {
		return blobError(err)
	}
	return nil
}
