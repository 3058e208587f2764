package replica

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"
)

// reading is one caller of ReadIndex. done receives the index to wait for, or the
// reason why none can be given.
type reading struct{ done chan readable }

type readable struct {
	index uint64
	err   error
}

// ReadIndex returns when this node's machine is known to hold everything that was
// acknowledged anywhere before the call, so that a read which follows is
// linearizable. It asks a majority; concurrent calls share one round. It fails with
// ErrNotLeader on any other node, ErrClosed, or ctx's error.
//
// It never relies on the leader's lease: the library counts a peer as heard even
// when that peer rejected the heartbeat.
func (r *Replica) ReadIndex(ctx context.Context) error {
	rd := &reading{done: make(chan readable, 1)}
	var got readable
	select {
	case r.readings <- rd:
	case <-ctx.Done():
		return fmt.Errorf("read index: %w", ctx.Err())
	case <-r.stopped:
		return fmt.Errorf("read index: %w", ErrClosed)
	}
	select {
	case got = <-rd.done:
	case <-ctx.Done():
		return fmt.Errorf("read index: %w", ctx.Err())
	case <-r.stopped:
		return fmt.Errorf("read index: %w", ErrClosed)
	}
	if got.err == nil {
		got.err = r.fsm.progress.wait(ctx, got.index, r.stopped)
	}
	if got.err != nil {
		return fmt.Errorf("read index: %w", got.err)
	}
	r.count.reads.Add(1)
	return nil
}

// WaitApplied returns when this node's machine has applied the log up to index, on
// any node: a follower that forwarded a command waits for its receipt's index.
func (r *Replica) WaitApplied(ctx context.Context, index uint64) error {
	if err := r.fsm.progress.wait(ctx, index, r.stopped); err != nil {
		return fmt.Errorf("wait for index %d: %w", index, err)
	}
	return nil
}

// Applied is the index up to which this node's machine has applied the log. On the
// leader it covers barriers and changes of members too; on a follower it is the last
// entry or change it met.
func (r *Replica) Applied() uint64 { return r.fsm.progress.now() }

// serveReads answers readings in rounds until ctx ends: those that arrive
// while a round is under way wait for the next one, because its commit index may be
// too old for them.
func (r *Replica) serveReads(ctx context.Context) {
	for {
		var round []*reading
		select {
		case rd := <-r.readings:
			round = append(round, rd)
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			select {
			case rd := <-r.readings:
				round = append(round, rd)
			default:
				more = false
			}
		}
		var got readable
		got.index, got.err = r.confirm(ctx)
		for _, rd := range round {
			rd.done <- got
		}
	}
}

// confirm is the ReadIndex protocol: note the commit index, prove leadership to a
// majority, and check that it is still the same leadership, whose barrier is done.
func (r *Replica) confirm(ctx context.Context) (uint64, error) {
	before, _ := r.standing.get()
	if !before.Leading {
		return 0, r.notLeader()
	}
	index := r.raft.CommitIndex()
	r.count.readRounds.Add(1)
	if err := r.await(ctx, func() raft.Future { return r.raft.VerifyLeader() }); err != nil {
		return 0, r.notLeader()
	}
	if after, _ := r.standing.get(); after != before || r.raft.CurrentTerm() != before.Term {
		return 0, r.notLeader()
	}
	return max(index, before.Barrier), nil
}
