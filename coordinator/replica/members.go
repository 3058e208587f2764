package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"floe/protocol"
)

const (
	// promoteEvery is the leader's interval of looking after non-voters.
	promoteEvery = time.Second

	// promoteLag is how many entries a non-voter may be behind. Source: research E2.
	promoteLag = 250
)

// Bootstrap founds a cluster of the given voters, or of this node alone. Several
// founders must be given the same members. It fails with ErrBootstrapped if this
// node has any state.
func (r *Replica) Bootstrap(ctx context.Context, founders ...Member) error {
	if len(founders) == 0 {
		founders = []Member{{ID: r.config.ID, Address: r.config.Address}}
	}
	var c raft.Configuration
	for _, m := range founders {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Address)})
	}
	err := r.await(ctx, func() raft.Future { return r.raft.BootstrapCluster(c) })
	if errors.Is(err, raft.ErrCantBootstrap) {
		err = ErrBootstrapped
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// Members are the servers of the latest configuration, committed or not, in the
// order they joined.
func (r *Replica) Members() []Member {
	var out []Member
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		out = append(out, Member{ID: protocol.NodeID(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return out
}

// AddNonvoter admits a new member without a vote, or tells the cluster a member's new
// address. Leader only. An id whose storage was lost must not be used again.
func (r *Replica) AddNonvoter(ctx context.Context, id protocol.NodeID, address string) error {
	return r.change(ctx, fmt.Sprintf("add member %s", id), func() raft.Future {
		return r.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, 0)
	})
}

// Promote gives a non-voter its vote, whatever its lag. Leader only.
func (r *Replica) Promote(ctx context.Context, id protocol.NodeID) error {
	for _, m := range r.Members() {
		if m.ID == id {
			return r.change(ctx, fmt.Sprintf("promote %s", id), func() raft.Future {
				return r.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(m.Address), 0, 0)
			})
		}
	}
	return fmt.Errorf("promote %s: %w", id, ErrNoMember)
}

// Remove takes a member out of the cluster, dead or alive; its Run ends with
// ErrRemoved if it learns of it. Leader only; a leader may remove itself.
func (r *Replica) Remove(ctx context.Context, id protocol.NodeID) error {
	for _, m := range r.Members() {
		if m.ID == id {
			return r.change(ctx, fmt.Sprintf("remove %s", id), func() raft.Future {
				return r.raft.RemoveServer(raft.ServerID(id), 0, 0)
			})
		}
	}
	return fmt.Errorf("remove %s: %w", id, ErrNoMember)
}

// Progress is how far a member has come, as the leader heard from it.
type Progress struct {
	Behind  uint64        // entries it lacks; of itself always 0
	Contact time.Duration // since it was last heard; negative: never
	Healthy bool          // heard within the heartbeat timeout
}

// Progress returns how far a member has come; false on a node that does not lead
// and cannot know.
func (r *Replica) Progress(id protocol.NodeID) (Progress, bool) {
	switch {
	case !r.IsLeader():
		return Progress{}, false
	case id == r.config.ID:
		return Progress{Healthy: true}, true
	}
	c, last := r.peers.contact(id), r.raft.LastIndex()
	if c.at.IsZero() {
		return Progress{Behind: last, Contact: -1}, true
	}
	since := time.Since(c.at)
	p := Progress{Contact: since, Healthy: since <= r.config.Timing.Heartbeat}
	if c.last < last {
		p.Behind = last - c.last
	}
	return p, true
}

// Expelled stops this node with ErrRemoved: others have said that it was removed.
// Raft tells a removed member nothing more, so it may never learn by itself.
func (r *Replica) Expelled() { r.fuse.blow(ErrRemoved) }

// Disconnect closes the connections that match, of those that Stream opened: to a
// member that was removed.
func (r *Replica) Disconnect(match func(net.Conn) bool) { r.stream.disconnect(match) }

// change commits one change of members; errors as for Propose.
func (r *Replica) change(ctx context.Context, what string, start func() raft.Future) error {
	if !r.IsLeader() {
		return fmt.Errorf("%s: %w", what, r.notLeader())
	}
	err := r.await(ctx, start)
	if err == nil {
		return nil
	}
	mapped, notApplied := fate(err)
	if notApplied && errors.Is(mapped, ErrNotLeader) {
		mapped = r.notLeader()
	}
	return fmt.Errorf("%s: %w", what, mapped)
}

// promote gives non-voters their vote while this node leads: each after it has been
// heard of without a break, and close behind, for PromoteAfter.
func (r *Replica) promote(ctx context.Context) {
	if r.config.PromoteAfter < 0 {
		return
	}
	healthy := map[protocol.NodeID]time.Time{} // since when
	tick := time.NewTicker(min(promoteEvery, max(r.config.PromoteAfter/4, time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.IsLeader() {
			clear(healthy)
			continue
		}
		for _, m := range r.Members() {
			c := r.peers.contact(m.ID)
			if m.Voter || time.Since(c.at) > r.config.Timing.Heartbeat || c.last+promoteLag < r.raft.LastIndex() {
				delete(healthy, m.ID)
				continue
			}
			if healthy[m.ID].IsZero() {
				healthy[m.ID] = time.Now()
			}
			if time.Since(healthy[m.ID]) < r.config.PromoteAfter {
				continue
			}
			delete(healthy, m.ID)
			if err := r.Promote(ctx, m.ID); err != nil {
				r.log.Warn("promotion put off", "member", m.ID, "err", err)
				continue
			}
			r.log.Info("member promoted to voter", "member", m.ID)
		}
	}
}
