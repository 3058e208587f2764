package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// proposal is one command on its way.
type proposal struct {
	command []byte
	fate    atomic.Uint32 // waiting → taken or withdrawn
	done    chan outcome  // receives exactly one outcome unless withdrawn
}

const (
	waiting uint32 = iota
	taken
	withdrawn
)

type outcome struct {
	receipt Receipt
	err     error
}

// proposals admits commands and counts those whose outcome is not known yet.
type proposals struct {
	limit int
	queue chan *proposal // as long as the limit: sending never blocks
	slots chan struct{}  // one element per entry in flight

	mu       sync.Mutex
	closed   bool          // guarded by mu
	admitted int           // guarded by mu
	idle     chan struct{} // guarded by mu; closed when closed and none admitted
}

func newProposals(l Limits) *proposals {
	return &proposals{
		limit: l.Admitted, queue: make(chan *proposal, l.Admitted), slots: make(chan struct{}, l.InFlight),
		idle: make(chan struct{}),
	}
}

// admit queues a proposal or refuses it.
func (q *proposals) admit(p *proposal) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.admitted >= q.limit:
		return ErrBusy
	}
	q.admitted++
	q.queue <- p
	return nil
}

// settle delivers an outcome and makes room. It is called exactly once per admitted
// proposal, also for one that was withdrawn.
func (q *proposals) settle(p *proposal, o outcome) {
	if p.fate.Load() != withdrawn {
		p.done <- o
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admitted--
	q.signalLocked()
}

// close refuses further proposals. The channel is closed when the last one settled.
func (q *proposals) close() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.signalLocked()
	}
	return q.idle
}

func (q *proposals) signalLocked() {
	if q.closed && q.admitted == 0 {
		close(q.idle)
	}
}

func (q *proposals) load() (admitted, inFlight int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admitted, len(q.slots)
}

// Propose has the cluster apply one command and waits for this node's machine to
// apply it. It may be called concurrently; command must not be changed until it
// returns, nor afterwards if the error is ErrUnknown.
//
// ErrNotLeader, ErrBusy, ErrTooLarge, ErrClosed and errors of the stamper mean that
// the command is not applied and never will be; so does ctx's own error, returned
// when ctx ends while the command still waits for others to share its entry.
// ErrUnknown means that nobody here knows: repeat the command under an identity by
// which the machine recognises it.
func (r *Replica) Propose(ctx context.Context, command []byte) (Receipt, error) {
	if limit := r.config.Limits.CommandBytes; len(command) > limit {
		return Receipt{}, fmt.Errorf("propose %d bytes: %w; the limit is %d", len(command), ErrTooLarge, limit)
	}
	if err := ctx.Err(); err != nil {
		return Receipt{}, fmt.Errorf("propose: %w", err)
	}
	if !r.IsLeader() {
		return Receipt{}, fmt.Errorf("propose: %w", r.notLeader())
	}
	p := &proposal{command: command, done: make(chan outcome, 1)}
	if err := r.proposals.admit(p); err != nil {
		if errors.Is(err, ErrBusy) {
			r.count.busy.Add(1)
		}
		return Receipt{}, fmt.Errorf("propose: %w", err)
	}
	var o outcome
	select {
	case o = <-p.done:
	case <-ctx.Done():
		if p.fate.CompareAndSwap(waiting, withdrawn) {
			return Receipt{}, fmt.Errorf("propose: %w", ctx.Err())
		}
		select {
		case o = <-p.done: // settled at the same moment
		default:
			r.count.unknown.Add(1)
			return Receipt{}, fmt.Errorf("propose: %w: %w", ErrUnknown, ctx.Err())
		}
	}
	if o.err != nil {
		return Receipt{}, fmt.Errorf("propose: %w", o.err)
	}
	return o.receipt, nil
}
