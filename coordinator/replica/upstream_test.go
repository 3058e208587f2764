package replica

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"floe/coordinator/replica/replicatest"
)

// The defects of the library that the seat belts are for, shown to be there in the
// library alone and not through floe's wiring. Where the stock half of one fails, the
// harness is dead or the library was mended: then look whether the belt is still
// needed.

var upstreamRounds = flag.Int("upstream.rounds", 8, "how often floe's wiring must survive what the stock library does not")

// history is a machine that notes every entry with its term.
type history struct {
	mu      sync.Mutex
	entries map[uint64]string
	last    uint64
}

func (h *history) Apply(l *raft.Log) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries[l.Index], h.last = fmt.Sprintf("%d:%s", l.Term, l.Data), l.Index
	return nil
}

func (h *history) Snapshot() (raft.FSMSnapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return total(h.last), nil
}

func (h *history) Restore(r io.ReadCloser) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fscan(r, &h.last)
	return err
}

type total uint64

func (n total) Persist(s raft.SnapshotSink) error {
	if _, err := fmt.Fprintln(s, uint64(n), "padding-padding-padding"); err != nil {
		return err
	}
	return s.Close()
}

func (total) Release() {}

// slowEntries delays requests with entries, as a busy disk or line does, and no
// heartbeats: it widens the window of raft#695.
type slowEntries struct{ raft.Transport }

func (s slowEntries) AppendEntries(id raft.ServerID, a raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	if q.PrevLogEntry != 0 || len(q.Entries) > 0 || q.LeaderCommitIndex != 0 {
		<-time.After(40 * time.Millisecond)
	}
	return s.Transport.AppendEntries(id, a, q, r)
}

func (s slowEntries) RequestPreVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	return s.Transport.(raft.WithPreVote).RequestPreVote(id, a, q, r)
}

// library is three members of the library, without floe but for the transport.
type library struct {
	t       *testing.T
	network replicatest.Network
	rafts   []*raft.Raft
	records []*history
	address []string
	begun   [3]int // snapshots that each began to write, its own or received
}

// newLibrary starts them; the first leads, and its lease is as long as lease.
func newLibrary(t *testing.T, lease time.Duration, wrap func(*raft.NetworkTransport) raft.Transport) *library {
	l := &library{t: t}
	var members raft.Configuration
	for i := range 3 {
		l.address = append(l.address, fmt.Sprintf("n%d:4433", i))
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(l.address[i]), Address: raft.ServerAddress(l.address[i])})
	}
	for i := range 3 {
		c := raft.DefaultConfig()
		c.LocalID, c.Logger, c.NoLegacyTelemetry = members.Servers[i].ID, hclog.NewNullLogger(), true
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
		if i == 0 {
			c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = lease, lease, lease
		}
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 5, 1<<40, time.Hour
		store, record := raft.NewInmemStore(), &history{entries: map[uint64]string{}}
		snapshots := countedSnapshots{raft.NewInmemSnapshotStore(), &l.begun[i]}
		transport := slowEntries{wrap(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: newSeverable(l.network.Listen(l.address[i]), l.address[i]), MaxPool: 3, Timeout: 200 * time.Millisecond, Logger: c.Logger,
		}))}
		if err := raft.BootstrapCluster(c, store, store, snapshots, transport, members); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(c, record, store, store, snapshots, transport)
		if err != nil {
			t.Fatal(err)
		}
		l.rafts, l.records = append(l.rafts, r), append(l.records, record)
		t.Cleanup(func() {
			r.Shutdown().Error()
			transport.Transport.(raft.WithClose).Close()
		})
	}
	l.until("the first leads", func() bool {
		for _, r := range l.rafts[1:] {
			if r.State() == raft.Leader {
				r.LeadershipTransferToServer(members.Servers[0].ID, members.Servers[0].Address).Error()
			}
		}
		return l.rafts[0].State() == raft.Leader
	})
	return l
}

