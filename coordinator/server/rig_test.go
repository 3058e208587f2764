package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/blob"
	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// fakeRecord is a record of one node: what is proposed is applied at once.
type fakeRecord struct {
	node    protocol.NodeID
	members []protocol.Member

	applying sync.Mutex // one entry after another, its events included
	mu       sync.RWMutex
	machine  *state.Machine
	index    uint64
	last     time.Time
	first    bool // of this leader
	applied  func(index uint64, events []state.Event)

	lead    sync.Mutex
	term    uint64 // 0 while another node leads
	terms   uint64 // so far
	leader  protocol.NodeID
	changed chan struct{}
	deposed atomic.Bool // by a majority's word, which it has not heard
	// proposals counts the calls of ProposeAll.
	proposals atomic.Int64
	// before is called with each command before it is applied; an error of it is the answer.
	before func(state.Command) error
	// after is the same once it was applied: the answer that is lost.
	after func(state.Command) error
}

func newFakeRecord(node protocol.NodeID) *fakeRecord {
	r := &fakeRecord{
		node: node, machine: state.New(), last: time.Now(), changed: make(chan struct{}),
		members: []protocol.Member{{ID: node, Address: string(node) + ".example:443", Voter: true, Self: true}},
	}
	r.elect(node)
	return r
}

