package replica

import "sync"

// pending counts goroutines that wait for an answer of raft. Unlike a WaitGroup it
// may be waited for while more are being started.
type pending struct {
	mu   sync.Mutex
	n    int           // guarded by mu
	none chan struct{} // guarded by mu; non-nil while somebody waits
}

// Go runs f in a goroutine of its own.
func (p *pending) Go(f func()) {
	p.mu.Lock()
	p.n++
	p.mu.Unlock()
	go func() {
		defer p.done()
		f()
	}()
}

func (p *pending) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n == 0 && p.none != nil {
		close(p.none)
		p.none = nil
	}
}

// idle returns a channel that is closed when none is running.
func (p *pending) idle() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if p.none == nil {
		p.none = make(chan struct{})
	}
	return p.none
}
