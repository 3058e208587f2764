package pilot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"floe/protocol"
)

// fakeCoordinators grant leases and answer reports as a test wants it.
type fakeCoordinators struct {
	t   *testing.T
	id  protocol.PilotID
	key ed25519.PrivateKey

	mu     sync.Mutex
	leases []protocol.Lease                      // guarded by mu: to grant
	blobs  map[protocol.Digest][]byte            // guarded by mu
	heard  []*protocol.ExchangeRequest           // guarded by mu
	ended  map[protocol.LeaseID]protocol.Code    // guarded by mu: reports that were settled
	poke   chan struct{}                         // ends a parked exchange
	renew  func() error                          // of Renew; nil is fine
	before func(*protocol.ExchangeRequest) error // may fail an exchange
	store  func()                                // may keep a blob waiting
	// answer is the fate of a report, told the how manieth of its lease it is; nil
	// accepts.
	answer func(r *protocol.Report, times int) protocol.Code
	orders func(*protocol.ExchangeRequest) []protocol.Order
	times  map[protocol.LeaseID]int // guarded by mu
}

func newFakeCoordinators(t *testing.T) *fakeCoordinators {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCoordinators{
		t: t, id: protocol.NewPilotID(), key: key, poke: make(chan struct{}, 1),
		blobs: map[protocol.Digest][]byte{}, ended: map[protocol.LeaseID]protocol.Code{}, times: map[protocol.LeaseID]int{},
	}
}

func (f *fakeCoordinators) ID() protocol.PilotID    { return f.id }
func (f *fakeCoordinators) Key() ed25519.PrivateKey { return f.key }
func (f *fakeCoordinators) Close()                  {}

func (f *fakeCoordinators) Software(context.Context, string, string) (*protocol.SoftwareProof, error) {
	return nil, protocol.Errorf(protocol.CodeNotFound, "the catalog is empty")
}

func (f *fakeCoordinators) Enrol(context.Context, protocol.EnrolRequest) (*protocol.EnrolReply, error) {
	return &protocol.EnrolReply{Site: "here"}, nil
}

func (f *fakeCoordinators) Renew(context.Context) error {
	if f.renew != nil {
		return f.renew()
	}
	return nil
}

func (f *fakeCoordinators) Exchange(ctx context.Context, r *protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	f.mu.Lock()
	f.heard = append(f.heard, r)
	f.mu.Unlock()
	if f.before != nil {
		if err := f.before(r); err != nil {
			return nil, err
		}
	}
	reply := &protocol.ExchangeReply{Next: 1}
	for i := range r.Reports {
		reply.Answers = append(reply.Answers, f.settle(&r.Reports[i]))
	}
	if f.orders != nil {
		reply.Orders = f.orders(r)
	}
	f.mu.Lock()
	for len(f.leases) > 0 && len(reply.Leases) < int(r.Want) {
		reply.Leases, f.leases = append(reply.Leases, f.leases[0]), f.leases[1:]
	}
	f.mu.Unlock()
	if r.Wait == 0 || len(reply.Leases)+len(reply.Answers)+len(reply.Orders) > 0 {
		return reply, nil
	}
	wait := time.NewTimer(20 * time.Millisecond) // an early answer is always allowed
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.poke:
	case <-wait.C:
	}
	return reply, nil
}

func (f *fakeCoordinators) settle(signed *protocol.SignedReport) protocol.ReportAnswer {
	report, err := signed.Decode()
	if err != nil || !signed.Verify(f.key.Public().(ed25519.PublicKey)) {
		f.t.Errorf("report %v: not signed by the pilot", err)
		return protocol.ReportAnswer{Code: protocol.CodeBadRequest}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(signed.Log) > 0 {
		if protocol.DigestOf(signed.Log) != report.Log.Digest || protocol.ByteSize(len(signed.Log)) != report.Log.Size {
			f.t.Errorf("report of %v: a log of %d bytes goes along that is not the one it names", report.Lease, len(signed.Log))
		}
		f.blobs[report.Log.Digest] = signed.Log
	}
	f.times[report.Lease]++
	code := protocol.CodeOK
	if f.answer != nil {
		code = f.answer(report, f.times[report.Lease])
	}
	f.ended[report.Lease] = code
	return protocol.ReportAnswer{Lease: report.Lease, Code: code}
}

// reports are those that were sent, in order.
func (f *fakeCoordinators) reports() (all []*protocol.Report) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.heard {
		for i := range r.Reports {
			report, err := r.Reports[i].Decode()
			if err != nil {
				f.t.Fatal(err)
			}
			all = append(all, report)
		}
	}
	return all
}

// first is the oldest exchange.
func (f *fakeCoordinators) first() *protocol.ExchangeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard[0]
}

// last is the newest exchange.
func (f *fakeCoordinators) last() *protocol.ExchangeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard[len(f.heard)-1]
}

func (f *fakeCoordinators) GetBlob(_ context.Context, d protocol.Digest) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.blobs[d]
	if !ok {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no blob %v", d)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (f *fakeCoordinators) PutBlob(_ context.Context, l *protocol.Lease, class string, d protocol.Digest, size protocol.ByteSize, body io.Reader) error {
	if f.store != nil {
		f.store()
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if protocol.DigestOf(b) != d || protocol.ByteSize(len(b)) != size {
		return fmt.Errorf("blob of %v: %d bytes of class %s are not what was announced", l.ID, len(b), class)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[d] = b
	return nil
}

// lease makes a lease of the first task of a document, to be granted.
func (f *fakeCoordinators) lease(document string, change ...func(*protocol.Lease)) *protocol.Lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := protocol.DigestOf([]byte(document))
	f.blobs[d] = []byte(document)
	l := protocol.Lease{
		ID: protocol.LeaseID{Index: 7, Ordinal: uint32(len(f.leases))}, Task: protocol.TaskID{Dataset: 1, Job: 3}, TaskName: "make", Attempt: 1,
		Steering: d, Seed: 1, JobCount: 10, Passkey: "secret", Granted: protocol.Requirements{Cores: 1}, Version: 1,
	}
	for _, c := range change {
		c(&l)
	}
	f.leases = append(f.leases, l)
	return &l
}

// newPilot makes a pilot that speaks to the fake and leaves when idle for a moment.
func (f *fakeCoordinators) newPilot(change ...func(*Config)) *Pilot {
	f.t.Helper()
	dir := f.t.TempDir()
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(f.t.Output(), nil))
	}
	c := Config{
		Scratch: filepath.Join(dir, "scratch"), Cache: filepath.Join(dir, "cache"), Spool: filepath.Join(dir, "spool"),
		Offer: protocol.Resources{Cores: 2}, Idle: 50 * time.Millisecond, Logger: logger,
	}
	for _, change := range change {
		change(&c)
	}
	p, err := open(c, f)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// document is one task that runs a shell script, with data of its own.
func document(script, data string) string {
	return fmt.Sprintf("version: 3\ntasks:\n  - name: make\n    trays: [{modules: [{name: sh, src: /bin/sh, args: [\"-c\", %q]}]}]\n    data: [%s]\n", script, data)
}

func spooled(t *testing.T, p *Pilot) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(p.config.Spool, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
