//go:build linux

package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"floe/coordinator/blob"
	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/replica/replicatest"
	"floe/coordinator/state"
	"floe/protocol"
)

// stores are everything of a coordinator that keeps files: record, ledger and
// blobs, driven as a running coordinator drives them, in a cluster of one.
type stores struct {
	ledger  *history.Ledger
	blobs   *blob.Store
	machine *machine
	record  *record

	stop  context.CancelFunc
	ended chan error // of the replica and of the ledger, in any order

	mu   sync.Mutex
	tale map[uint64]facts // guarded by mu: by index, what was true when it had been applied
	now  facts            // guarded by mu
}

// facts are what a coordinator must know when it has applied an entry. The ledger
// is counted: what a row says follows from the entry, and the chain holds that.
type facts struct {
	Chain   string
	Values  uint64  // of the statistic, one per accepted attempt
	Sum     float64 // of them, exactly
	Actions int     // control actions
}

// quick are clocks for a cluster of one, whose elections nobody else disturbs.
var quick = replica.Timing{
	Heartbeat: 60 * time.Millisecond, Election: 60 * time.Millisecond, Lease: 60 * time.Millisecond,
	Commit: 5 * time.Millisecond, RPC: time.Second,
}

// openStores opens a directory and runs what is in it. A short journal and a short
// log make it seal and truncate often.
func openStores(dir string) (s *stores, err error) {
	log := slog.New(slog.DiscardHandler)
	s = &stores{tale: map[uint64]facts{}, ended: make(chan error, 2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.ledger, err = history.Open(history.Config{Dir: filepath.Join(dir, "history"), Logger: log, JournalLimit: 150, CommitInterval: 5 * time.Millisecond}); err != nil {
		return s, err
	}
	if s.blobs, err = blob.Open(blob.Config{Dir: filepath.Join(dir, "blobs"), Logger: log}); err != nil {
		return s, err
	}
	s.machine = &machine{state: state.New(), hashes: newHashes(), ledger: s.ledger, observe: s.observe}
	s.record = &record{machine: s.machine, node: "c1"}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.ledger.Run(ctx) }()
	network := &replicatest.Network{}
	if s.record.replica, err = replica.Open(replica.Config{
		ID: "c1", Address: "c1:1", Dir: filepath.Join(dir, "record"), Stream: network.Listen("c1:1"),
		Machine: s.machine, Stamp: stamp, Logger: log, Timing: quick,
		Limits: replica.Limits{RetainBytes: 1, InFlight: 2, Gather: time.Millisecond},
	}); err != nil {
		stop()
		<-s.ended
		return s, err
	}
	go func() { s.ended <- s.record.replica.Run(ctx) }()
	if len(s.record.replica.Members()) == 0 {
		if err := s.record.replica.Bootstrap(ctx); err != nil && !errors.Is(err, replica.ErrBootstrapped) {
			return s, errors.Join(err, s.end())
		}
	}
	for { // until it leads, or ends
		l, changed := s.record.replica.Leadership()
		if l.Leading {
			return s, nil
		}
		select {
		case <-changed:
		case err := <-s.ended:
			stop()
			return s, errors.Join(err, <-s.ended)
		case <-time.After(30 * time.Second):
			return s, errors.Join(errors.New("no leader in a cluster of one"), s.end())
		}
	}
}

// end stops what runs.
func (s *stores) end() error {
	s.stop()
	return errors.Join(<-s.ended, <-s.ended)
}

func (s *stores) close() error {
	var all []error
	if s.record != nil && s.record.replica != nil {
		all = append(all, s.record.replica.Close())
	}
	if s.ledger != nil {
		all = append(all, s.ledger.Close())
	}
	if s.blobs != nil {
		all = append(all, s.blobs.Close())
	}
	return errors.Join(all...)
}

// observe keeps the tale; the machine has just applied what the events tell of.
func (s *stores) observe(events []state.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		switch e := events[i].Body.(type) {
		case *state.AttemptEnded:
			for _, v := range e.Statistics {
				s.now.Values++
				s.now.Sum += v.Value // whole numbers: exact
			}
		case *state.ActionTaken:
			s.now.Actions++
		}
	}
	s.machine.mu.RLock()
	defer s.machine.mu.RUnlock()
	s.now.Chain = fmt.Sprintf("%x", s.machine.chain[:])
	s.tale[s.machine.state.Index()] = s.now
}

// tell returns what the stores say, once everything applied is in the ledger.
func (s *stores) tell(ctx context.Context) (index uint64, f facts, err error) {
	s.machine.mu.RLock()
	index, f.Chain = s.machine.state.Index(), fmt.Sprintf("%x", s.machine.chain[:])
	s.machine.mu.RUnlock()
	if err := s.ledger.WaitApplied(ctx, index); err != nil {
		return index, f, err
	}
	if damaged, err := s.ledger.Verify(ctx); err != nil || len(damaged) > 0 {
		return index, f, errors.Join(err, fmt.Errorf("%w: %d", errSealDamaged, len(damaged)))
	}
	statistics, _, err := s.ledger.Statistics(history.StatisticQuery{Dataset: 1})
	if err != nil {
		return index, f, err
	}
	for _, v := range statistics {
		f.Values, f.Sum = f.Values+v.Count, f.Sum+v.Sum
	}
	for cursor := ""; ; {
		page, err := s.ledger.Actions(ctx, history.ActionQuery{Cursor: cursor, Limit: 1000})
		if err != nil {
			return index, f, err
		}
		f.Actions += len(page.Actions)
		if cursor = page.Next; cursor == "" {
			return index, f, nil
		}
	}
}

