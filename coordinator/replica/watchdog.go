package replica

import (
	"fmt"
	"sync"
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
	timer := time.AfterFunc(w.limit, func() {
		w.fuse.blow(fmt.Errorf("%w: %s of %w took more than %v; check the disk", ErrStalled, what, w.name, w.limit))
	})
	err := write()
	timer.Stop()
	w.mu.Lock()
	w.times.add(time.Since(start))
	w.mu.Unlock()
	if err != nil {
		w.fuse.blow(fmt.Errorf("%w: %s: %w; check the disk", w.name, what, err))
	}
	return w.fuse.err()
}

func (w *watchdog) durations() Durations {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times
}
