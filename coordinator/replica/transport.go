package replica

import (
	"fmt"
	"io"
	"os"
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
// Snapshots are received outside the main loop. The library reads one from the
// network in the loop that answers heartbeats, so a member that receives a large
// snapshot over a slow line would count as silent all the while. Here it is written
// to a file first, and the loop reads that.
//
// Answers are overheard: a follower's last index comes with every heartbeat and is
// all the leader can know of a non-voter's lag.
type transport struct {
	*raft.NetworkTransport
	peers *peers
	inbox chan raft.RPC // what the main loop hears
	spool string        // directory for snapshots being received

	closing chan struct{}
	close   sync.Once
	work    sync.WaitGroup
}

func newTransport(inner *raft.NetworkTransport, p *peers, spool string) *transport {
	t := &transport{NetworkTransport: inner, peers: p, inbox: make(chan raft.RPC), spool: spool, closing: make(chan struct{})}
	t.work.Go(t.sort)
	return t
}

// Consumer is where raft's main loop hears requests.
func (t *transport) Consumer() <-chan raft.RPC { return t.inbox }

// Close ends the transport and waits for its goroutines: those that read from a
// connection end because the stream is cut.
func (t *transport) Close() error {
	t.close.Do(func() { close(t.closing) })
	err := t.NetworkTransport.Close()
	t.work.Wait()
	return err
}

// sort hands requests on in their order, and snapshots when they are received.
func (t *transport) sort() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			if install, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
				t.work.Go(func() { t.receive(rpc, install.Size) })
				continue
			}
			t.hand(rpc)
		case <-t.closing:
			return
		}
	}
}

// hand gives a request to the main loop; false when there is none any more.
func (t *transport) hand(rpc raft.RPC) bool {
	select {
	case t.inbox <- rpc:
		return true
	case <-t.closing:
		return false
	}
}

// receive writes a snapshot to a file without a name, and hands the request on
// with that.
func (t *transport) receive(rpc raft.RPC, size int64) {
	f, err := receiveFile(t.spool, rpc.Reader, size)
	if err != nil {
		_, _ = io.Copy(io.Discard, rpc.Reader) // the connection must be at the end of the request
		rpc.Respond(&raft.InstallSnapshotResponse{}, fmt.Errorf("receive snapshot: %w", err))
		return
	}
	rpc.Reader = &spooled{f}
	if !t.hand(rpc) {
		f.Close()
	}
}

func receiveFile(dir string, r io.Reader, size int64) (f *os.File, err error) {
	if f, err = os.CreateTemp(dir, "install-*"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil { // a crash leaves nothing behind
		return nil, err
	}
	n, err := io.Copy(f, r)
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, fmt.Errorf("%d of %d bytes", n, size)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// spooled is closed when it was read to its end, as raft does in any case.
type spooled struct{ file *os.File }

func (s *spooled) Read(p []byte) (int, error) {
	if s.file == nil {
		return 0, io.EOF
	}
	n, err := s.file.Read(p)
	if err != nil {
		s.file.Close()
		s.file = nil
	}
	return n, err
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