// elect makes a node the leader, this or another one; none where it is empty.
func (r *fakeRecord) elect(node protocol.NodeID) {
	r.lead.Lock()
	defer r.lead.Unlock()
	r.terms++
	r.term, r.leader = 0, node
	if node == r.node {
		r.term, r.first = r.terms, true
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *fakeRecord) Propose(_ context.Context, c state.Command) (state.Answer, error) {
	r.lead.Lock()
	term, before, after := r.term, r.before, r.after
	r.lead.Unlock()
	if term == 0 {
		return state.Answer{}, protocol.Errorf(protocol.CodeNotLeader, "%s does not lead", r.node)
	}
	if before != nil {
		if err := before(c); err != nil {
			return state.Answer{}, err
		}
	}
	a, err := r.apply(term, c)
	if err == nil && after != nil {
		err = after(c)
	}
	return a, err
}

func (r *fakeRecord) ProposeAll(ctx context.Context, commands []state.Command) []Fate {
	r.proposals.Add(1)
	fates := make([]Fate, len(commands))
	for i, c := range commands {
		fates[i].Answer, fates[i].Err = r.Propose(ctx, c)
	}
	return fates
}

// apply applies a command, also where another node leads.
func (r *fakeRecord) apply(term uint64, c state.Command) (state.Answer, error) {
	b, err := state.EncodeCommand(c)
	if err != nil {
		return state.Answer{}, err
	}
	r.applying.Lock()
	defer r.applying.Unlock()
	now := time.Now()
	e := &state.Entry{
		Term: term, First: r.first, Elapsed: state.RecordTime(now.Sub(r.last)), Wall: state.UnixMillis(now.UnixMilli()), Commands: [][]byte{b},
	}
	_, _ = rand.Read(e.Nonce[:])
	r.last, r.first = now, false
	r.mu.Lock()
	r.index++
	answers, events, err := r.machine.Apply(r.index, term, state.EncodeEntry(e))
	r.mu.Unlock()
	if err != nil {
		return state.Answer{}, err
	}
	r.applied(r.index, events)
	return answers[0], nil
}

func (r *fakeRecord) Read(f func(*state.Machine)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f(r.machine)
}

func (r *fakeRecord) Leading() (uint64, <-chan struct{}) {
	r.lead.Lock()
	defer r.lead.Unlock()
	return r.term, r.changed
}

// Confirm fails for a leader that was deposed and does not know it.
func (r *fakeRecord) Confirm(context.Context) error {
	if r.deposed.Load() {
		return protocol.Errorf(protocol.CodeNotLeader, "%s does not lead", r.node)
	}
	return nil
}

func (r *fakeRecord) Leader() protocol.NodeID {
	r.lead.Lock()
	defer r.lead.Unlock()
	return r.leader
}

func (r *fakeRecord) Applied() (index uint64) {
	r.Read(func(m *state.Machine) { index = m.Index() })
	return index
}

func (r *fakeRecord) Members() []protocol.Member { return slices.Clone(r.members) }

func (r *fakeRecord) AddMember(_ context.Context, id protocol.NodeID, raft string) error {
	r.members = append(r.members, protocol.Member{ID: id, Raft: raft})
	return nil
}

func (r *fakeRecord) Term() uint64                { return r.terms }
func (r *fakeRecord) LogBytes() protocol.ByteSize { return 0 }

// fakePeers hands requests to other rigs, with the certificate of this node.
type fakePeers struct {
	self protocol.NodeID

	mu    sync.Mutex
	nodes map[protocol.NodeID]http.Handler // guarded by mu; nil is out of reach
	asked []string                         // guarded by mu: node, method and path
}

func (p *fakePeers) Others() (all []protocol.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range p.nodes {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func (p *fakePeers) Do(ctx context.Context, node protocol.NodeID, r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	h := p.nodes[node]
	p.asked = append(p.asked, fmt.Sprintf("%s %s %s", node, r.Method, r.URL.Path))
	p.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("%s is out of reach", node)
	}
	caller := transport.Caller{Kind: transport.Coordinator, Node: p.self}
	in := r.Clone(transport.WithCaller(ctx, caller))
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, in)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// rig is one coordinator's server with everything real but raft and the network.
type rig struct {
	*Server
	t       *testing.T
	record  *fakeRecord
	peers   *fakePeers
	cluster *auth.Cluster
	keys    string // the folder of the cluster's keys
}

// memoryDir is a temporary directory in memory where the system has such: a blob
// store makes hundreds of directories when it is new.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "floe-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// newRig starts a server of a node, which leads; change may alter its
// configuration before that.
func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	const node = "c1"
	dir := memoryDir(t)
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r := &rig{t: t, record: newFakeRecord(node), peers: &fakePeers{self: node, nodes: map[protocol.NodeID]http.Handler{}}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.keys = filepath.Join(dir, "keys")
	r.cluster, err = auth.InitCluster(r.keys, "test", node)
	must(err)
	ledger, err := history.Open(history.Config{Dir: filepath.Join(dir, "history"), Logger: logger, CommitInterval: time.Millisecond})
	must(err)
	blobs, err := blob.Open(blob.Config{Dir: filepath.Join(dir, "blobs"), Logger: logger, MinFree: 1})
	must(err)
	policy, err := auth.NewPolicy(auth.Table)
	must(err)
	config := Config{
		Cluster: "test", Node: node, Record: r.record, Ledger: ledger, Blobs: blobs,
		Peers: r.peers, Authority: r.cluster, Policy: policy, Membership: fakeMembership{r.record}, Logger: logger,
	}
	for _, c := range change {
		c(&config)
	}
	r.Server, err = New(config)
	must(err)
	r.record.applied = func(index uint64, events []state.Event) {
		ledger.Append(index, events)
		r.Observe(events)
	}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := ledger.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	work.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		work.Wait()
		must(ledger.Close())
		must(blobs.Close())
	})
	return r
}

// do has the record apply a command that must not be refused.
func (r *rig) do(c state.Command) state.Answer {
	r.t.Helper()
	if err := c.Validate(); err != nil {
		r.t.Fatalf("%T: %v", c, err)
	}
	a, err := r.record.apply(max(1, r.record.terms), c)
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		r.t.Fatalf("%T: %v", c, err)
	}
	return a
}

var remote = netip.MustParseAddrPort("192.0.2.7:4711")

// person makes somebody known and returns the header that shows their token.
func (r *rig) person(name protocol.UserID, role string, groups ...protocol.GroupID) http.Header {
	r.t.Helper()
	return known(r.cluster.NewToken(protocol.TokenUser), name, role, groups, r)
}

