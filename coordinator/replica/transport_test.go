package replica

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"floe/coordinator/replica/replicatest"
)

func openTransport(t *testing.T, network *replicatest.Network, address string) *transport {
	t.Helper()
	tr := newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: newSeverable(network.Listen(address), address), MaxPool: 1, Timeout: time.Second, Logger: hclog.NewNullLogger(),
	}), newPeers(), t.TempDir())
	t.Cleanup(func() { tr.Close() })
	return tr
}

// slowly reads a text with a pause before each piece.
type slowly struct{ text string }

func (s *slowly) Read(p []byte) (int, error) {
	if s.text == "" {
		return 0, io.EOF
	}
	<-time.After(50 * time.Millisecond)
	n := copy(p, s.text[:min(len(s.text), 1000)])
	s.text = s.text[n:]
	return n, nil
}

// While a snapshot is received, slowly, the main loop hears heartbeats; it hears of
// the snapshot when all of it is here (E1.4).
func TestSnapshotsAreReceivedOutsideTheMainLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network replicatest.Network
		leader, follower := openTransport(t, &network, "c1:4433"), openTransport(t, &network, "c2:4433")
		header := raft.RPCHeader{ID: []byte("c1"), Addr: []byte("c1:4433")}
		body := strings.Repeat("snapshot ", 1000)
		var sending sync.WaitGroup
		sending.Go(func() {
			request := &raft.InstallSnapshotRequest{RPCHeader: header, Size: int64(len(body))}
			if err := leader.InstallSnapshot("c2", "c2:4433", request, &raft.InstallSnapshotResponse{}, &slowly{body}); err != nil {
				t.Error(err)
			}
		})
		beat := time.NewTicker(10 * time.Millisecond)
		defer beat.Stop()
		sending.Go(func() {
			for range 20 {
				<-beat.C
				request := &raft.AppendEntriesRequest{RPCHeader: header, Term: 3}
				if err := leader.AppendEntries("c2", "c2:4433", request, &raft.AppendEntriesResponse{}); err != nil {
					t.Error(err)
				}
			}
		})
		beats := 0
		for installed := false; !installed; {
			rpc := <-follower.Consumer()
			switch rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				beats++
				rpc.Respond(&raft.AppendEntriesResponse{}, nil)
			case *raft.InstallSnapshotRequest:
				installed = true
				start := time.Now()
				got, err := io.ReadAll(rpc.Reader)
				if err != nil || string(got) != body {
					t.Errorf("read %d bytes, %v; want the %d that were sent", len(got), err, len(body))
				}
				if took := time.Since(start); took != 0 { // virtual time: nothing was waited for
					t.Errorf("the main loop waited %v for the network", took)
				}
				rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, nil)
			}
		}
		if beats != 20 {
			t.Errorf("%d heartbeats were heard while the snapshot came, want 20", beats)
		}
		sending.Wait()
		if left, err := os.ReadDir(follower.spool); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// A snapshot that breaks off is refused, and the next request is heard.
func TestAHalfSnapshotIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network replicatest.Network
		leader, follower := openTransport(t, &network, "c1:4433"), openTransport(t, &network, "c2:4433")
		follower.spool = "/nowhere" // as a full disk would
		header := raft.RPCHeader{ID: []byte("c1"), Addr: []byte("c1:4433")}
		request := &raft.InstallSnapshotRequest{RPCHeader: header, Size: 5}
		err := leader.InstallSnapshot("c2", "c2:4433", request, &raft.InstallSnapshotResponse{}, strings.NewReader("12345"))
		if err == nil || !strings.Contains(err.Error(), "receive snapshot") {
			t.Errorf("install where nothing can be written: %v", err)
		}
		select {
		case rpc := <-follower.Consumer():
			t.Errorf("the main loop heard of %T", rpc.Command)
		default:
		}
	})
}

// A heartbeat reaches raft's main loop like any request, not the fast path on the
// connection's goroutine (raft#695); its answer tells how far the peer is.
func TestHeartbeatsTakeTheMainLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network replicatest.Network
		leader, follower := openTransport(t, &network, "c1:4433"), openTransport(t, &network, "c2:4433")
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