func (l *library) until(what string, holds func() bool) {
	l.t.Helper()
	for range 200_000 {
		if holds() {
			return
		}
		<-time.After(100 * time.Microsecond)
	}
	l.t.Fatalf("waited in vain: %s", what)
}

// diverges deposes the first by a heartbeat and gives it an entry at that moment. It
// tells whether replicas then hold other entries under one index.
func (l *library) diverges() bool {
	old := l.rafts[0]
	if err := old.Apply([]byte("base"), time.Second).Error(); err != nil {
		l.t.Fatal(err)
	}
	l.network.Cut(l.address[0])
	next := 0
	l.until("another leads", func() bool {
		next = slices.IndexFunc(l.rafts, func(r *raft.Raft) bool { return r != old && r.State() == raft.Leader })
		return next > 0
	})
	l.rafts[next].Barrier(time.Second).Error()
	term := l.rafts[next].CurrentTerm()
	l.network.Heal(l.address[0], l.address[next])
	l.until("the old leader hears of the term", func() bool { return old.CurrentTerm() == term })
	late := old.Apply([]byte("OLD"), time.Second)
	l.network.Heal(l.address[0])
	for i := range 40 {
		l.rafts[next].Apply(fmt.Appendf(nil, "good%d", i), time.Second).Error()
	}
	<-time.After(time.Second)
	_ = late // its fate is unknown, which is not the defect
	a, b := l.records[0], l.records[next]
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for index := range min(a.last, b.last) {
		if a.entries[index+1] != b.entries[index+1] { // the library's own entries are none
			return true
		}
	}
	return false
}

func TestUpstream695DivergesWithoutTheBelt(t *testing.T) {
	round := func(t *testing.T, wrap func(*raft.NetworkTransport) raft.Transport) (diverged bool) {
		synctest.Test(t, func(t *testing.T) { diverged = newLibrary(t, 20*time.Second, wrap).diverges() })
		return diverged
	}
	t.Run("stock", func(t *testing.T) {
		for range 60 {
			if round(t, func(n *raft.NetworkTransport) raft.Transport { return n }) {
				return
			}
		}
		t.Error("the stock library never diverged: is raft#695 mended, or the test dead?")
	})
	t.Run("floe", func(t *testing.T) {
		dir := t.TempDir()
		for i := range *upstreamRounds {
			if round(t, func(n *raft.NetworkTransport) raft.Transport { return newTransport(n, newPeers(), dir) }) {
				t.Fatalf("diverged in round %d", i+1)
			}
		}
	})
}

// countedSnapshots counts snapshots that begin to be written.
type countedSnapshots struct {
	raft.SnapshotStore
	begun *int
}

func (c countedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, members raft.Configuration, at uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	*c.begun++
	return c.SnapshotStore.Create(v, index, term, members, at, tr)
}

