package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// A coordinator's record is its memory of votes. One that lost it must not take
// part under its old name: it could vote twice in one term (I-25). So a mark beside
// the record says that there was one, and where the mark is gone, too, the others
// are asked before Raft is started on an empty record.

// memberFile is the mark: it holds the coordinator's name.
const memberFile = "member"

func (n *node) recordDir() string { return filepath.Join(n.config.Dir, "record") }

// checkRecord refuses to begin an empty record under a name that had one.
func (n *node) checkRecord(ctx context.Context) error {
	if replica.Exists(n.recordDir()) {
		return nil
	}
	_, err := os.Stat(filepath.Join(n.config.Dir, memberFile))
	switch {
	case err == nil:
		return n.lost()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case n.config.Found || len(n.config.Others) == 0:
		return nil
	}
	tick := time.NewTicker(introduceEvery)
	defer tick.Stop()
	for {
		member, err := n.askWhetherMember(ctx, n.config.Others)
		switch {
		case err == nil && member:
			return n.lost()
		case err == nil || errors.Is(err, replica.ErrRemoved):
			return err
		}
		n.config.Logger.Warn("no other coordinator answers; they must say that this one is new before it takes part", "err", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lost is the error of a coordinator whose record is gone.
func (n *node) lost() error {
	return fmt.Errorf("%w: %s is empty, and coordinator %s had a record there. What it knew of votes is lost, so it must not take part again: "+
		"on another coordinator run floe cluster remove %[3]s, then floe cluster add with a new name and an empty directory. If it was the only one, restore a backup",
		replica.ErrRecordLost, n.recordDir(), n.cluster.Node())
}

// markRecord leaves the mark, before anybody counts on a vote of this coordinator.
func (n *node) markRecord() error {
	file := filepath.Join(n.config.Dir, memberFile)
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, n.cluster.Node())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(n.config.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// askWhetherMember asks others whether this coordinator is a member. Any answer
// will do; replica.ErrRemoved is one, too.
func (n *node) askWhetherMember(ctx context.Context, addresses []string) (bool, error) {
	var all []error
	for _, address := range addresses {
		reply, err := n.askCluster(ctx, address)
		if protocol.CodeOf(err) == protocol.CodeForbidden {
			return false, fmt.Errorf("%w: %s says: %w", replica.ErrRemoved, address, err)
		}
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", address, err))
			continue
		}
		for _, m := range reply.Members {
			if m.ID == n.cluster.Node() {
				return true, nil
			}
		}
		return false, nil
	}
	return false, errors.Join(all...)
}

// askCluster asks the coordinator at an address for its view of the cluster.
func (n *node) askCluster(ctx context.Context, address string) (*protocol.ClusterReply, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := n.peers.newClient(address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/cluster", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := transport.ResponseError(resp); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var reply protocol.ClusterReply
	if err := json.NewDecoder(io.LimitReader(resp.Body, protocol.MaxExchangeBytes)).Decode(&reply); err != nil {
		return nil, err
	}
	return &reply, nil
}

// lonelyEvery is how often a coordinator that hears of no leader asks why.
const lonelyEvery = 2 * time.Second

// watchMembership ends a coordinator that was removed: nothing reaches it any more
// by which it could learn so, but the others refuse it by name.
func (n *node) watchMembership(ctx context.Context) error {
	tick := time.NewTicker(lonelyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n.record.Leader() != "" {
			continue
		}
		if _, err := n.askWhetherMember(ctx, n.peers.known()); errors.Is(err, replica.ErrRemoved) {
			n.config.Logger.Error("this coordinator was removed from the cluster", "err", err)
			n.record.replica.Expelled()
			return nil
		}
	}
}

// admissible tells whether a coordinator may speak Raft with this one.
func (n *node) admissible(id protocol.NodeID) bool {
	var removed bool
	n.record.Read(func(m *state.Machine) { removed = m.RemovedMember(id) })
	return !removed
}

// disconnect closes connections of callers that match, of the API and of Raft.
func (n *node) disconnect(match func(transport.Caller) bool) int {
	n.record.replica.Disconnect(func(c net.Conn) bool {
		peer := auth.RaftPeer(c)
		return peer != "" && match(transport.Caller{Kind: transport.Coordinator, Node: peer})
	})
	return n.api.Disconnect(match)
}
