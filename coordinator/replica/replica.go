package replica

import (
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"floe/coordinator/boltfile"
)

const (
	logFile    = "log.db"
	stableFile = "stable.db"

	logMapSize = 1 << 30 // log.db's first memory map: no remapping below. Source: research E2
	logMaxSize = 4 << 30 // its largest size: eight times the retention, for pages not yet reused

	logCacheEntries  = 512 // newest entries kept in memory for followers. Source: research E1.9
	maxAppendEntries = 256 // entries per message. Source: research E2
	poolPerPeer      = 3   // idle connections kept. Source: research E2
)

// Replica is one member of the cluster. All methods may be called concurrently.
type Replica struct {
	config Config
	log    *slog.Logger

	raft      *raft.Raft
	transport *transport
	stream    *severable
	peers     *peers
	fsm       *fsm
	fuse      *fuse
	retention *retention
	stable    *stableStore
	snapshots raft.SnapshotStore
	logStore  *raftboltdb.BoltStore
	logDog    *watchdog
	stableDog *watchdog
	transfers transferGuard

	standing  *standing
	elections chan bool // raft's notices; it waits for them to be read
	proposals *proposals
	readings  chan *reading

	raftWork pending // goroutines that wait for an answer of raft
	running  atomic.Bool
	ending   chan struct{} // closed by Close
	stopped  chan struct{} // closed when raft is being shut down
	end      sync.Once
	stop     sync.Once

	count         counters
	snapshotMu    sync.Mutex // one snapshot at a time
	timesMu       sync.Mutex
	commitTimes   Durations // guarded by timesMu
	snapshotTimes Durations // guarded by timesMu
}

// Open checks the directory, opens its stores, restores the machine from the newest
// good snapshot and joins the network; elections may happen from now on, but the
// node leads only while Run runs. Errors: ErrDamaged, ErrSnapshotDamaged, ErrLocked,
// ErrFileSystem, ErrOtherNode, and those of Config.Validate.
func Open(c Config) (_ *Replica, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	r := &Replica{
		config: c, log: c.Logger.With("coordinator", c.ID),
		retention: newRetention(c.Limits), peers: newPeers(), standing: newStanding(),
		elections: make(chan bool, 16), proposals: newProposals(c.Limits), readings: make(chan *reading, c.Limits.Admitted),
		ending: make(chan struct{}), stopped: make(chan struct{}),
	}
	raftLog := newRaftLogger(r.log)
	found, err := preflight(c, r.log, r.retention)
	if err != nil {
		c.Stream.Close()
		return nil, fmt.Errorf("open replica: %w", err)
	}
	r.stable, r.snapshots = found.stable, snapshotStore{found.snapshots, c.Dir}
	defer func() {
		if err != nil {
			r.closeStores()
		}
	}()

	// Only now may anything be written or heard.
	r.stream = newSeverable(c.Stream, c.Address)
	r.fuse = newFuse(func() { r.stream.Close() })
	r.transfers.fuse = r.fuse
	r.logDog = &watchdog{fuse: r.fuse, name: ErrLogStore, limit: c.Limits.StoreStall}
	r.stableDog = &watchdog{fuse: r.fuse, name: ErrStableStore, limit: c.Limits.StoreStall}
	r.stable.watchdog = r.stableDog
	options := boltOptions(logMapSize)
	options.MaxSize = logMaxSize
	r.logStore, err = raftboltdb.New(raftboltdb.Options{Path: filepath.Join(c.Dir, logFile), BoltOptions: options})
	if err != nil {
		r.stream.Close()
		return nil, openError(logFile, err)
	}
	err = boltfile.Guard(filepath.Join(c.Dir, logFile), func() error {
		term, err := checkEntries(r.logStore)
		if err != nil {
			return err
		}
		return checkTerm(r.stable, term, r.snapshots)
	})
	if err != nil {
		r.stream.Close()
		return nil, fmt.Errorf("open replica: %w; %s", err, rejoin(c.Dir))
	}
	cached, err := raft.NewLogCache(logCacheEntries, &failStopLog{LogStore: r.logStore, watchdog: r.logDog, retention: r.retention})
	if err != nil {
		r.stream.Close()
		return nil, fmt.Errorf("open replica: %w", err)
	}
	r.fsm = &fsm{
		id: c.ID, machine: c.Machine, fuse: r.fuse, retention: r.retention, progress: &progress{}, count: &r.count,
	}
	r.transport = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: r.stream, MaxPool: poolPerPeer, Timeout: c.Timing.RPC, Logger: raftLog,
	}), r.peers, c.Dir)
	rc := r.raftConfig()
	rc.Logger = raftLog
	r.raft, err = raft.NewRaft(rc, r.fsm, cached, r.stable, r.snapshots, r.transport)
	if err != nil {
		r.transport.Close()
		return nil, fmt.Errorf("open replica: %w: %w; %s", ErrDamaged, err, rejoin(c.Dir))
	}
	return r, nil
}

// raftConfig translates Config. Raft's own snapshot trigger is off: it counts
// entries, and an entry may hold one command or a thousand.
func (r *Replica) raftConfig() *raft.Config {
	t := r.config.Timing
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(r.config.ID)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = t.Heartbeat, t.Election, t.Lease, t.Commit
	c.MaxAppendEntries = maxAppendEntries
	c.BatchApplyCh = false     // or a refused entry could still be taken later (see fate)
	c.ShutdownOnRemove = false // Run does it, in order (see fsm.met)
	c.NotifyCh = r.elections
	c.SnapshotThreshold, c.SnapshotInterval = math.MaxInt64, 24*time.Hour
	c.TrailingLogs = r.retention.trailing()
	c.NoLegacyTelemetry = true
	return c
}

// closeStores closes what was opened; it waits for writes under way.
func (r *Replica) closeStores() {
	if r.logStore != nil {
		r.logStore.Close()
	}
	if r.stable != nil {
		r.stable.close()
	}
}
