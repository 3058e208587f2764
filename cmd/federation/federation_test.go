package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// federation is everything in one bubble. Its methods are called by the bubble's
// first goroutine, unless they say otherwise.
type federation struct {
	t        *testing.T
	ctx      context.Context //nolint:containedctx // of the whole run
	cancel   context.CancelFunc
	rand     *rand.Rand
	root     string
	began    time.Time
	network  *network
	limits   replica.Limits
	timing   replica.Timing
	nodes    []*node
	losses   int           // of disks
	long     time.Duration // what payloads take; 0 leaves it to them
	sites    []*site
	admin    protocol.Token
	pin      protocol.Digest
	outside  *nic // where people are: no fault reaches it
	operator *transport.Client
	work     sync.WaitGroup // all that was started
	archive  *archive
	history  recording
	trace    trace
	asked    sync.WaitGroup // what the operator asks for, and
	asking   atomic.Int32   // how much of it is not done
	arrivals chan *node     // joined in the place of a lost one, to be started

	mu       sync.Mutex
	fenced   []time.Duration                    // guarded by mu: when payloads were
	datasets []submitted                        // guarded by mu: acknowledged
	walls    map[state.UnixMillis]time.Duration // guarded by mu: what clocks were read when
}

// newFederation makes what does not run yet.
func newFederation(t *testing.T, seed uint64, root string) *federation {
	f := &federation{
		t: t, rand: rand.New(rand.NewPCG(seed, 0x666c6f65)), root: root, began: time.Now(), network: newNetwork(seed),
		// Small, so that a coordinator that was away for some minutes needs a snapshot.
		limits: replica.Limits{SnapshotCommands: 100, RetainBytes: 64 << 10},
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.timing = replica.DefaultTiming()
	f.arrivals = make(chan *node, 1)
	f.walls = map[state.UnixMillis]time.Duration{}
	f.archive = &archive{f: f, entries: map[uint64]replica.Logged{}}
	f.trace.open(f)
	return f
}

// close ends all that runs, also after a failure.
func (f *federation) close() {
	f.cancel()
	f.asked.Wait()
	f.network.heal()
	for _, s := range f.sites {
		s.stop()
	}
	if f.operator != nil {
		f.operator.Close()
	}
	for _, n := range f.nodes {
		n.stop()
	}
	f.work.Wait()
}

func (f *federation) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// now is how long the run has taken, in virtual time.
func (f *federation) now() time.Duration { return time.Since(f.began) }

// dir makes a directory below the run's.
func (f *federation) dir(parts ...string) string {
	d := filepath.Join(append([]string{f.root}, parts...)...)
	if err := os.MkdirAll(d, 0o700); err != nil {
		f.t.Error(err)
	}
	return d
}

// logger writes to a file of its own below the run's directory. Anybody may call it.
func (f *federation) logger(name string) *slog.Logger {
	file, err := os.OpenFile(filepath.Join(f.dir("logs"), name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		f.t.Error(err)
		return slog.New(slog.DiscardHandler)
	}
	f.t.Cleanup(func() { _ = file.Close() })
	return slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// trace is the log of what the seed did to the federation.
type trace struct{ *slog.Logger }

func (t *trace) open(f *federation) {
	t.Logger = f.logger("trace")
}

// client is newClient for the bubble's first goroutine.
func (f *federation) client(n *nic, c transport.ClientConfig) *transport.Client {
	client, err := f.newClient(n, c)
	f.must(err)
	return client
}

// newClient fills in what all clients share.
func (f *federation) newClient(n *nic, c transport.ClientConfig) (*transport.Client, error) {
	c.Cluster, c.Pins = clusterName, []protocol.Digest{f.pin}
	c.DialTCP, c.DialUDP = n.dialTCP, n.dialUDP
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return transport.NewClient(c)
}

// eventually waits in virtual time, looking every few seconds.
func (f *federation) eventually(what string, limit time.Duration, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			f.t.Fatalf("waited %v in vain for %s", limit, what)
		}
		f.pause(2 * time.Second)
	}
}

// pause lets virtual time pass, and collects the log meanwhile.
func (f *federation) pause(d time.Duration) {
	<-time.After(d)
	f.archive.look()
	f.welcome()
}

// welcome starts a coordinator that has joined in the place of a lost one.
func (f *federation) welcome() {
	select {
	case n := <-f.arrivals:
		i := slices.IndexFunc(f.nodes, func(o *node) bool { return o.lost })
		f.trace.Info("replaced", "at", f.now(), "coordinator", f.nodes[i].name, "by", n.name)
		f.nodes[i] = n
		n.start()
		f.must(f.operator.SetAddresses(f.addresses()))
	default:
	}
}

// addresses are those of all coordinators.
func (f *federation) addresses() (all []string) {
	for _, n := range f.nodes {
		all = append(all, n.address())
	}
	return all
}

// settle waits until nobody can do anything before time passes: nobody writes.
func (f *federation) settle() { synctest.Wait() }

// open founds a cluster of three, lets sites join, and gives the operator all
// addresses.
func (f *federation) open(sites, slots int) {
	f.outside = f.network.attach(netip.AddrFrom4([4]byte{10, 9, 9, 9}))
	for i := range 3 {
		n := f.newNode(i, protocol.NodeID(fmt.Sprintf("c%d", i+1)))
		f.nodes = append(f.nodes, n)
		if i == 0 {
			n.found()
			f.operator = f.client(f.outside, transport.ClientConfig{Addresses: []string{n.address()}, Bearer: f.admin.Credential})
		} else {
			f.must(n.join())
		}
		n.start()
		f.eventually("a coordinator's vote", time.Minute, func() bool {
			c, err := f.cluster(n)
			return err == nil && c.Leader != "" && len(c.Members) == i+1 && !slices.ContainsFunc(c.Members, func(m protocol.Member) bool { return !m.Voter })
		})
	}
	f.must(f.operator.SetAddresses(f.addresses()))
	for i := range sites {
		f.sites = append(f.sites, f.joinSite(i+1, protocol.SiteID(fmt.Sprintf("site%d", i+1)), slots))
	}
}

// cluster asks one coordinator how it sees the cluster.
func (f *federation) cluster(n *node) (protocol.ClusterReply, error) {
	var reply protocol.ClusterReply
	if !n.running() {
		return reply, errors.New("not running")
	}
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Second)
	defer cancel()
	return reply, n.monitor.CallJSON(ctx, "GET", "/v1/cluster", nil, &reply)
}

