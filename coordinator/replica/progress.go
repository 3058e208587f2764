package replica

import (
	"context"
	"sync"
)

// progress is the index up to which the machine has applied the log. Raft's own
// AppliedIndex counts entries that only wait for the machine.
type progress struct {
	mu      sync.Mutex
	index   uint64        // guarded by mu; never falls
	changed chan struct{} // guarded by mu; nil while nobody waits
}

// advance moves the index forward.
func (p *progress) advance(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index {
		return
	}
	p.index = index
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *progress) now() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index
}

// wait returns when the index has reached at least the given one, ctx ended, or
// stop was closed.
func (p *progress) wait(ctx context.Context, index uint64, stop <-chan struct{}) error {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return ErrClosed
		}
	}
}
