package transport

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// link is one live connection of a server, over QUIC or TCP.
type link struct {
	remote netip.AddrPort
	pass   *pass
	close  func() // safe to call at any time

	mu     sync.Mutex
	caller Caller // read off the handshake, once; zero until the first request over TCP
	known  bool   // caller is there
	active int    // requests in progress
	timer  *time.Timer
	ended  bool
}

type linkKey struct{}

func linkOf(ctx context.Context) *link {
	l, _ := ctx.Value(linkKey{}).(*link)
	return l
}

// watch closes the link if no request begins within d, and whenever it is idle
// for longer than begin and end allow.
func (l *link) watch(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		idle := l.active == 0 && !l.ended
		l.mu.Unlock()
		if idle {
			l.close()
		}
	})
}

// begin counts a request in and returns who speaks, which read finds out for the
// first one, and how many requests are in progress.
func (l *link) begin(read func() Caller) (c Caller, active int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		l.caller, l.known = read(), true
	}
	l.pass.arrived()
	if l.caller.Kind != Anonymous {
		l.pass.release()
	}
	l.active++
	l.timer.Stop()
	return l.caller, l.active
}

// end counts a request out. A client that was welcome is no stranger any more.
func (l *link) end(idle time.Duration, welcome bool) {
	if welcome {
		l.pass.release()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active--; l.active == 0 && !l.ended {
		l.timer.Reset(idle)
	}
}

// links are the live connections of a server.
type links struct {
	mu  sync.Mutex
	all map[*link]struct{}
}

func (s *links) add(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[l] = struct{}{}
}

// remove forgets a link whose connection has ended.
func (s *links) remove(l *link) {
	s.mu.Lock()
	delete(s.all, l)
	s.mu.Unlock()
	l.pass.release()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

func (s *links) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// matching returns the links whose caller is known and satisfies match.
func (s *links) matching(match func(Caller) bool) []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*link
	for l := range s.all {
		l.mu.Lock()
		c := l.caller
		l.mu.Unlock()
		if c.Kind != 0 && match(c) {
			found = append(found, l)
		}
	}
	return found
}
