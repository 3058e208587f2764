package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/blob"
	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"

	"golang.org/x/sync/errgroup"
)

// KeysDir is where a coordinator keeps its keys, below its directory.
func KeysDir(dir string) string { return filepath.Join(dir, "keys") }

// Run is the whole life of a coordinator: it opens its stores, serves until ctx
// ends, hands leadership over where it can, and closes everything. An error of a
// store ends it (ExitCode gives the exit code).
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("coordinator config: %w", err)
	}
	cluster, err := auth.LoadCluster(KeysDir(c.Dir))
	if err != nil {
		return err
	}
	return (&node{config: c, cluster: cluster}).live(ctx)
}

// live opens the stores, serves until ctx ends, and closes them.
func (n *node) live(ctx context.Context) error {
	if n.config.Format == 0 {
		n.config.Format = state.Format
	}
	if err := n.open(); err != nil {
		return errors.Join(err, n.close())
	}
	return errors.Join(n.run(ctx), n.close())
}

// node is one running coordinator.
type node struct {
	config  Config
	cluster *auth.Cluster

	ledger  *history.Ledger
	blobs   *blob.Store
	record  *record
	peers   *peers
	server  *server.Server
	api     *transport.Server
	machine *machine
	disk    *diskWatch
	auditor auditor
	compare comparison
}

func (n *node) open() (err error) {
	c := &n.config
	log := c.Logger
	if err := checkEvidence(c.Dir); err != nil {
		return err
	}
	if n.ledger, err = history.Open(history.Config{Dir: filepath.Join(c.Dir, "history"), Logger: log}); err != nil {
		return err
	}
	files := blob.DefaultLimit(blob.Durable)
	if c.FilesQuota > 0 {
		files.Quota = c.FilesQuota
	}
	limits := map[blob.Class]blob.Limit{blob.Durable: files}
	if n.blobs, err = blob.Open(blob.Config{Dir: filepath.Join(c.Dir, "blobs"), Logger: log, Limits: limits}); err != nil {
		return err
	}
	n.machine = &machine{
		state: state.New(), hashes: newHashes(), ledger: n.ledger,
		observe: func(e []state.Event) { n.server.Observe(e) }, restored: func() { n.server.Restored() },
	}
	n.disk = newDiskWatch(c.Disk, c.Dir, n.blobs.Space)
	n.record = &record{machine: n.machine, node: n.cluster.Node()}
	n.peers = newPeers(n)
	policy, err := auth.NewPolicy(auth.Table)
	if err != nil {
		return err
	}
	n.server, err = server.New(server.Config{
		Cluster: n.cluster.Name(), Node: n.cluster.Node(), Record: n.record, Ledger: n.ledger, Blobs: n.blobs,
		Peers: n.peers, Authority: n.cluster, Policy: policy, Membership: membership{n.record}, Hashes: n.hashes, Backup: n.backup, Metrics: n.metricsHandler(),
		Timing: c.Server, Format: c.Format, Logger: log,
		Disconnect: n.disconnect, Space: n.disk.now, Modules: c.Modules, Describe: c.Describe,
	})
	if err != nil {
		return err
	}
	n.api, err = transport.NewServer(transport.ServerConfig{
		Cluster: n.cluster.Name(), Addr: c.Listen, DisableQUIC: c.DisableQUIC,
		ListenTCP: c.Network.ListenTCP, ListenUDP: c.Network.ListenUDP,
		Certificate: n.cluster.ServerCertificate, ClientCAs: n.cluster.Issuers, Handler: n.server,
		BodyLimit: bodyLimit, AddressKey: n.cluster.AddressKey(), Logger: log,
	})
	return err
}

// bodyLimit lets blobs be as large as their class allows.
func bodyLimit(r *http.Request) int64 {
	if r.Method == http.MethodPut {
		if class, err := blob.ParseClass(r.URL.Query().Get("class")); err == nil {
			return int64(blob.DefaultLimit(class).MaxSize)
		}
	}
	return protocol.MaxExchangeBytes + (16 << 20) // a steering document in JSON
}

// openReplica opens Raft's log. From here on the machine is driven: what was
// committed before is applied again.
func (n *node) openReplica() error {
	c := &n.config
	listener, err := c.Network.listenTCP(c.Raft)
	if err != nil {
		return fmt.Errorf("listen for raft: %w", err)
	}
	serverTLS, clientTLS := n.cluster.TLSForRaft(n.admissible)
	n.record.replica, err = replica.Open(replica.Config{
		ID: n.cluster.Node(), Address: c.RaftAddress, Dir: n.recordDir(),
		Stream:  replica.NewTLSStreamLayer(listener, c.Network.DialTCP, serverTLS, clientTLS),
		Machine: n.machine, Stamp: c.stamper(), Logger: c.Logger, Timing: c.Timing, Limits: c.Limits, PromoteAfter: c.PromoteAfter.Duration(),
	})
	return err
}