// errSealDamaged is what scrubbing the ledger comes to: it says which files a peer
// must give again, and queries that need them fail until then.
var errSealDamaged = errors.New("sealed files of the ledger are damaged")

// blobBytes is the content of the n-th blob of the workload: of every third, that of a
// log that goes into the index.
func blobBytes(n int) []byte {
	if blobClass(n) == blob.Log {
		return fmt.Appendf(nil, "log %d\n", n)
	}
	return bytes.Repeat(fmt.Appendf(nil, "blob %d\n", n), 700)
}

func blobClass(n int) blob.Class {
	if n%3 == 2 {
		return blob.Log
	}
	return blob.Durable
}

// checkBlob reads a blob that was acknowledged.
func (s *stores) checkBlob(n int) error {
	want := blobBytes(n)
	f, _, err := s.blobs.Open(protocol.DigestOf(want))
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("blob %d has other bytes", n)
	}
	return err
}

// workload does what a coordinator does in a small production: tasks are leased and
// reported, people act, snapshots are taken, files are sealed, blobs come and go.
// told is told what was acknowledged, before anything else happens.
func (s *stores) workload(rounds int, told io.Writer) error {
	ctx := context.Background()
	var mu sync.Mutex // guards told
	tell := func(format string, args ...any) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintf(told, format+"\n", args...)
		return err
	}
	propose := func(c state.Command) (state.Answer, error) {
		b, err := state.EncodeCommand(c)
		if err != nil {
			return state.Answer{}, err
		}
		receipt, err := s.record.replica.Propose(ctx, b)
		if err != nil {
			return state.Answer{}, fmt.Errorf("%T: %w", c, err)
		}
		a, ok := receipt.Answer.(*state.Answer)
		if !ok {
			return state.Answer{}, fmt.Errorf("%T: answer of type %T", c, receipt.Answer)
		}
		return *a, errors.Join(a.Err(), tell("i%d", receipt.Index))
	}
	pilot := func(n int) protocol.PilotID { return protocol.PilotID(fmt.Sprintf("p%d", n)) }
	big := protocol.Resources{Cores: 64, Memory: 1000 * protocol.GB, Disk: 1000 * protocol.GB}
	const pilots = 4
	ticket := protocol.DigestOf([]byte("ticket"))
	setup := []state.Command{
		&state.PutSite{Site: "here"},
		&state.PutTicket{Site: "here", Hash: ticket, Uses: pilots, Expires: 1000 * state.Hour},
		&state.SubmitDataset{
			Dataset: 1, Jobs: 1_000_000, Facts: state.Facts{Owner: "ann", Steering: protocol.DigestOf([]byte("x")), LanguageVersion: 3},
			Tasks: []state.TaskSpec{{Name: "make", Classes: []state.Class{{Requirements: protocol.Requirements{Cores: 1, Memory: protocol.GB}}}}},
		},
	}
	for n := range pilots {
		setup = append(setup, &state.EnrolPilot{Pilot: pilot(n), Site: "here", TicketHash: ticket, PublicKey: make([]byte, 32), Host: "node", Resources: big})
	}
	for _, c := range setup {
		if _, err := propose(c); err != nil {
			return err
		}
	}
	work := func(n int) error {
		for round := range rounds {
			a, err := propose(&state.Acquire{Pilot: pilot(n), Free: big, Want: 6})
			if err != nil {
				return err
			}
			for i := range a.Grants {
				l := &a.Grants[i].Lease
				if _, err := propose(&state.Report{
					Lease: l.ID, Task: l.Task, Pilot: l.Pilot, Verdict: protocol.VerdictOK, Cleaned: true,
					Usage:      protocol.Usage{WallMillis: 1000, CPUMillis: 900},
					Statistics: []protocol.Statistic{{Name: "drawn", Value: float64(l.Task.Job) + 1}},
				}); err != nil {
					return err
				}
			}
			if n == 0 {
				priority := round % 100
				if _, err := propose(&state.SetDataset{By: state.Action{Actor: "ann", Reason: "a change"}, Dataset: 1, Priority: &priority}); err != nil {
					return err
				}
			}
			if n == 1 {
				if err := s.keepBlobs(ctx, round, tell); err != nil {
					return err
				}
			}
			if n == 2 && round%3 == 2 {
				if err := s.record.replica.Snapshot(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	}
	failed := make(chan error, pilots)
	for n := range pilots {
		go func() { failed <- work(n) }()
	}
	var all []error
	for range pilots {
		all = append(all, <-failed)
	}
	return errors.Join(all...)
}

// keepBlobs stores a blob and lets an older one go.
func (s *stores) keepBlobs(ctx context.Context, n int, tell func(string, ...any) error) error {
	content := blobBytes(n)
	owner := fmt.Sprintf("owner-%d", n)
	if _, err := s.blobs.Put(ctx, blob.Info{Digest: protocol.DigestOf(content), Size: protocol.ByteSize(len(content)), Class: blobClass(n), Owner: owner}, bytes.NewReader(content)); err != nil {
		return err
	}
	if err := tell("b%d", n); err != nil || n < 4 {
		return err
	}
	if err := tell("r%d", n-4); err != nil { // from now on it may be gone
		return err
	}
	_, err := s.blobs.Release(ctx, blobClass(n-4), fmt.Sprintf("owner-%d", n-4))
	return err
}
