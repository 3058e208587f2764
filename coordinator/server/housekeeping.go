package server

import (
	"context"
	"strings"
	"time"

	"floe/coordinator/blob"
	"floe/protocol"
)

// How often a coordinator looks after its blobs.
const (
	expireEvery = time.Hour      // end references that are older than the policy allows
	scrubEvery  = 24 * time.Hour // read everything and compare
)

// housekeep looks after this coordinator's blobs until ctx ends. Nothing it does
// is needed for correctness: a failure is logged and tried again in time.
func (s *Server) housekeep(ctx context.Context) {
	expire, scrub := time.NewTicker(expireEvery), time.NewTicker(scrubEvery)
	defer expire.Stop()
	defer scrub.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changes.more:
			s.release(ctx)
		case now := <-expire.C:
			if ended, err := s.Blobs.Expire(ctx, now, blob.DefaultPolicy()); err != nil && ctx.Err() == nil {
				s.Logger.Warn("old blobs not expired", "err", err)
			} else if ended.References > 0 {
				s.Logger.Info("old blobs expired", "references", ended.References)
			}
			s.sweepModules(ctx, now)
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

// release frees checkpoints of no further use, and the temp files of finished jobs: Figure 8's garbage collection.
// Every coordinator does it for its own copies.
func (s *Server) release(ctx context.Context) {
	for _, f := range s.changes.takeSpent() {
		text, kept := strings.CutPrefix(f.file.URL, "blob:")
		d, err := protocol.ParseDigest(text)
		if !kept || err != nil {
			continue // it is in an area: its pilot removes it
		}
		if err := s.Blobs.Delete(d, blob.Temp, jobOwner(f.task.Dataset, f.task.Job)); err != nil {
			s.Logger.Warn("a checkpoint that nobody needs stays until its job is ok", "task", f.task, "digest", d, "err", err)
		}
	}
	finished := s.changes.takeFinished()
	owners := make([]string, len(finished))
	for i, job := range finished {
		owners[i] = jobOwner(job.dataset, job.job)
	}
	owners, err := s.Blobs.Owning(blob.Temp, owners)
	if err != nil {
		s.Logger.Warn("temp files of finished jobs stay", "err", err)
		return
	}
	for _, owner := range owners {
		n, err := s.Blobs.Release(ctx, blob.Temp, owner)
		if err != nil && ctx.Err() == nil {
			s.Logger.Warn("temp files of a finished job stay", "owner", owner, "err", err)
			continue
		}
		s.Logger.Debug("temp files released", "owner", owner, "blobs", n)
	}
}
