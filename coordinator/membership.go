package coordinator

import (
	"context"
	"errors"
	"time"

	"floe/coordinator/replica"
	"floe/protocol"
)

// membership changes the replica's members (server.Membership).
type membership struct{ record *record }

// Remove implements server.Membership.
func (m membership) Remove(ctx context.Context, node protocol.NodeID) error {
	if err := m.record.replica.Remove(ctx, node); err != nil && !errors.Is(err, replica.ErrNoMember) {
		return m.record.refusal(err)
	}
	return nil
}

// handOver is how long a leader that is told to hand over may take, and how long
// the next one may take to be heard of.
const handOver = 10 * time.Second

// Transfer implements server.Membership.
func (m membership) Transfer(ctx context.Context, to protocol.NodeID) (protocol.NodeID, error) {
	ctx, cancel := context.WithTimeout(ctx, handOver)
	defer cancel()
	r := m.record.replica
	if err := r.TransferLeadership(ctx, to); err != nil {
		if errors.Is(err, replica.ErrNotLeader) {
			return "", m.record.refusal(err)
		}
		return "", protocol.Errorf(protocol.CodeConflict, "leadership stays: %v", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if leader := m.record.Leader(); leader != "" && leader != m.record.node {
			return leader, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", protocol.Errorf(protocol.CodeUnknown, "leadership was handed over, and nobody is heard of yet; see floe cluster status")
		}
	}
}

// Snapshot implements server.Membership.
func (m membership) Snapshot(ctx context.Context) (protocol.SnapshotReply, error) {
	r := m.record.replica
	before, err := r.LatestSnapshot()
	if err == nil {
		err = r.Snapshot(ctx)
	}
	if err != nil {
		return protocol.SnapshotReply{}, err
	}
	now, err := r.LatestSnapshot()
	return protocol.SnapshotReply{Index: now.Index, Bytes: protocol.ByteSize(now.Bytes), Taken: now.Index > before.Index}, err
}
