package pilot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"floe/pilot/payload"
	"floe/pilot/stage"
	"floe/protocol"
)

// How often the checkpoints of a module that goes on running are stored at least
// apart; the first, and those that the pilot has asked for, are stored at once. What
// coordinators hold themselves stays there until the job is ok.
const (
	storeEvery      = 5 * time.Minute
	storeBlobsEvery = time.Hour
)

// storeCheckpointWithin is how long storing one may take. A pilot that ends does not
// wait for it.
const storeCheckpointWithin = 10 * time.Minute

// savings brings the checkpoints of an attempt to storage: always the newest.
type savings struct {
	attempt *Attempt
	every   time.Duration

	mu      sync.Mutex
	newest  *payload.Checkpoint   // guarded by mu; not stored, nil for none
	stored  []protocol.FileRecord // guarded by mu; oldest first, at most two
	last    time.Time             // guarded by mu; when the last was stored
	count   int                   // guarded by mu
	failed  bool                  // guarded by mu; the newest could not be stored
	ending  bool                  // guarded by mu; the payload has ended
	working bool                  // guarded by mu; one is being stored
	timer   *time.Timer           // guarded by mu; of one that waits
	work    sync.WaitGroup
}

func newSavings(a *Attempt) *savings {
	s := &savings{attempt: a, every: storeEvery}
	if a.Lease.TempArea == "" {
		s.every = storeBlobsEvery
	}
	return s
}

// take takes a checkpoint from the payload (payload.Options.Saved).
func (s *savings) take(c payload.Checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked()
	s.newest, s.failed = &c, false
	s.startLocked()
}

// dropLocked forgets what was not stored yet.
func (s *savings) dropLocked() {
	if s.newest != nil {
		if err := os.Remove(s.newest.File); err != nil {
			s.attempt.Logger.Warn("an old checkpoint stays until the attempt's end", "err", err)
		}
		s.newest = nil
	}
}

// startLocked stores the newest, now or when it is time.
func (s *savings) startLocked() {
	if s.newest == nil || s.working {
		return
	}
	wait := time.Until(s.last.Add(s.every))
	if s.newest.Asked && !s.failed || s.ending || s.last.IsZero() || wait <= 0 {
		s.working = true
		s.work.Go(s.store)
		return
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.timer = nil; !s.ending {
				s.startLocked()
			}
		})
	}
}

// store stores the newest checkpoint, and what came meanwhile.
func (s *savings) store() {
	s.mu.Lock()
	c := s.newest
	s.newest = nil
	s.count++
	n, final := s.count, s.ending
	s.mu.Unlock()
	a := s.attempt
	if c == nil { // dropped meanwhile
		s.mu.Lock()
		s.working = false
		s.mu.Unlock()
		return
	}
	record, err := a.storeCheckpoint(c, n)
	if err != nil {
		a.Logger.Warn("checkpoint not stored", "err", err)
	} else {
		if a.Stored != nil {
			a.Stored(record)
		}
		a.Logger.Info("checkpoint stored", "size", c.Size.String(), "kept", c.Kept.Round(time.Second))
	}
	var old []protocol.FileRecord
	s.mu.Lock()
	s.working, s.last = false, time.Now()
	if err != nil && s.newest == nil && !final {
		s.newest, s.failed = c, true // tried again in time, or when the payload has ended
	} else {
		_ = os.Remove(c.File) // else it goes with the attempt's directory
	}
	if err == nil {
		s.stored = append(s.stored, record)
		// The coordinators may know of the last but one only: two are kept.
		if len(s.stored) > 2 {
			old, s.stored = s.stored[:1:1], s.stored[1:]
		}
	}
	s.startLocked()
	s.mu.Unlock()
	a.drop(old)
}

// newestStored is what another attempt can go on from.
func (s *savings) newestStored() *protocol.FileRecord {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stored) == 0 {
		return nil
	}
	record := s.stored[len(s.stored)-1]
	return &record
}

