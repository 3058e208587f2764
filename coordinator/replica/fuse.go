package replica

import "sync"

// fuse takes the node out, once and for good. Blowing it severs the network before
// anything else happens, so that whatever raft believes from then on (a term that
// was not written, a vote that was not kept) can reach nobody; then it tells Run.
// It may be blown from any goroutine.
type fuse struct {
	sever func() // closes the listener and every connection; returns at once
	blown chan struct{}

	once  sync.Once
	cause error // written before blown is closed, read after
}

func newFuse(sever func()) *fuse {
	return &fuse{sever: sever, blown: make(chan struct{})}
}

// blow takes the node out; only the first cause counts.
func (f *fuse) blow(cause error) {
	f.once.Do(func() {
		f.cause = cause
		f.sever()
		close(f.blown)
	})
}

// err returns the cause, or nil while the fuse is whole.
func (f *fuse) err() error {
	select {
	case <-f.blown:
		return f.cause
	default:
		return nil
	}
}
