package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"floe/coordinator/replica"
	"floe/coordinator/server"
	"floe/protocol"
)

// Disk says when the disk under a coordinator is too full (I-24). Zero values take
// the defaults.
type Disk struct {
	// Low is how much must be free to lead and to take submissions. Default: a tenth
	// of the disk, at least 1 GiB and at most 10 GiB, as for blobs.
	Low protocol.ByteSize
	// Stop is how much must be free to go on at all: below it the log could fail in
	// the middle of a write. Default: a fiftieth of the disk, at most a fifth of Low.
	Stop protocol.ByteSize
	// Every is how often it is measured; default 5 s.
	Every time.Duration
	// Measure tells how much is free for this user and how much there is; nil asks the
	// file system of Dir.
	Measure func() (free, total protocol.ByteSize, err error)
}

// Bounds of the defaults.
const (
	diskLeast = 1 << 30
	diskMost  = 10 << 30
)

// limits are Low and Stop for a disk of a size.
func (d *Disk) limits(total protocol.ByteSize) (low, stop protocol.ByteSize) {
	low, stop = d.Low, d.Stop
	if low == 0 {
		low = max(diskLeast, min(total/10, diskMost))
	}
	if stop == 0 {
		stop = min(total/50, low/5)
	}
	return low, stop
}

// diskWatch knows how full the disk is.
type diskWatch struct {
	config Disk
	dir    string

	mu    sync.Mutex
	space server.Space // guarded by mu
}

func newDiskWatch(config Disk, dir string, measure func() (free, total protocol.ByteSize, err error)) *diskWatch {
	if config.Every == 0 {
		config.Every = 5 * time.Second
	}
	if config.Measure == nil {
		config.Measure = measure
	}
	return &diskWatch{config: config, dir: dir}
}

// look measures. It fails with replica.ErrDiskFull where too little is left to go
// on; a disk that was low stays so until a quarter more than the limit is free.
func (w *diskWatch) look() error {
	free, total, err := w.config.Measure()
	if err != nil {
		return err
	}
	low, stop := w.config.limits(total)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.space.Low {
		low += low / 4
	}
	w.space = server.Space{Free: free, Total: total, Low: free < low}
	if free < stop {
		return fmt.Errorf("%w: %v of %v are free in %s and %v are needed; free some and start again", replica.ErrDiskFull, free, total, w.dir, stop)
	}
	return nil
}

// now is what was measured last.
func (w *diskWatch) now() server.Space {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.space
}

// handOverEvery is how often a leader whose disk is low looks for another one.
const handOverEvery = 30 * time.Second

// watchDisk measures until ctx ends, and ends the coordinator where nothing is left.
// A leader whose disk is low hands over to a voter whose disk is not; without one it
// goes on leading, and takes reports only.
func (n *node) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(n.disk.config.Every)
	defer tick.Stop()
	var was bool
	var tried time.Time
	for {
		if err := n.disk.look(); err != nil {
			return err
		}
		space := n.disk.now()
		if space.Low != was {
			was = space.Low
			if was {
				n.config.Logger.Warn("disk nearly full: this coordinator does not lead and takes no submissions", "free", space.Free, "total", space.Total)
			} else {
				n.config.Logger.Info("disk has room again", "free", space.Free)
			}
		}
		if term, _ := n.record.Leading(); space.Low && term != 0 && time.Since(tried) > min(handOverEvery, 6*n.disk.config.Every) {
			tried = time.Now()
			n.handOverForDisk(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// handOverForDisk makes a voter lead that has room.
func (n *node) handOverForDisk(ctx context.Context) {
	for _, m := range n.record.Members() {
		if m.Self || !m.Voter || !m.Healthy || m.Address == "" {
			continue
		}
		theirs, err := n.askCluster(ctx, m.Address)
		if err != nil || theirs.DiskLow {
			continue
		}
		if _, err := (membership{n.record}).Transfer(ctx, m.ID); err != nil {
			n.config.Logger.Warn("leadership stays on a full disk", "coordinator", m.ID, "err", err)
			continue
		}
		n.config.Logger.Warn("leadership handed over: the disk is nearly full", "coordinator", m.ID)
		return
	}
	n.config.Logger.Warn("disk nearly full, and no other voter has room: this coordinator goes on leading and takes reports only")
}
