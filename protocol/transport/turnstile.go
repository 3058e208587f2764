package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

// handshakeTurn is how long a handshake counts as under way at most: several round
// trips around the world.
const handshakeTurn = 500 * time.Millisecond

// turnstile bounds the handshakes under way. One costs as much as many requests, and
// thousands come at once when a coordinator returns: without a bound all of them
// advance together, so that few are done before their clients give up, and requests
// on the connections that stand wait behind all of them. Those that wait hold nothing
// but a packet, or a place in the kernel's queue; packets beyond what these queues
// take are lost and sent again.
type turnstile struct {
	places  chan struct{} // holds one for each that is under way
	delayed atomic.Uint64 // have had to wait
}

func newTurnstile(l *Limits) *turnstile {
	return &turnstile{places: make(chan struct{}, l.Handshakes)}
}

// enter waits for a place. It is given back by leave, which may be called more than
// once, or else after one turn: a handshake that is not done by then waits for its
// client, and clients that never answer must not keep the others out.
func (t *turnstile) enter() (leave func()) {
	select {
	case t.places <- struct{}{}:
	default:
		t.delayed.Add(1)
		t.places <- struct{}{} // for a turn at most
	}
	left := sync.OnceFunc(func() { <-t.places })
	late := time.AfterFunc(handshakeTurn, left)
	return sync.OnceFunc(func() { // every request of the connection calls it
		late.Stop()
		left()
	})
}