// known puts a person and a token into the records of coordinators.
func known(token protocol.Token, name protocol.UserID, role string, groups []protocol.GroupID, rigs ...*rig) http.Header {
	for _, r := range rigs {
		r.t.Helper()
		r.do(&state.PutUser{User: name, Role: role, Groups: groups})
		r.do(&state.PutToken{User: name, Role: role, Hash: token.Secret.Digest()})
	}
	return http.Header{"Authorization": {"Bearer " + token.Credential()}}
}

// send sends a request of a caller and returns the answer. A body that is not
// bytes is sent as JSON.
func (r *rig) send(caller transport.Caller, header http.Header, method, target string, body any) *http.Response {
	r.t.Helper()
	raw, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	req := httptest.NewRequestWithContext(transport.WithCaller(r.t.Context(), caller), method, target, bytes.NewReader(raw))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Result()
}

var anonymous = transport.Caller{Kind: transport.Anonymous, Remote: remote}

// ask sends a person's request and decodes the answer into reply, nil for none.
func (r *rig) ask(who http.Header, method, target string, body, reply any) error {
	r.t.Helper()
	resp := r.send(anonymous, who, method, target, body)
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && reply != nil {
		err = json.Unmarshal(b, reply)
	}
	return err
}

// mustAsk is ask where a refusal fails the test.
func (r *rig) mustAsk(who http.Header, method, target string, body, reply any) {
	r.t.Helper()
	if err := r.ask(who, method, target, body, reply); err != nil {
		var refused *protocol.Error
		_ = errors.As(err, &refused)
		r.t.Fatalf("%s %s: %v; %q", method, target, err, refused.Details)
	}
}

// callCBOR is a machine's request.
func (r *rig) callCBOR(caller transport.Caller, target string, request, reply any) error {
	r.t.Helper()
	b, err := protocol.Marshal(request)
	if err != nil {
		r.t.Fatal(err)
	}
	resp := r.send(caller, http.Header{"Content-Type": {transport.TypeCBOR}}, http.MethodPost, target, b)
	if err := transport.ResponseError(resp); err != nil {
		return err
	}
	if b, err = io.ReadAll(resp.Body); err == nil && reply != nil {
		err = protocol.UnmarshalReply(b, reply)
	}
	return err
}

// twoTasks is a job of two tasks, the second of which reads what the first left.
const twoTasks = `version: 3
tasks:
  - name: make
    trays: [{modules: [{src: make.sh, data: [{type: job_temp, movement: output, local: part, remote: ""}]}]}]
  - name: use
    depends: [make]
    trays: [{modules: [{src: use.sh, data: [{type: job_temp, movement: input, local: part, remote: ""}]}]}]
`

// submit submits a document as somebody.
func (r *rig) submit(who http.Header, jobs uint32, text string) protocol.DatasetID {
	r.t.Helper()
	var reply protocol.SubmitReply
	r.mustAsk(who, "POST", "/v1/datasets", protocol.SubmitRequest{Key: protocol.RandomText(10), Steering: text, Jobs: jobs}, &reply)
	return reply.Dataset
}

// worker is a pilot as the server sees it.
type worker struct {
	r        *rig
	key      ed25519.PrivateKey
	caller   transport.Caller
	free     protocol.Resources
	sequence uint64
}

