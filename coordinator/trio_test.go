package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// trio is a cluster of coordinators in this process, over loopback.
type trio struct {
	t       *testing.T
	limits  replica.Limits
	founder *auth.Cluster
	names   []protocol.NodeID
	configs map[protocol.NodeID]*Config
	running map[protocol.NodeID]*running
}

// running is one coordinator that was started.
type running struct {
	*node
	stop  func()
	ended chan struct{} // closed when err is set
	err   error
}

// newTrio founds a cluster and has others join it.
func newTrio(t *testing.T, limits replica.Limits, members int) *trio {
	t.Helper()
	c := &trio{t: t, limits: limits, configs: map[protocol.NodeID]*Config{}, running: map[protocol.NodeID]*running{}}
	t.Cleanup(func() {
		var all sync.WaitGroup
		for _, r := range c.running {
			all.Go(r.end)
		}
		all.Wait()
	})
	for i := range members {
		c.join(protocol.NodeID(fmt.Sprintf("c%d", i+1)))
	}
	c.settle(members)
	return c
}

func (r *running) end() {
	r.stop()
	<-r.ended
}

// join makes the keys of a coordinator, the founder's where there is none yet, and
// starts it.
func (c *trio) join(id protocol.NodeID) *running {
	c.t.Helper()
	dir := c.t.TempDir()
	api, raft := c.listen(), c.listen()
	config := &Config{
		Dir: dir, Listen: api.Addr().String(), Address: api.Addr().String(), Raft: raft.Addr().String(), RaftAddress: raft.Addr().String(),
		Timing: replica.LoopbackTiming(), Limits: c.limits, PromoteAfter: 1, DisableQUIC: true, Logger: slog.New(slog.DiscardHandler),
	}
	listeners := map[string]net.Listener{config.Listen: api, config.Raft: raft}
	config.Network.ListenTCP = func(address string) (net.Listener, error) {
		if l := listeners[address]; l != nil {
			delete(listeners, address)
			return l, nil
		}
		return net.Listen("tcp", address)
	}
	if c.founder == nil {
		founder, err := auth.InitCluster(KeysDir(dir), "trio", id)
		if err != nil {
			c.t.Fatal(err)
		}
		c.founder, config.Found = founder, true
		config.FirstToken = founder.NewToken(protocol.TokenUser, config.Address)
	} else {
		c.inviteKeys(KeysDir(dir), id)
		for _, other := range c.names {
			config.Others = append(config.Others, c.configs[other].Address)
		}
	}
	c.names = append(c.names, id)
	c.configs[id] = config
	return c.start(id)
}

// inviteKeys fills the folder of keys as answering a join does.
func (c *trio) inviteKeys(dir string, id protocol.NodeID) {
	c.t.Helper()
	key, err := auth.NewCoordinatorKey()
	if err != nil {
		c.t.Fatal(err)
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		c.t.Fatal(err)
	}
	chain, _, err := c.founder.CertifyCoordinator(csr, id)
	if err != nil {
		c.t.Fatal(err)
	}
	secrets, err := c.founder.Secrets()
	if err != nil {
		c.t.Fatal(err)
	}
	reply := &protocol.JoinCoordinatorReply{Cluster: "trio", Certificate: chain, Secrets: secrets}
	if _, err := auth.JoinCluster(dir, c.founder.Pin(), key, reply); err != nil {
		c.t.Fatal(err)
	}
}

func (c *trio) listen() net.Listener {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// start starts a coordinator, perhaps again.
func (c *trio) start(id protocol.NodeID) *running {
	c.t.Helper()
	config := *c.configs[id]
	ready := make(chan struct{})
	config.Ready = func(net.Addr) { close(ready) }
	cluster, err := auth.LoadCluster(KeysDir(config.Dir))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{node: &node{config: config, cluster: cluster}, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = r.live(ctx)
	}()
	c.running[id] = r
	select {
	case <-ready:
	case <-r.ended:
		c.t.Fatalf("coordinator %s ended at once: %v", id, r.err)
	}
	return r
}

// settle waits until so many voters follow one leader.
func (c *trio) settle(voters int) {
	c.t.Helper()
	c.await(fmt.Sprintf("%d voters and a leader", voters), func() bool {
		n := 0
		if l := c.leader(); l != nil {
			for _, m := range l.record.Members() {
				if m.Voter && m.Address != "" {
					n++
				}
			}
		}
		return n == voters
	})
}

// await polls until a condition holds.
func (c *trio) await(what string, holds func() bool) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// leader is the coordinator that leads; nil where none does.
func (c *trio) leader() *running {
	for _, r := range c.running {
		select {
		case <-r.ended:
		default:
			if term, _ := r.record.Leading(); term != 0 {
				return r
			}
		}
	}
	return nil
}

// follower is a coordinator that does not lead.
func (c *trio) follower() *running {
	c.t.Helper()
	leader := c.leader()
	for _, r := range c.running {
		if r != leader {
			return r
		}
	}
	c.t.Fatal("nobody follows")
	return nil
}

// propose has the leader, whoever that is, apply a command.
func (c *trio) propose(command state.Command) {
	c.t.Helper()
	c.await("a command to be applied", func() bool {
		leader := c.leader()
		if leader == nil {
			return false
		}
		a, err := leader.record.Propose(c.t.Context(), command)
		if err == nil && a.Err() != nil {
			c.t.Fatalf("%T: %v", command, a.Err())
		}
		return err == nil
	})
}

func (c *trio) dir(id protocol.NodeID, parts ...string) string {
	return filepath.Join(append([]string{c.configs[id].Dir}, parts...)...)
}
