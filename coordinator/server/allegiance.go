package server

import (
	"context"
	"sync"
	"time"

	"floe/protocol"
)

// allegiance tells requests that were forwarded to a coordinator when that leads no
// more: one that lost its power would keep them waiting for as long as TCP hopes.
type allegiance struct {
	mu     sync.Mutex
	leader protocol.NodeID // guarded by mu
	moved  chan struct{}   // guarded by mu; closed when the leader is another, or none
}

// lookForLeader is how often a coordinator looks whom it follows.
const lookForLeader = 250 * time.Millisecond

// to returns a channel that is closed when this coordinator no longer follows the leader.
func (a *allegiance) to(leader protocol.NodeID) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved == nil || a.leader != leader {
		if a.moved != nil {
			close(a.moved)
		}
		a.leader, a.moved = leader, make(chan struct{})
	}
	return a.moved
}

// follow watches whom this coordinator follows until ctx ends.
func (s *Server) follow(ctx context.Context) {
	tick := time.NewTicker(lookForLeader)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.allegiance.to(s.Record.Leader())
		case <-ctx.Done():
			return
		}
	}
}

// whileLeading is ctx until this coordinator no longer follows the leader.
func (s *Server) whileLeading(ctx context.Context, leader protocol.NodeID) (context.Context, context.CancelFunc) {
	moved := s.allegiance.to(leader)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-moved:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
