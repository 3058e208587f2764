package replica

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"floe/protocol"
)

// transport is raft's network transport with two changes.
//
// Heartbeats take the main loop. The library's fast path handles them on the
// connection's goroutine, where a deposed leader's term can change between its check
// and its append: it then writes an old entry under the new leader's term and
// replicas diverge without a sign (raft#695; 41 of 120 runs with the window widened,
// 0 of 120 with this type). The price is that a member busy with a sync answers
// heartbeats late, hence the longer Timing.
//
// Answers are overheard: a follower's last index comes with every heartbeat and is
// all the leader can know of a non-voter's lag.
type transport struct {
	*raft.NetworkTransport
	peers *peers
}

// SetHeartbeatHandler ignores the fast path.
func (*transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends entries or a heartbeat and notes the answer.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	if err == nil {
		t.peers.heard(protocol.NodeID(id), resp.LastLog)
	}
	return err
}

// peers is what this node last heard of others while it led.
type peers struct {
	mu   sync.Mutex
	last map[protocol.NodeID]contact // guarded by mu
}

// contact is one answer.
type contact struct {
	at   time.Time
	last uint64 // newest entry the peer has stored
}

func newPeers() *peers { return &peers{last: map[protocol.NodeID]contact{}} }

func (p *peers) heard(id protocol.NodeID, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[id] = contact{at: time.Now(), last: last}
}

func (p *peers) contact(id protocol.NodeID) contact {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[id]
}
