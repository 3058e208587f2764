package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"floe/coordinator/auth"
	"floe/coordinator/blob"
	"floe/coordinator/fetch"
	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// Record is the replicated record as the server needs it.
type Record interface {
	// Propose has the cluster apply a command. Errors are *protocol.Error: not
	// leading, busy, or unknown. A refusal by the record is in the answer.
	Propose(ctx context.Context, c state.Command) (state.Answer, error)
	// ProposeAll is Propose for several commands, applied in their order and together
	// as far as that can be. The fates are in the order of the commands.
	ProposeAll(ctx context.Context, commands []state.Command) []Fate
	// Read runs f while nothing is applied. f must be quick and keep nothing but values.
	Read(f func(*state.Machine))
	// Leading returns the term this node leads with its barrier done, 0 when it does
	// not lead, and a channel that is closed when that changes.
	Leading() (term uint64, changed <-chan struct{})
	// Confirm returns nil when this node is known to lead, by a majority's word: it has
	// heard of everything that was acknowledged anywhere before the call. Errors are
	// *protocol.Error.
	Confirm(ctx context.Context) error
	// Leader names the node that leads, empty when none is known.
	Leader() protocol.NodeID
	// Applied is the index of the last applied entry.
	Applied() uint64
	// Members lists the coordinators.
	Members() []protocol.Member
	// AddMember admits a coordinator as a non-voter; it is promoted when it has caught up.
	AddMember(ctx context.Context, id protocol.NodeID, raft string) error
	// Term and LogBytes are for people.
	Term() uint64
	LogBytes() protocol.ByteSize
}

// Peers reaches the other coordinators.
type Peers interface {
	// Do sends a request to a coordinator under this node's certificate.
	Do(ctx context.Context, node protocol.NodeID, r *http.Request) (*http.Response, error)
	// Others lists every other coordinator.
	Others() []protocol.NodeID
}

// Authority certifies keys and derives passkeys.
type Authority interface {
	CertifyPilot(csr []byte, site protocol.SiteID, pilot protocol.PilotID) (chain []byte, key ed25519.PublicKey, err error)
	CertifySite(csr []byte, site protocol.SiteID) (chain []byte, holder protocol.Digest, err error)
	RenewSite(csr []byte, caller transport.Caller) (chain []byte, err error)
	CertifyCoordinator(csr []byte, node protocol.NodeID) (chain []byte, holder protocol.Digest, err error)
	// Secrets are what a joining coordinator needs of the cluster.
	Secrets() ([]byte, error)
	Passkey(task protocol.TaskID, lease protocol.LeaseID, key protocol.Digest, nonce [16]byte) protocol.Passkey
	// Pin is the digest of the root's public key, as tokens carry it; Root is its
	// certificate in DER.
	Pin() protocol.Digest
	Root() []byte
}

// Config of a server.
type Config struct {
	Cluster   string
	Node      protocol.NodeID
	Record    Record
	Ledger    *history.Ledger
	Blobs     *blob.Store
	Peers     Peers
	Authority Authority
	Policy    *auth.Policy
	// Membership is who belongs to the cluster, for those who change it.
	Membership Membership
	// Hashes tells what this coordinator's record is known by, also at one index.
	Hashes func(at uint64) protocol.HashesReply
	// Backup writes a backup of this coordinator.
	Backup func(ctx context.Context, w io.Writer) error
	// Modules fetches external modules; nil fetches none.
	Modules *fetch.Fetcher
	// Describe lists the parameters of the classes in a Python file without running it;
	// nil where that is not possible, and parameters of external modules are not checked.
	Describe func(ctx context.Context, file string) (map[string][]string, error)
	// Metrics serves this coordinator's figures.
	Metrics http.Handler
	Timing  Timing
	// Disconnect closes the connections of callers that match and returns how many;
	// nil where there are none.
	Disconnect func(match func(transport.Caller) bool) int
	// Space tells how full the disk is; nil where nobody watches it.
	Space func() Space
	// Format is the newest format of the record that this coordinator supports.
	Format uint32
	Logger *slog.Logger
}

// Timing are the spans after which the leader acts. Zero takes the default.
type Timing struct {
	// Lease is how long a lease lasts without renewal, Offer how long until a new
	// lease must be heard of for the first time. Source: design §4.
	Lease time.Duration // 5 min
	Offer time.Duration // 2 min
	// Fence is how long a payload may go on without any coordinator.
	Fence time.Duration // 40 min
	// Exchange is the longest time a pilot may stay silent while it holds leases.
	Exchange time.Duration // 60 s
	// Pilot is after how much silence a pilot without leases is given up.
	Pilot time.Duration // 15 min
	// Launch is how long a pilot job may wait in the batch system. Source: research D2.
	Launch time.Duration // 72 h
	// Stall is a pause of this process after which nothing may lapse for a full term.
	Stall time.Duration // 5 s
}

