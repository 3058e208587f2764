package payload

import (
	"sync"
	"syscall"
	"time"
)

// Pause has payloads stand still, and go on: those of every Run that was given it.
// A new one runs. It may be used by many goroutines at once.
type Pause struct {
	mu      sync.Mutex
	on      bool
	changed chan struct{} // closed at the next change
}

// NewPause makes a pause that is off.
func NewPause() *Pause { return &Pause{changed: make(chan struct{})} }

// Set has all stand still, or go on.
func (p *Pause) Set(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on != on {
		p.on = on
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// state is whether payloads stand still, and what closes when that changes. Without a
// pause they run.
func (p *Pause) state() (on bool, changed <-chan struct{}) {
	if p == nil {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.on, p.changed
}

// standing is how a module stands still: for how long, and since when, if it does now.
type standing struct {
	since time.Time
	sum   time.Duration
}

// obey stops the processes of a module, or has them go on. What forked meanwhile is
// stopped the next time. A module that is being ended goes on, or it could not obey.
func (s *standing) obey(on bool, now time.Time, members []process) {
	switch {
	case on:
		if s.since.IsZero() {
			s.since = now
		}
		running := make([]process, 0, len(members))
		for _, p := range members {
			if p.state != 'T' && p.state != 'Z' {
				running = append(running, p)
			}
		}
		signalAll(running, syscall.SIGSTOP)
	case !s.since.IsZero():
		s.sum += now.Sub(s.since)
		s.since = time.Time{}
		signalAll(members, syscall.SIGCONT)
	}
}
