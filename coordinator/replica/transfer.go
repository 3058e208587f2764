package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"floe/protocol"
)

// stuckTransfer is how long raft may turn entries away for a leadership transfer. A
// transfer ends by itself within two election timeouts; this allows for the slowest
// Timing.
const stuckTransfer = 30 * time.Second

// transferGuard notices a transfer that never ends: raft sets a flag for its length
// and can leave it set for ever, also for later terms (raft#696). Only a restart
// clears it.
type transferGuard struct {
	fuse *fuse

	mu    sync.Mutex
	since time.Time // guarded by mu; first refusal in a row; zero: none
}

// saw judges the outcome of an entry or barrier.
func (g *transferGuard) saw(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.since = time.Time{}
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
	case g.since.IsZero():
		g.since = time.Now()
	case time.Since(g.since) > stuckTransfer:
		g.fuse.blow(fmt.Errorf("%w for %v; the restart of this node clears it", ErrTransferStuck, stuckTransfer))
	}
}

// TransferLeadership hands leadership to a voter, or where to is empty to the one
// whose log is most complete, and returns when this node has stepped down. Run does
// it by itself before it ends; on a node that goes on running it is for maintenance
// only (see ErrTransferStuck).
func (r *Replica) TransferLeadership(ctx context.Context, to protocol.NodeID) error {
	if r.raft.State() != raft.Leader {
		return fmt.Errorf("transfer leadership: %w", r.notLeader())
	}
	start := r.raft.LeadershipTransfer
	if to != "" {
		members := r.Members()
		i := slices.IndexFunc(members, func(m Member) bool { return m.ID == to && m.Voter })
		if i < 0 {
			return fmt.Errorf("transfer leadership to %s: %w", to, ErrNoMember)
		}
		address := raft.ServerAddress(members[i].Address)
		start = func() raft.Future { return r.raft.LeadershipTransferToServer(raft.ServerID(to), address) }
	}
	if err := r.await(ctx, start); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	return nil
}

// await waits for one of raft's futures, or for ctx. The library's futures know no
// context, so the wait goes on behind a caller that left, until raft answers.
func (r *Replica) await(ctx context.Context, start func() raft.Future) error {
	done := make(chan error, 1)
	r.raftWork.Go(func() { done <- start().Error() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.stopped:
		return ErrClosed
	}
}