// A member whose uncommitted suffix is longer than the leader's log behind its
// snapshot is sent the same snapshot for ever. floe keeps more log than can be in
// flight, so it never comes to that.
func TestUpstream697InstallsForEverWithoutTheBelt(t *testing.T) {
	const suffix = 400
	t.Run("stock", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLibrary(t, 4*time.Second, func(n *raft.NetworkTransport) raft.Transport { return n })
			old := l.rafts[0]
			old.Apply([]byte("base"), time.Second).Error()
			l.network.Cut(l.address[0])
			for range suffix {
				old.Apply([]byte("old"), time.Second)
			}
			var next *raft.Raft
			l.until("another leads", func() bool {
				i := slices.IndexFunc(l.rafts, func(r *raft.Raft) bool { return r != old && r.State() == raft.Leader })
				if i > 0 {
					next = l.rafts[i]
				}
				return i > 0
			})
			for i := range 205 {
				if i == 200 {
					next.Snapshot().Error()
				}
				next.Apply([]byte("good"), time.Second).Error()
			}
			<-time.After(5 * time.Second) // the old leader steps down
			l.network.Heal(l.address[0])
			before := l.begun[0]
			for range 250 {
				next.Apply([]byte("good"), time.Second).Error()
				<-time.After(20 * time.Millisecond)
			}
			if n, behind := l.begun[0]-before, old.AppliedIndex() < next.AppliedIndex()-3; n < maxInstalls || !behind {
				t.Errorf("%d installs, still behind: %v; the stock library was to loop: is raft#697 mended, or the test dead?", n, behind)
			}
		})
	})
	t.Run("floe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 3, func(c *Config) { c.Limits.RetainBytes = 1 })
			old := c.leader()
			c.propose(old, "base")
			c.network.Cut(old.config.Address)
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			var proposing sync.WaitGroup
			for i := range suffix {
				proposing.Go(func() { _, _ = old.Propose(ctx, fmt.Appendf(nil, "old %d", i)) })
			}
			var next *node
			c.eventually("another leads", func() bool {
				i := slices.IndexFunc(c.nodes, func(n *node) bool { return n != old && n.IsLeader() })
				if i >= 0 {
					next = c.nodes[i]
				}
				return i >= 0
			})
			for i := range 205 {
				if i == 200 {
					if err := next.Snapshot(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				c.propose(next, fmt.Sprintf("good %d", i))
			}
			c.network.Heal(old.config.Address)
			c.agree()
			stop()
			proposing.Wait()
			if s := old.Stats(); s.Installs > 1 {
				t.Errorf("caught up with %d installs, want at most one", s.Installs)
			}
		})
	})
}

// stockDirectory tells the child process of the next test where to start.
const stockDirectory = "FLOE_UPSTREAM_85"

// One flipped bit in the newest snapshot of a member with a short log ends the
// library by a panic, with no word of what to do. floe's side is in TestOpenDamaged.
func TestUpstream85PanicsWithoutTheBelt(t *testing.T) {
	if dir := os.Getenv(stockDirectory); dir != "" {
		stockStart(t, dir)
		return
	}
	dir := t.TempDir()
	start := func() ([]byte, error) {
		c := exec.Command(os.Args[0], "-test.run=^TestUpstream85PanicsWithoutTheBelt$")
		c.Env = append(os.Environ(), stockDirectory+"="+dir)
		return c.CombinedOutput()
	}
	if out, err := start(); err != nil {
		t.Fatalf("the first start: %v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("snapshots: %v, %v", files, err)
	}
	slices.Sort(files)
	damage(t, files[len(files)-1], func(b []byte) []byte { b[1] ^= 1; return b })
	out, err := start()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !bytes.Contains(out, []byte("panic")) {
		t.Errorf("the start from a damaged snapshot: %v; want a panic: is raft#85 mended, or the test dead?\n%s", err, out)
	}
}

// stockStart starts the library alone in a directory, takes two snapshots, and ends.
func stockStart(t *testing.T, dir string) {
	c := raft.DefaultConfig()
	c.LocalID, c.Logger, c.NoLegacyTelemetry = "a", hclog.NewNullLogger(), true
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 10, 1<<40, time.Hour
	_, tr := raft.NewInmemTransport("a")
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, c.Logger)
	if err != nil {
		t.Fatal(err)
	}
	// It exists at the second start.
	_ = raft.BootstrapCluster(c, store, store, snapshots, tr, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}})
	r, err := raft.NewRaft(c, &history{entries: map[uint64]string{}}, store, store, snapshots, tr)
	if err != nil {
		t.Fatal(err)
	}
	l := &library{t: t}
	l.until("it leads", func() bool { return r.State() == raft.Leader })
	for range 2 {
		for range 100 { // indexes of equal length, so that names sort
			if err := r.Apply([]byte("x"), time.Second).Error(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Apply([]byte("x"), time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Shutdown().Error(), store.Close()); err != nil {
		t.Fatal(err)
	}
}