func (t Timing) withDefaults() Timing {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Lease, 5 * time.Minute},
		{&t.Fence, 40 * time.Minute},
		{&t.Exchange, time.Minute},
		{&t.Pilot, 15 * time.Minute},
		{&t.Launch, 72 * time.Hour},
		{&t.Stall, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if t.Offer == 0 {
		t.Offer = min(2*time.Minute, t.Lease) // what was never heard of need not live longer
	}
	return t
}

// Server answers the API. Its methods may be called concurrently.
type Server struct {
	Config
	core    *Core
	tails   *blob.Tails
	changes *changes
	mux     *http.ServeMux
	passes  passes

	revocations *revocations

	documents  documents
	fetched    fetchedModules
	submitting chan struct{} // holds one: a submission under way
	allegiance allegiance
	directory  directory
}

// New returns a server; Handler serves before Run only what needs no leader.
func New(c Config) (*Server, error) {
	c.Timing = c.Timing.withDefaults()
	if c.Format == 0 {
		c.Format = state.Format
	}
	s := &Server{
		Config: c, core: NewCore(c.Record, c.Authority, c.Timing), changes: newChanges(),
		tails: blob.NewTails(tailBytes, tailsBytes), mux: http.NewServeMux(),
		revocations: newRevocations(), submitting: make(chan struct{}, 1),
	}
	if err := s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

// Live logs kept in memory: the end of each, and all together.
const (
	tailBytes  = 256 << 10
	tailsBytes = 64 << 20
)

// Run does the leader's work, while this node leads, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { s.housekeep(ctx) })
	work.Go(func() { s.follow(ctx) })
	work.Go(func() { s.enforceRevocations(ctx) })
	work.Go(func() { s.keepCopies(ctx) })
	for {
		term, changed := s.Record.Leading()
		if term != 0 {
			leading, stop := context.WithCancel(ctx)
			work.Go(func() { s.lead(leading, term) })
			select {
			case <-changed:
			case <-ctx.Done():
			}
			stop()
			s.core.EndTerm()
		} else {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			s.core.EndTerm()
			return nil
		}
	}
}

// Observe takes the events of one applied entry. It is called in order by the
// goroutine that applies, and only remembers.
func (s *Server) Observe(events []state.Event) {
	s.core.Observe(time.Now(), events)
	for i := range events {
		s.changes.observe(&events[i])
		s.revocations.observe(&events[i])
		if b, elected := events[i].Body.(*state.LeaderChanged); elected && b.Clamped {
			s.Logger.Error("the clocks of coordinators are far apart; set them", "term", b.Term, "step", time.Duration(b.Step))
		}
	}
}

// Parked is how many exchanges wait here for work.
func (s *Server) Parked() int { return s.core.parked.count() }

// Caches are what the caches of all pilots have done since this coordinator knows of
// them: it hears of them while it leads.
func (s *Server) Caches() protocol.CacheFigures {
	_, all := s.core.watch.caches("")
	return all
}

// metrics gives the figures of this coordinator in Prometheus' text form.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	if s.Metrics == nil {
		return protocol.Errorf(protocol.CodeNotFound, "this coordinator keeps no figures")
	}
	s.Metrics.ServeHTTP(w, r)
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// handlerFunc is a verb that answers by itself or returns an error.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// answer writes the error a verb returned.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		return
	}
	var refused *protocol.Error
	if !errors.As(err, &refused) {
		if r.Context().Err() != nil {
			return // the caller has gone
		}
		s.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "caller", transport.CallerOf(r.Context()), "err", err)
	}
	transport.WriteError(w, r, err)
}

// propose has the record apply a command and turns a refusal into an error.
func (s *Server) propose(ctx context.Context, c state.Command) (state.Answer, error) {
	if err := c.Validate(); err != nil {
		return state.Answer{}, protocol.Errorf(protocol.CodeBadRequest, "%v", err)
	}
	if err := s.permits(c); err != nil {
		return state.Answer{}, err
	}
	a, err := s.Record.Propose(ctx, c)
	if err != nil {
		return a, err
	}
	return a, a.Err()
}

// discard drains a body so that its connection can be used again.
func discard(r io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(r, 64<<10)) }