func (n *node) run(ctx context.Context) (err error) {
	// The ledger outlives the replica, so that everything applied reaches it; it ends
	// by itself when it cannot write.
	ledgerCtx, stopLedger := context.WithCancel(context.WithoutCancel(ctx))
	ledgerDone := make(chan error, 1)
	go func() { ledgerDone <- n.ledger.Run(ledgerCtx) }()
	var ledgerErr error
	defer func() {
		stopLedger()
		if ledgerErr == nil { // otherwise it ended before, and err says so
			err = errors.Join(err, <-ledgerDone)
		}
	}()
	if err := n.disk.look(); err != nil {
		return err
	}
	if err := n.checkRecord(ctx); err != nil {
		return err
	}
	if err := n.openReplica(); err != nil {
		return err
	}
	if err := n.markRecord(); err != nil {
		return err
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.Go(func() error { return n.record.replica.Run(workCtx) })
	work.Go(func() error {
		select {
		case ledgerErr = <-ledgerDone:
			if ledgerErr == nil {
				ledgerErr = errors.New("the ledger ended")
			}
			return ledgerErr
		case <-workCtx.Done():
			return nil
		}
	})
	work.Go(func() error { return n.cluster.Run(workCtx, n.config.Logger, hostOf(n.config.Address)) })
	work.Go(func() error { return n.server.Run(workCtx) })
	work.Go(func() error { return n.begin(workCtx) })
	work.Go(func() error { return n.watchMembership(workCtx) })
	work.Go(func() error { return n.watchDisk(workCtx) })
	work.Go(func() error { return n.audit(workCtx) })
	work.Go(func() error { return n.keepHistory(workCtx) })
	work.Go(func() error { return n.compareRecords(workCtx) })
	work.Go(func() error { return n.takeCheckpoints(workCtx) })
	work.Go(func() error { return n.api.Run(workCtx) })
	if n.config.Ready != nil {
		n.config.Ready(n.api.Addr())
	}
	err = work.Wait()
	n.peers.close()
	return err
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// begin founds the cluster where that was asked for, and makes this coordinator's
// addresses known.
func (n *node) begin(ctx context.Context) error {
	if n.config.Found && len(n.record.replica.Members()) == 0 {
		if err := n.record.replica.Bootstrap(ctx); err != nil && !errors.Is(err, replica.ErrBootstrapped) {
			return err
		}
	}
	return n.introduce(ctx)
}

// introduceEvery is how often an outstanding introduction is tried again.
const introduceEvery = time.Second

// introduce has the record know this coordinator's addresses: proposed here when
// it leads, else asked of the leader, until it is done.
func (n *node) introduce(ctx context.Context) error {
	self := state.PutMember{Node: n.cluster.Node(), Address: n.config.Address, Raft: n.config.RaftAddress}
	tick := time.NewTicker(introduceEvery)
	defer tick.Stop()
	for {
		_, changed := n.record.Leading()
		if err := n.introduceOnce(ctx, &self); err == nil {
			return nil
		} else if ctx.Err() == nil {
			n.config.Logger.Debug("not introduced yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

func (n *node) introduceOnce(ctx context.Context, self *state.PutMember) error {
	if term, _ := n.record.Leading(); term != 0 {
		if err := n.beginFormat(ctx); err != nil {
			return err
		}
		if _, err := n.record.Propose(ctx, self); err != nil {
			return err
		}
		return n.recordFirstToken(ctx)
	}
	var known state.Member
	var ok bool
	n.record.Read(func(m *state.Machine) { known, ok = m.Member(self.Node) })
	if ok && known.Address == self.Address && known.Raft == self.Raft && n.isMember() {
		return nil
	}
	return n.peers.admit(ctx, self)
}

// beginFormat has a cluster that is being founded begin with the newest format.
func (n *node) beginFormat(ctx context.Context) error {
	var founded bool
	n.record.Read(func(m *state.Machine) { founded = m.Founded() || m.Format() >= n.config.Format })
	if !n.config.Found || founded {
		return nil
	}
	a, err := n.record.Propose(ctx, &state.SetFormat{By: founding, Format: n.config.Format})
	if err != nil {
		return err
	}
	return a.Err()
}

// founding is whose actions those are that a new cluster begins with.
var founding = state.Action{Actor: "<founder>", Reason: "the cluster was founded"}

func (n *node) isMember() bool {
	for _, m := range n.record.replica.Members() {
		if m.ID == n.cluster.Node() {
			return true
		}
	}
	return false
}

// recordFirstToken makes the founder's token an administrator's.
func (n *node) recordFirstToken(ctx context.Context) error {
	t := n.config.FirstToken
	if !n.config.Found || t.Secret == "" {
		return nil
	}
	user := protocol.UserID(t.ID)
	// Once there is anybody, the token is theirs to revoke, and does not come back.
	var founded bool
	n.record.Read(func(m *state.Machine) { founded = m.Founded() })
	if founded {
		return nil
	}
	// The user comes last: where it is missing, all is done again.
	for _, c := range []state.Command{
		&state.PutToken{By: founding, Hash: t.Secret.Digest(), User: user, Role: "admin", Description: "made by floe init"},
		&state.PutUser{By: founding, User: user, Role: "admin"},
	} {
		a, err := n.record.Propose(ctx, c)
		if err != nil {
			return err
		}
		if err := a.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) close() error {
	var all []error
	if n.record != nil && n.record.replica != nil {
		all = append(all, n.record.replica.Close())
	}
	if n.api != nil {
		n.api.Close()
	}
	if n.ledger != nil {
		all = append(all, n.ledger.Close())
	}
	if n.blobs != nil {
		all = append(all, n.blobs.Close())
	}
	return errors.Join(all...)
}
