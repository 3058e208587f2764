package replica

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// watchdog times writes to one store. A write that fails or takes too long blows
// the fuse: a disk that answers late may still write late, after raft was told
// otherwise (raft#503, raft#614), and a leader with a hung disk keeps its followers
// quiet because heartbeats do not touch the disk.
type watchdog struct {
	fuse  *fuse
	name  error // ErrLogStore or ErrStableStore
	limit time.Duration

	mu    sync.Mutex
	times Durations // guarded by mu
}

// guard runs one write. It returns an error exactly if the fuse is blown.
func (w *watchdog) guard(what string, write func() error) error {
	if err := w.fuse.err(); err != nil {
		return err
	}
	start := time.Now()
	ended := w.watch(what)
	err := write()
	ended()
	w.mu.Lock()
	w.times.add(time.Since(start))
	w.mu.Unlock()
	if err != nil {
		w.fuse.blow(fmt.Errorf("%w: %s: %w; check the disk", w.name, what, err))
	}
	return w.fuse.err()
}

// watchSteps is in how many steps the limit is waited for.
const watchSteps = 10

// watch blows the fuse unless the write ends within the limit. Only time in which
// this process could run counts: one that was frozen in the middle of a write finds
// its timer due when it wakes, and the disk is not to blame. So the limit is waited
// for step by step, and however long the freeze was, it makes one step due.
func (w *watchdog) watch(what string) (ended func()) {
	var over atomic.Bool
	left := watchSteps
	var step func()
	step = func() {
		if left--; over.Load() {
			return
		}
		if left > 0 {
			time.AfterFunc(w.limit/watchSteps, step)
			return
		}
		w.fuse.blow(fmt.Errorf("%w: %s of %w took more than %v; check the disk", ErrStalled, what, w.name, w.limit))
	}
	first := time.AfterFunc(w.limit/watchSteps, step)
	return func() {
		over.Store(true)
		first.Stop()
	}
}

func (w *watchdog) durations() Durations {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times
}
