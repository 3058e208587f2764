package replica

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"floe/coordinator/replica/replicatest"
	"floe/protocol"
)

// record is the machine of these tests: the list of all commands ever applied.
type record struct {
	mu       sync.Mutex
	commands []string
	entries  []uint64 // index of each entry
	persist  error
}

// stampList seals commands as uvarint length and bytes each.
func stampList(s Stamping) ([]byte, error) {
	var b []byte
	for _, c := range s.Commands {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return b, nil
}

func (m *record) Apply(index, _ uint64, entry []byte) (answers []any, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = append(m.entries, index)
	for len(entry) > 0 {
		n, k := binary.Uvarint(entry)
		c := string(entry[k : k+int(n)])
		entry = entry[k+int(n):]
		switch c {
		case "fail":
			return nil, errors.New("told to fail")
		case "panic":
			panic("told to panic")
		case "mute":
			continue
		}
		m.commands = append(m.commands, c)
		if c == "large" {
			answers = append(answers, new([1 << 16]byte))
			continue
		}
		answers = append(answers, len(m.commands))
	}
	return answers, nil
}

func (m *record) list() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.commands)
}

func (m *record) Snapshot() (Snapshot, error) { return &list{m.list(), m.persist}, nil }

func (m *record) Restore(r io.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = nil
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m.commands = append(m.commands, lines.Text())
	}
	return lines.Err()
}

type list struct {
	commands []string
	err      error
}

func (l *list) Persist(w io.Writer) error {
	for _, c := range l.commands {
		if _, err := fmt.Fprintln(w, c); err != nil {
			return err
		}
	}
	return l.err
}
func (l *list) Release() {}

// node is one member under test; it survives restarts with its directory.
type node struct {
	*Replica
	config  Config
	machine *record
	cancel  context.CancelFunc
	ended   chan error // result of Run
}

type cluster struct {
	t       testing.TB
	network *replicatest.Network
	nodes   []*node
}

func testConfig(t testing.TB, dir string, i int) Config {
	return Config{
		ID: protocol.NodeID(fmt.Sprintf("c%d", i+1)), Address: fmt.Sprintf("c%d:4433", i+1), Dir: dir,
		Stamp: stampList, Logger: testLogger(t), Timing: LoopbackTiming(), PromoteAfter: 2 * time.Second,
	}
}

// testLogger shows the log of failed tests when FLOE_TEST_LOG is set.
func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("FLOE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newCluster starts n voters that know each other.
func newCluster(t testing.TB, n int, adjust ...func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, network: &replicatest.Network{Latency: 100 * time.Microsecond}}
	var founders []Member
	for i := range n {
		nd := &node{config: testConfig(t, filepath.Join(t.TempDir(), "raft"), i)}
		for _, f := range adjust {
			f(&nd.config)
		}
		c.nodes = append(c.nodes, nd)
		founders = append(founders, Member{ID: nd.config.ID, Address: nd.config.Address})
	}
	for i, nd := range c.nodes {
		c.start(i)
		if err := nd.Bootstrap(t.Context(), founders...); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// start opens and runs one node, with an empty machine.
func (c *cluster) start(i int) {
	c.t.Helper()
	if err := c.open(i); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i].run(c.t)
}

func (c *cluster) open(i int) (err error) {
	n := c.nodes[i]
	n.machine = &record{}
	n.config.Machine = n.machine
	n.config.Stream = c.network.Listen(n.config.Address)
	n.Replica, err = Open(n.config)
	return err
}

func (n *node) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan error, 1)
	r, ended := n.Replica, n.ended
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		r.Close()
		<-done
		cancel()
	})
}

// crash ends a node without a hand-over.
func (n *node) crash() error {
	n.Close()
	return <-n.ended
}

// leader waits until exactly one of the running nodes leads.
func (c *cluster) leader() *node {
	c.t.Helper()
	var found *node
	c.eventually("a leader", func() bool {
		found = nil
		for _, n := range c.nodes {
			if n.Replica != nil && n.IsLeader() {
				if found != nil {
					return false
				}
				found = n
			}
		}
		return found != nil
	})
	return found
}

func (c *cluster) followers() (out []*node) {
	l := c.leader()
	for _, n := range c.nodes {
		if n != l {
			out = append(out, n)
		}
	}
	return out
}

// eventually waits for a condition; in a bubble the time is virtual.
func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	c.t.Fatalf("waited in vain for %s", what)
}

// agree waits until all running nodes hold the same commands and returns them.
func (c *cluster) agree() []string {
	c.t.Helper()
	var want []string
	c.eventually("agreement", func() bool {
		want = c.leader().machine.list()
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { return !slices.Equal(n.machine.list(), want) })
	})
	return want
}

func (c *cluster) propose(n *node, command string) Receipt {
	c.t.Helper()
	r, err := n.Propose(c.t.Context(), []byte(command))
	if err != nil {
		c.t.Fatalf("Propose(%q): %v", command, err)
	}
	return r
}

// count is how often each command was applied.
func count(commands []string) map[string]int {
	m := map[string]int{}
	for _, c := range commands {
		m[c]++
	}
	return m
}

func contains(err error, words ...string) bool {
	return err != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) })
}
