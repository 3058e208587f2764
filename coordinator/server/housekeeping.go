package server

import (
	"context"
	"time"

	"floe/coordinator/blob"
	"floe/protocol"
)

// How often a coordinator looks after its blobs.
const (
	mendEvery   = time.Minute    // pull what a reference names and is not here
	expireEvery = time.Hour      // end references that are older than the policy allows
	scrubEvery  = 24 * time.Hour // read everything and compare
	mendBatch   = 64
)

// housekeep looks after this coordinator's blobs until ctx ends. Nothing it does
// is needed for correctness: a failure is logged and tried again in time.
func (s *Server) housekeep(ctx context.Context) {
	mend, expire, scrub := time.NewTicker(mendEvery), time.NewTicker(expireEvery), time.NewTicker(scrubEvery)
	defer mend.Stop()
	defer expire.Stop()
	defer scrub.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changes.more:
			s.release(ctx)
		case <-mend.C:
			s.mend(ctx)
		case now := <-expire.C:
			if ended, err := s.Blobs.Expire(ctx, now, blob.DefaultPolicy()); err != nil && ctx.Err() == nil {
				s.Logger.Warn("old blobs not expired", "err", err)
			} else if ended.References > 0 {
				s.Logger.Info("old blobs expired", "references", ended.References)
			}
		case <-scrub.C:
			found, err := s.Blobs.Scrub(ctx)
			if err != nil && ctx.Err() == nil {
				s.Logger.Warn("blobs not scrubbed", "err", err)
			} else if len(found.Damaged) > 0 {
				s.Logger.Error("damaged blobs moved to quarantine; peers are asked for them", "damaged", len(found.Damaged))
			}
		}
	}
}

// mend pulls blobs that this coordinator should have and lacks from its peers.
func (s *Server) mend(ctx context.Context) {
	missing, err := s.Blobs.Missing(protocol.Digest{}, mendBatch)
	if err != nil {
		s.Logger.Warn("missing blobs not listed", "err", err)
		return
	}
	for _, d := range missing {
		if err := s.mendOne(ctx, d); err != nil && ctx.Err() == nil {
			s.Logger.Warn("missing blob not found at any peer", "digest", d, "err", err)
		}
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
	s.Logger.Info("missing blob restored from a peer", "digest", d)
	return nil
}

// release frees the temp files of finished jobs: Figure 8's garbage collection.
// Every coordinator does it for its own copies.
func (s *Server) release(ctx context.Context) {
	for _, job := range s.changes.takeFinished() {
		n, err := s.Blobs.Release(ctx, blob.Temp, jobOwner(job.dataset, job.job))
		if err != nil && ctx.Err() == nil {
			s.Logger.Warn("temp files of a finished job stay", "dataset", job.dataset, "job", job.job, "err", err)
			continue
		}
		s.Logger.Debug("temp files released", "dataset", job.dataset, "job", job.job, "blobs", n)
	}
}
