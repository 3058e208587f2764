package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"floe/protocol"
)

// Leadership is this node's standing. Leading means more than elected: a barrier of
// this term has been applied, so the machine holds everything any earlier leader
// acknowledged, and reads and decisions based on it are sound.
type Leadership struct {
	Leading bool
	Term    uint64 // the term led; 0 when not leading
	Barrier uint64 // index of the barrier; everything up to it is applied
}

// standing holds the present Leadership and wakes those who watch it.
type standing struct {
	mu      sync.Mutex
	now     Leadership    // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced at each change
}

func newStanding() *standing { return &standing{changed: make(chan struct{})} }

func (s *standing) get() (Leadership, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.changed
}

func (s *standing) set(l Leadership) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l == s.now {
		return
	}
	s.now = l
	close(s.changed)
	s.changed = make(chan struct{})
}

// Leadership returns this node's standing and a channel that is closed when it
// changes. A watcher that is slow sees the latest standing, not each one; two
// standings of different terms are never equal.
func (r *Replica) Leadership() (Leadership, <-chan struct{}) { return r.standing.get() }

// IsLeader reports whether this node leads and has finished its barrier.
func (r *Replica) IsLeader() bool {
	l, _ := r.standing.get()
	return l.Leading
}

// Term is the current term as this node knows it.
func (r *Replica) Term() uint64 { return r.raft.CurrentTerm() }

// Leader is the leader this node knows of, itself included; false when none is.
func (r *Replica) Leader() (Member, bool) {
	address, id := r.raft.LeaderWithID()
	return Member{ID: protocol.NodeID(id), Address: string(address), Voter: true}, id != ""
}

// notLeader is the answer to those who need the leader.
func (r *Replica) notLeader() error {
	m, ok := r.Leader()
	if !ok || m.ID == r.config.ID {
		return &NotLeaderError{}
	}
	return &NotLeaderError{Leader: m}
}

// watchLeadership turns raft's elections into standings until ctx ends. Raft
// waits for its notices to be read, so none is lost.
func (r *Replica) watchLeadership(ctx context.Context) {
	defer r.standing.set(Leadership{})
	var barrier <-chan Leadership // of the election last heard of
	deposed := func() {}
	for {
		select {
		case elected := <-r.elections:
			r.standing.set(Leadership{})
			deposed()
			barrier = nil
			if elected {
				var term context.Context
				term, deposed = context.WithCancel(ctx)
				result := make(chan Leadership, 1)
				barrier = result
				r.raftWork.Go(func() { r.barrier(term, result) })
			}
		case l := <-barrier:
			barrier = nil
			r.log.Info("leading", "term", l.Term, "index", l.Barrier)
			r.standing.set(l)
		case <-r.fuse.blown:
			deposed()
			return
		case <-ctx.Done():
			deposed()
			return
		}
	}
}

// barrierRetry is the pause after a barrier was turned away by a leader that still
// hands over.
const barrierRetry = 100 * time.Millisecond

// barrier commits and applies a barrier in the present term, or gives up when ctx
// ends. An unchanged term before and after proves one unbroken leadership: a term
// has one leader, and one that lost it does not regain it.
func (r *Replica) barrier(ctx context.Context, result chan<- Leadership) {
	for {
		term := r.raft.CurrentTerm()
		future := r.raft.Barrier(r.config.Limits.StoreStall)
		err := future.Error()
		r.transfers.saw(err)
		if r.raft.State() != raft.Leader {
			return
		}
		if err == nil && r.raft.CurrentTerm() == term {
			index := future.(raft.IndexFuture).Index()
			r.fsm.progress.advance(index)
			result <- Leadership{Leading: true, Term: term, Barrier: index}
			return
		}
		retry := time.NewTimer(barrierRetry)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return
		}
	}
}
