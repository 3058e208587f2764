package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Run serves until ctx ends, the fuse blows, the node is removed or Close is called,
// and returns when all its goroutines have, unless the disk hangs. It returns nil
// after ctx or Close, else the named cause. It is called once.
//
// When ctx ends the node drains (at most Limits.Drain): it refuses new commands,
// waits for those in flight, hands leadership to another voter, and only then leaves.
func (r *Replica) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("run replica: already running")
	}
	serving, halt := context.WithCancel(context.WithoutCancel(ctx))
	defer halt()
	var work sync.WaitGroup
	for _, loop := range []func(context.Context){
		r.watchLeadership, newCommitter(r).run, r.serveReads, r.promote, r.keepRetention,
	} {
		work.Go(func() { loop(serving) })
	}

	var cause error
	select {
	case <-ctx.Done():
		r.drain()
	case <-r.ending:
	case <-r.fuse.blown:
	}
	halt()
	r.shutdown()
	work.Wait()
	if err := r.fuse.err(); err != nil && !errors.Is(err, ErrClosed) {
		cause = fmt.Errorf("run replica: %w", err)
		r.log.Error("replica stopped", "err", err)
	}
	return cause
}

// Close ends the replica as a crash would: no draining, no hand-over. It is for
// replicas that Run does not end, and is harmless after Run.
func (r *Replica) Close() error {
	r.end.Do(func() { close(r.ending) })
	if !r.running.Load() {
		r.shutdown()
	}
	return nil
}

// drain hands over before the process exits. Leadership is transferred at no other
// time by itself: raft can leave a transfer half done (raft#696).
func (r *Replica) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), r.config.Limits.Drain)
	defer cancel()
	select {
	case <-r.proposals.close():
	case <-ctx.Done():
	case <-r.fuse.blown:
		return
	}
	if r.raft.State() != raft.Leader || r.voters() < 2 {
		return
	}
	if err := r.TransferLeadership(ctx, ""); err != nil {
		r.log.Warn("leaving without a hand-over", "err", err)
	}
}

func (r *Replica) voters() (n int) {
	for _, m := range r.Members() {
		if m.Voter {
			n++
		}
	}
	return n
}

// shutdown stops raft and closes the stores, once. Everything that waits for raft is
// given the time a cut-off leader needs to step down, because raft answers nobody
// once it is told to stop. Stores under a hung write are left to the process's end.
func (r *Replica) shutdown() {
	r.stop.Do(func() {
		r.fuse.blow(ErrClosed) // sever first: a closing member must not answer peers
		r.proposals.close()
		limit := r.config.Timing.Lease + time.Second
		within(limit, r.raftWork.idle())
		close(r.stopped)
		future := r.raft.Shutdown()
		done := make(chan struct{})
		go func() {
			future.Error()
			close(done)
		}()
		if within(limit, done) {
			r.closeStores()
		}
	})
}

// within reports whether done was closed in time.
func within(limit time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// snapshotRetry is the pause after a snapshot failed; the log grows meanwhile.
const snapshotRetry = 30 * time.Second

// keepRetention takes a snapshot whenever one is due, until ctx ends.
func (r *Replica) keepRetention(ctx context.Context) {
	retry := time.NewTimer(snapshotRetry)
	retry.Stop()
	for {
		select {
		case <-r.retention.due:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
		if err := r.Snapshot(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("no snapshot; the log keeps growing", "err", err)
			retry.Reset(snapshotRetry)
		}
	}
}

// SnapshotInfo describes a snapshot on disk.
type SnapshotInfo struct {
	Index uint64 // of the last entry in it
	Bytes int64
}

// LatestSnapshot is the newest snapshot on disk; zero where there is none.
func (r *Replica) LatestSnapshot() (SnapshotInfo, error) {
	all, err := r.snapshots.List() // the newest first
	if err != nil || len(all) == 0 {
		return SnapshotInfo{}, err
	}
	return SnapshotInfo{Index: all[0].Index, Bytes: all[0].Size}, nil
}

// Snapshot captures the machine, writes it to disk and truncates the log behind it.
// It is taken by itself whenever Limits say; a backup or a test may ask for one.
// Nothing new since the last one is not an error.
func (r *Replica) Snapshot(ctx context.Context) error {
	r.snapshotMu.Lock()
	defer r.snapshotMu.Unlock()
	start := time.Now()
	keep := r.raft.ReloadableConfig()
	keep.TrailingLogs = r.retention.trailing()
	if err := r.raft.ReloadConfig(keep); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	err := r.await(ctx, func() raft.Future { return r.raft.Snapshot() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	r.retention.persisted()
	r.count.snapshots.Add(1)
	r.timesMu.Lock()
	r.snapshotTimes.add(time.Since(start))
	r.timesMu.Unlock()
	r.log.Info("snapshot taken", "index", r.fsm.persisted.Load(), "took", time.Since(start))
	return nil
}