// leader is the node that leads by its own account; nil where none does.
func (f *federation) leader() *node {
	var found *node
	var term uint64
	for _, n := range f.nodes {
		if c, err := f.cluster(n); err == nil && c.Leader == n.name && c.Term > term {
			found, term = n, c.Term
		}
	}
	return found
}

// call is one request of the operator, repeated until it has an answer. Anybody may
// call it.
func (f *federation) call(method, path string, in, out any) error {
	for f.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(f.ctx, 30*time.Second)
		err := f.operator.CallJSON(ctx, method, path, in, out, transport.Idempotent())
		cancel()
		var refused *protocol.Error
		if err == nil || errors.As(err, &refused) && !refused.Code.Retryable() {
			return err
		}
		f.trace.Debug("the operator repeats a request", "at", f.now(), "path", path, "err", err)
		<-time.After(time.Second)
	}
	return f.ctx.Err()
}

// ask lets the operator do something while the schedule goes on: without a leader
// it takes its time.
func (f *federation) ask(do func() error) {
	f.asking.Add(1)
	f.asked.Go(func() {
		defer f.asking.Add(-1)
		if err := do(); err != nil && f.ctx.Err() == nil {
			f.t.Error(err)
		}
	})
}

// document is a job of two tasks, of which the second reads what the first left.
const document = `version: 3
tasks:
  - name: make
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 1}
    trays: [{modules: [{src: make, data: [{type: job_temp, movement: output, local: make, remote: ""}]}]}]
  - name: use
    depends: [make]
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 1}
    trays: [{modules: [{src: use, data: [{type: job_temp, movement: input, local: make, remote: ""}]}]}]
`

const tasksPerJob = 2

// submitted is a dataset that was acknowledged.
type submitted struct {
	id   protocol.DatasetID
	jobs uint32
}

// submit has a dataset submitted.
func (f *federation) submit(jobs uint32) {
	request := &protocol.SubmitRequest{Key: fmt.Sprintf("%016x", f.rand.Uint64()), Steering: document, Jobs: jobs, Seed: f.rand.Uint64()>>1 + 1}
	f.ask(func() error {
		var reply protocol.SubmitReply
		if err := f.call("POST", "/v1/datasets", request, &reply); err != nil {
			return err
		}
		f.trace.Info("submitted", "at", f.now(), "dataset", reply.Dataset, "jobs", jobs)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.datasets = append(f.datasets, submitted{reply.Dataset, jobs})
		return nil
	})
}

// known are the datasets that were acknowledged so far.
func (f *federation) known() []submitted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.datasets)
}

// dataset asks for one dataset.
func (f *federation) dataset(id protocol.DatasetID) (d protocol.Dataset) {
	f.t.Helper()
	f.must(f.call("GET", fmt.Sprintf("/v1/datasets/%d", id), nil, &d))
	return d
}

// keep writes down what a person needs to look at a failed run, and says where.
func (f *federation) keep(seed uint64) {
	var b strings.Builder
	for _, n := range f.nodes {
		log, err := replica.ReadLog(n.record())
		fmt.Fprintf(&b, "%s, %s: %d entries, %v\n", n.name, n.record(), len(log), err)
		for _, e := range log {
			describe(&b, &e)
		}
	}
	_ = os.WriteFile(filepath.Join(f.dir("logs"), "entries"), []byte(b.String()), 0o600)
	f.history.write(filepath.Join(f.dir("logs"), "history"))
	f.t.Logf("kept in %s: logs/ (trace, history, entries, one file per process), coordinator/ (directories of all incarnations)\nagain: go test ./cmd/federation -run Seeds -seed %d", f.root, seed)
}