// finish ends the storing: the last checkpoint is stored where it is of use, and is
// not where the attempt has done its work.
func (s *savings) finish(useful bool) {
	s.mu.Lock()
	s.ending = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if useful {
		s.startLocked()
	} else {
		s.dropLocked()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// storeCheckpoint sends a checkpoint to the job's temp area, under a name that no
// other attempt has.
func (a *Attempt) storeCheckpoint(c *payload.Checkpoint, n int) (protocol.FileRecord, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), storeCheckpointWithin)
	defer cancel()
	stop := context.AfterFunc(a.ctx, func() {
		if errors.Is(context.Cause(a.ctx), payload.ErrAbandoned) {
			cancel() // nobody will go on from it
		}
	})
	defer stop()
	if a.Gone != nil {
		go func() {
			select {
			case <-a.Gone:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	out := stage.Output{Type: protocol.FileCheckpoint, Name: "checkpoint", Local: filepath.Base(c.File), Final: true}
	if area := strings.TrimSuffix(a.Lease.TempArea, "/"); area != "" {
		out.URL = fmt.Sprintf("%s/%d/%d/checkpoint-%d.%s-%d", area, a.Lease.Task.Dataset, a.Lease.Task.Job, a.Lease.Task.Task, a.Lease.ID, n)
	}
	return a.Mover.Store(ctx, out, filepath.Dir(c.File), a.Lease.ID)
}

// earlier is the checkpoint that an earlier attempt of the task has left, nil for none.
func (a *Attempt) earlier() *protocol.FileRecord {
	for i := range a.Lease.Inputs {
		if f := &a.Lease.Inputs[i]; f.Type == protocol.FileCheckpoint {
			return f
		}
	}
	return nil
}

// fetchEarlier brings the checkpoint of an earlier attempt here, and returns its
// file: empty where there is none, or none to be had. Then the task starts anew.
func (a *Attempt) fetchEarlier(ctx context.Context) string {
	f := a.earlier()
	if f == nil {
		return ""
	}
	const local = "earlier-checkpoint"
	in := stage.Input{URL: f.URL, Local: local, Checksum: f.Digest.String()}
	if _, err := a.Mover.Fetch(ctx, in, string(a.dir)); err != nil {
		a.Logger.Warn("the checkpoint of an earlier attempt cannot be had; the task starts anew", "err", err)
		return ""
	}
	return filepath.Join(string(a.dir), local)
}

// keepCheckpoint puts the newest checkpoint into the report, where an attempt can go
// on from it.
func (a *Attempt) keepCheckpoint() {
	if record := a.savings.newestStored(); record != nil && a.report.Verdict.KeepsCheckpoint() && len(a.report.Outputs) < protocol.MaxOutputs {
		a.report.Outputs = append(a.report.Outputs, *record)
	}
}

// spent are the checkpoints that nobody needs once the report is settled, and what
// else an attempt that failed had stored. The outputs of a report that is not accepted
// are not among them.
func (a *Attempt) spent(report *protocol.Report, accepted bool) (files []protocol.FileRecord) {
	var reported *protocol.FileRecord
	for i := range report.Outputs {
		switch o := &report.Outputs[i]; {
		case o.Type == protocol.FileCheckpoint:
			reported = o
		case accepted && report.Verdict != protocol.VerdictOK:
			files = append(files, *o)
		}
	}
	if a.savings != nil {
		for _, f := range a.savings.stored {
			if reported == nil || f.URL != reported.URL {
				files = append(files, f)
			}
		}
	}
	if old := a.earlier(); old != nil && accepted && (reported != nil || !report.Verdict.KeepsCheckpoint()) {
		files = append(files, *old)
	}
	return files
}

// drop removes files that nobody needs any more.
func (a *Attempt) drop(files []protocol.FileRecord) {
	if err := a.Mover.Discard(context.WithoutCancel(a.ctx), files); err != nil {
		a.Logger.Warn("files that nobody needs stay", "err", err)
	}
}
