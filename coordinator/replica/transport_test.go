package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"floe/coordinator/replica/replicatest"
)

// A heartbeat reaches raft's main loop like any request, not the fast path on the
// connection's goroutine (raft#695); its answer tells how far the peer is.
func TestHeartbeatsTakeTheMainLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network replicatest.Network
		open := func(address string) *transport {
			stream := newSeverable(network.Listen(address), address)
			nt := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream: stream, MaxPool: 1, Timeout: time.Second, Logger: hclog.NewNullLogger(),
			})
			t.Cleanup(func() { nt.Close() })
			return &transport{NetworkTransport: nt, peers: newPeers()}
		}
		leader, follower := open("c1:4433"), open("c2:4433")
		var asRaftSeesIt raft.Transport = follower
		asRaftSeesIt.SetHeartbeatHandler(func(rpc raft.RPC) {
			t.Error("the fast path took a heartbeat")
			rpc.Respond(&raft.AppendEntriesResponse{}, nil)
		})
		go func() {
			rpc := <-follower.Consumer()
			rpc.Respond(&raft.AppendEntriesResponse{LastLog: 42, Success: true}, nil)
		}()
		heartbeat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ID: []byte("c1"), Addr: []byte("c1:4433")}, Term: 3}
		if err := leader.AppendEntries("c2", "c2:4433", heartbeat, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		if got := leader.peers.contact("c2"); got.last != 42 || got.at.IsZero() {
			t.Errorf("contact = %+v, want the follower's last index 42", got)
		}
		if _, ok := asRaftSeesIt.(raft.WithPreVote); !ok {
			t.Error("pre-vote is lost by the wrapper")
		}
	})
}
