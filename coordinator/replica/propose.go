package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// proposal is commands on their way, which share an entry and its fate.
type proposal struct {
	commands [][]byte
	size     int           // bytes of all commands
	fate     atomic.Uint32 // waiting → taken or withdrawn
	done     chan outcome  // receives exactly one outcome unless withdrawn
}

const (
	waiting uint32 = iota
	taken
	withdrawn
)

// outcome is the entry that holds the commands, where the first of them is in it,
// and the answers to them; or the error by which there is none.
type outcome struct {
	index, term uint64
	first       int
	answers     []any
	err         error
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
	case q.admitted+len(p.commands) > q.limit:
		return ErrBusy
	}
	q.admitted += len(p.commands)
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
	q.admitted -= len(p.commands)
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

// Outcome is what became of one of several commands: its receipt, or an error of
// Propose.
type Outcome struct {
	Receipt
	Err error
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
	all := r.ProposeAll(ctx, [][]byte{command})
	return all[0].Receipt, all[0].Err
}

// ProposeAll is Propose for several commands, in their order. They share an entry
// as far as they fit into one, and so cost hardly more than one of them; one is
// applied before the next, and what is not in the same entry may be without the other.
func (r *Replica) ProposeAll(ctx context.Context, commands [][]byte) []Outcome {
	outcomes := make([]Outcome, len(commands))
	type part struct {
		*proposal
		first int
	}
	var parts []part
	var open *proposal // takes more
	for i, c := range commands {
		if limit := r.config.Limits.CommandBytes; len(c) > limit {
			outcomes[i].Err = fmt.Errorf("propose %d bytes: %w; the limit is %d", len(c), ErrTooLarge, limit)
			open = nil // what follows stands elsewhere in outcomes
			continue
		}
		if open == nil || open.size+len(c) > r.config.Limits.BatchBytes || len(open.commands) == r.proposals.limit {
			open = &proposal{done: make(chan outcome, 1)}
			parts = append(parts, part{open, i})
		}
		open.commands, open.size = append(open.commands, c), open.size+len(c)
	}
	for _, p := range parts {
		if err := r.submit(ctx, p.proposal); err != nil {
			p.fate.Store(taken) // it has its outcome
			p.done <- outcome{err: err}
		}
	}
	for _, p := range parts {
		o := r.fateOf(ctx, p.proposal)
		for i := range p.commands {
			x := &outcomes[p.first+i]
			if o.err != nil {
				x.Err = fmt.Errorf("propose: %w", o.err)
				continue
			}
			x.Receipt = Receipt{Index: o.index, Term: o.term, Ordinal: uint32(o.first + i), Answer: o.answers[i]}
		}
	}
	return outcomes
}

// submit queues a proposal, or says why not.
func (r *Replica) submit(ctx context.Context, p *proposal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.IsLeader() {
		return r.notLeader()
	}
	err := r.proposals.admit(p)
	if errors.Is(err, ErrBusy) {
		r.count.busy.Add(uint64(len(p.commands)))
	}
	return err
}

// fateOf waits for the outcome of a submitted proposal, or withdraws it when ctx ends.
func (r *Replica) fateOf(ctx context.Context, p *proposal) outcome {
	select {
	case o := <-p.done:
		return o
	case <-ctx.Done():
	}
	if p.fate.CompareAndSwap(waiting, withdrawn) {
		return outcome{err: ctx.Err()}
	}
	select {
	case o := <-p.done: // settled at the same moment
		return o
	default:
		r.count.unknown.Add(uint64(len(p.commands)))
		return outcome{err: fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())}
	}
}
