package federation

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"floe/coordinator"
	"floe/coordinator/auth"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

const clusterName = "fed"

// node is one coordinator, in one incarnation after another.
type node struct {
	f    *federation
	name protocol.NodeID
	addr netip.Addr
	dir  string // of the present incarnation
	born int    // incarnations so far

	config coordinator.Config
	nic    *nic
	cancel context.CancelFunc
	ended  chan struct{} // closed when the incarnation has ended
	lost   bool          // with its disk: it never comes back
	skew   atomic.Int64  // of the wall clock, in nanoseconds
	// monitor asks this node, and no other, how it is.
	monitor *transport.Client
}

func (f *federation) newNode(i int, name protocol.NodeID) *node {
	n := &node{f: f, name: name, addr: coordinatorAddr(i)}
	n.dir = f.dir("coordinator", string(name), "0")
	return n
}

func coordinatorAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}) }

func (n *node) address() string { return netip.AddrPortFrom(n.addr, 443).String() }
func (n *node) raft() string    { return netip.AddrPortFrom(n.addr, 444).String() }
func (n *node) record() string  { return filepath.Join(n.dir, "record") }

// found makes the cluster in the node's directory.
func (n *node) found() {
	cluster, err := auth.InitCluster(coordinator.KeysDir(n.dir), clusterName, n.name)
	n.f.must(err)
	n.f.admin = cluster.NewToken(protocol.TokenUser, n.address())
	n.f.admin.ID = "admin"
	n.f.pin = cluster.Pin()
	n.config.Found, n.config.FirstToken = true, n.f.admin
}

// join asks the cluster for keys, as floe cluster add and floe coordinator --join do.
// Anybody may call it.
func (n *node) join() error {
	f := n.f
	var reply protocol.AddMemberReply
	if err := f.call("POST", "/v1/cluster/members", &protocol.AddMemberRequest{Node: n.name, Address: n.address()}, &reply); err != nil {
		return err
	}
	token, err := protocol.ParseToken(reply.Token)
	if err != nil {
		return err
	}
	key, err := auth.NewCoordinatorKey()
	if err != nil {
		return err
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		return err
	}
	client, err := f.newClient(f.outside, transport.ClientConfig{Door: transport.DoorEnrol, Addresses: token.Addresses})
	if err != nil {
		return err
	}
	defer client.Close()
	var joined protocol.JoinCoordinatorReply
	request := &protocol.JoinCoordinatorRequest{Secret: token.Credential(), CSR: csr}
	if err := client.CallCBOR(f.ctx, "POST", "/v1/coordinators", request, &joined, transport.Idempotent()); err != nil {
		return err
	}
	n.config.Others = joined.Addresses
	_, err = auth.JoinCluster(coordinator.KeysDir(n.dir), token.Pin, key, &joined)
	return err
}

// start runs an incarnation.
func (n *node) start() {
	f := n.f
	n.born++
	n.nic = f.network.attach(n.addr)
	if n.monitor == nil {
		n.monitor = f.client(f.outside, transport.ClientConfig{Addresses: []string{n.address()}, Bearer: f.admin.Credential})
	}
	c := n.config
	c.Dir, c.Listen, c.Address, c.Raft, c.RaftAddress = n.dir, n.address(), n.address(), n.raft(), n.raft()
	c.Network = coordinator.Network{ListenTCP: n.nic.listenTCP, ListenUDP: n.nic.listenUDP, DialTCP: n.nic.dialTCP}
	c.Timing = f.timing
	c.Timing.Commit = 500 * time.Millisecond // an idle hour is mostly this
	c.Limits = f.limits
	c.PromoteAfter = 5
	c.Wall = func() time.Time { return f.wall(time.Duration(n.skew.Load())) }
	c.Logger = f.logger(fmt.Sprintf("%s.%d", n.name, n.born))
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan struct{})
	ended, nic := n.ended, n.nic
	f.work.Go(func() {
		defer close(ended)
		if err := coordinator.Run(ctx, c); err != nil {
			c.Logger.Error("coordinator ended", "err", err)
			if ctx.Err() == nil && nic.alive() {
				f.t.Errorf("at %v %s ended by itself: %v", f.now(), c.Dir, err)
			}
		}
	})
}

// wall reads a clock that is off by skew, and remembers when it was read.
func (f *federation) wall(skew time.Duration) time.Time {
	now := time.Now().Add(skew)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.walls[state.UnixMillis(now.UnixMilli())] = f.now()
	return now
}

// running tells whether the present incarnation has neither been ended nor ended by
// itself.
func (n *node) running() bool {
	if n.ended == nil || n.cancel == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// stop ends the incarnation as SIGTERM does.
func (n *node) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	<-n.ended
	n.nic.kill(false)
	n.monitor.Close()
	n.monitor = nil
}

// kill ends the incarnation as SIGKILL or a loss of power does: the next one starts
// from what was on disk at this instant. Nobody may be writing: f.settle was called.
func (n *node) kill(power bool) {
	if n.cancel == nil {
		return
	}
	n.nic.kill(power)
	n.monitor.Close()
	n.monitor = nil
	next := n.f.dir("coordinator", string(n.name), fmt.Sprint(n.born))
	n.f.must(copyTree(n.dir, next))
	old := n.dir
	n.dir = next
	// What is left of the process ends unheard. Its directory is of no use any more.
	cancel, ended := n.cancel, n.ended
	n.cancel = nil
	n.f.work.Go(func() {
		cancel()
		<-ended
		if !n.f.t.Failed() {
			_ = os.RemoveAll(old)
		}
	})
}

// copyTree copies a directory; holes of files stay holes.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	return copyData(out, in, info.Size())
}