// enrol lets a pilot in at a site, making the site known.
func (r *rig) enrol(site protocol.SiteID) *worker {
	r.t.Helper()
	r.do(&state.PutSite{Site: site})
	ticket := r.cluster.NewToken(protocol.TokenPilot)
	r.do(&state.PutTicket{Site: site, Hash: ticket.Secret.Digest(), Uses: 1, Expires: 1000 * state.Day})
	p, err := r.tryEnrol(ticket)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *rig) tryEnrol(ticket protocol.Token) (*worker, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &worker{r: r, key: key, free: protocol.Resources{Cores: 4, Memory: 8 * protocol.GB, Disk: 10 * protocol.GB}}
	request := protocol.EnrolRequest{
		Ticket: ticket.Credential(), CSR: csr, Pilot: protocol.NewPilotID(), Host: "node", Resources: p.free, Version: protocol.Version,
	}
	var reply protocol.EnrolReply
	if err := r.callCBOR(anonymous, "/v1/pilots", &request, &reply); err != nil {
		return nil, err
	}
	cert, err := transport.AssembleCertificate(reply.Certificate, key)
	if err != nil {
		return nil, err
	}
	// What the door would make of the certificate.
	id, err := transport.IdentityOf(cert.Leaf)
	if err != nil {
		return nil, err
	}
	p.caller = transport.Caller{
		Kind: id.Kind, Door: transport.DoorPilot, Site: id.Site, Pilot: id.Pilot, Remote: remote, Transport: "quic",
		KeyFingerprint: transport.Fingerprint(cert.Leaf), NotAfter: cert.Leaf.NotAfter,
	}
	return p, nil
}

// speak makes one exchange; what is free is all where the request says nothing.
func (p *worker) speak(request protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	p.sequence++
	request.Sequence = p.sequence
	if request.Free.Cores == 0 {
		request.Free = p.free
	}
	reply := new(protocol.ExchangeReply)
	return reply, p.r.callCBOR(p.caller, "/v1/pilots/exchange", &request, reply)
}

func (p *worker) mustSpeak(request protocol.ExchangeRequest) *protocol.ExchangeReply {
	p.r.t.Helper()
	reply, err := p.speak(request)
	if err != nil {
		p.r.t.Fatalf("exchange: %v", err)
	}
	return reply
}

// take acquires exactly n leases.
func (p *worker) take(n int) []protocol.Lease {
	p.r.t.Helper()
	reply := p.mustSpeak(protocol.ExchangeRequest{Want: uint16(n)})
	if len(reply.Leases) != n {
		p.r.t.Fatalf("got %d leases, want %d", len(reply.Leases), n)
	}
	return reply.Leases
}

// report signs the end of an attempt.
func (p *worker) report(l *protocol.Lease, verdict protocol.Verdict, change ...func(*protocol.Report)) protocol.SignedReport {
	p.r.t.Helper()
	report := &protocol.Report{Lease: l.ID, Task: l.Task, Pilot: p.caller.Pilot, Passkey: l.Passkey, Verdict: verdict, Cleaned: true}
	for _, c := range change {
		c(report)
	}
	signed, err := protocol.SignReport(report, p.key)
	if err != nil {
		p.r.t.Fatal(err)
	}
	return signed
}

// deliver sends reports and returns the codes they were answered with.
func (p *worker) deliver(reports ...protocol.SignedReport) (codes []protocol.Code) {
	p.r.t.Helper()
	for _, a := range p.mustSpeak(protocol.ExchangeRequest{Reports: reports}).Answers {
		codes = append(codes, a.Code)
	}
	return codes
}

// finish reports a lease ok and cleaned.
func (p *worker) finish(l *protocol.Lease, change ...func(*protocol.Report)) {
	p.r.t.Helper()
	if codes := p.deliver(p.report(l, protocol.VerdictOK, change...)); codes[0] != protocol.CodeOK {
		p.r.t.Fatalf("report of %v: %v", l.Task, codes[0])
	}
}

func held(l *protocol.Lease, phase protocol.Phase) protocol.HeldLease {
	return protocol.HeldLease{Lease: l.ID, Task: l.Task, Phase: phase}
}

// taskState is where the record has a task.
func (r *rig) taskState(t protocol.TaskID) (s protocol.TaskState) {
	r.record.Read(func(m *state.Machine) { s, _ = m.TaskState(t) })
	return s
}

func task(d protocol.DatasetID, j protocol.JobIndex, t protocol.TaskIndex) protocol.TaskID {
	return protocol.TaskID{Dataset: d, Job: j, Task: t}
}
