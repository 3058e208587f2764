package coordinator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
)

// machine drives the pure machine under the replica. Apply has the record to
// itself; readers share it.
type machine struct {
	mu    sync.RWMutex
	state *state.Machine // guarded by mu
	chain chain          // guarded by mu

	hashes hashes
	ledger *history.Ledger
	// observe takes the events of an entry, in order; it must not wait.
	observe func([]state.Event)
	// restored is told that the record is another one, whose events were not seen;
	// nil where nobody cares.
	restored func()
}

// chain is a running digest over entries and their events: equal logs applied by
// equal machines give equal chains.
type chain [sha256.Size]byte

// extend takes the events as state.EncodeEvents writes them.
func (c *chain) extend(index uint64, entry, events []byte) {
	h := sha256.New()
	h.Write(c[:])
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], index)
	h.Write(number[:])
	h.Write(entry)
	h.Write(events)
	h.Sum(c[:0])
}

// Apply implements replica.Machine.
func (m *machine) Apply(index, term uint64, entry []byte) ([]any, error) {
	m.mu.Lock()
	answers, events, err := m.state.Apply(index, term, entry)
	if err == nil {
		var encoded []byte
		if encoded, err = state.EncodeEvents(events); err == nil {
			m.chain.extend(index, entry, encoded)
		}
	}
	if err == nil {
		m.hashes.note(index, m.chain)
		if isCheckpoint(events) {
			m.hashes.checkpoint(m.state.Snapshot())
		}
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if len(answers) > 0 && answers[0].Code == protocol.CodeUnknown {
		m.hashes.ask() // a ghost entry: it should not exist, so look at once
	}
	// Outside the lock: a full queue makes the log wait, not the readers.
	m.ledger.Append(index, events)
	m.observe(events)
	all := make([]any, len(answers))
	for i := range answers {
		all[i] = &answers[i]
	}
	return all, nil
}

// freeze returns the record as it is now, for reading beside what goes on.
func (m *machine) freeze() *state.Frozen {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Snapshot()
}

// frozen is the record at one index, on its way to a snapshot.
type frozen struct {
	state  *state.Frozen
	chain  chain
	index  uint64
	ledger *history.Ledger
}

// Snapshot implements replica.Machine.
func (m *machine) Snapshot() (replica.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.state.Snapshot()
	return &frozen{state: f, chain: m.chain, index: f.Index(), ledger: m.ledger}, nil
}

// Persist implements replica.Snapshot: the chain, then the state. It returns only
// when the ledger has everything up to the snapshot: the log is truncated on the
// strength of it.
func (f *frozen) Persist(w io.Writer) error {
	if _, err := w.Write(f.chain[:]); err != nil {
		return err
	}
	if err := f.state.Persist(w); err != nil {
		return err
	}
	if err := f.ledger.SyncTo(context.Background(), f.index); err != nil {
		return fmt.Errorf("snapshot at %d: ledger: %w", f.index, err)
	}
	return nil
}

// Release implements replica.Snapshot.
func (f *frozen) Release() {}

// Restore implements replica.Machine.
func (m *machine) Restore(r io.Reader) error {
	var c chain
	if _, err := io.ReadFull(r, c[:]); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	restored := state.New()
	if err := restored.Restore(r); err != nil {
		return err
	}
	m.mu.Lock()
	m.state, m.chain = restored, c
	m.hashes.restart(restored.Index(), c)
	m.mu.Unlock()
	m.ledger.Restored(restored.Index())
	if m.restored != nil {
		m.restored()
	}
	return nil
}

// stamper dates entries by the wall clock of the configuration.
func (c *Config) stamper() replica.Stamper {
	if c.Wall == nil {
		return stamp
	}
	return func(s replica.Stamping) ([]byte, error) {
		s.Wall = c.Wall()
		return stamp(s)
	}
}

// stamp builds a log entry of what was gathered.
func stamp(s replica.Stamping) ([]byte, error) {
	e := state.Entry{
		Term: s.Term, First: s.First, Elapsed: state.RecordTime(s.Elapsed), Wall: state.UnixMillis(s.Wall.UnixMilli()), Commands: s.Commands,
	}
	_, _ = rand.Read(e.Nonce[:]) // documented never to fail
	return state.EncodeEntry(&e), nil
}

// record is the replicated record as the server uses it (server.Record).
type record struct {
	machine *machine
	replica *replica.Replica
	node    protocol.NodeID
	// refusing, where not nil, is why nothing is written.
	refusing atomic.Pointer[protocol.Error]
}

// Propose implements server.Record.
func (r *record) Propose(ctx context.Context, c state.Command) (state.Answer, error) {
	fates := r.ProposeAll(ctx, []state.Command{c})
	return fates[0].Answer, fates[0].Err
}

// ProposeAll implements server.Record.
func (r *record) ProposeAll(ctx context.Context, commands []state.Command) []server.Fate {
	fates := make([]server.Fate, len(commands))
	if refusal := r.refusing.Load(); refusal != nil {
		for i := range fates {
			fates[i].Err = refusal
		}
		return fates
	}
	encoded, of := make([][]byte, 0, len(commands)), make([]int, 0, len(commands))
	for i, c := range commands {
		b, err := state.EncodeCommand(c)
		if err != nil {
			fates[i].Err = err
			continue
		}
		encoded, of = append(encoded, b), append(of, i)
	}
	for i, o := range r.replica.ProposeAll(ctx, encoded) {
		fate := &fates[of[i]]
		if o.Err != nil {
			fate.Err = r.refusal(o.Err)
			continue
		}
		if a, ok := o.Answer.(*state.Answer); ok {
			fate.Answer = *a
		} else {
			fate.Err = fmt.Errorf("entry %d: answer of type %T", o.Index, o.Answer)
		}
	}
	return fates
}

// refusal gives an error of the replica its wire code. What is not known is never
// called failed (I-18).
func (r *record) refusal(err error) error {
	switch {
	case errors.Is(err, replica.ErrNotLeader), errors.Is(err, replica.ErrClosed):
		e := protocol.Errorf(protocol.CodeNotLeader, "%v", err)
		if id := r.Leader(); id != "" && id != r.node {
			r.Read(func(m *state.Machine) {
				if x, ok := m.Member(id); ok {
					e.Leader = x.Address
				}
			})
		}
		return e
	case errors.Is(err, replica.ErrBusy):
		return &protocol.Error{Code: protocol.CodeBusy, Message: err.Error(), RetryAfter: 1}
	case errors.Is(err, replica.ErrTooLarge):
		return protocol.Errorf(protocol.CodeTooLarge, "%v", err)
	}
	return protocol.Errorf(protocol.CodeUnknown, "%v", err)
}

// Read implements server.Record.
func (r *record) Read(f func(*state.Machine)) {
	r.machine.mu.RLock()
	defer r.machine.mu.RUnlock()
	f(r.machine.state)
}

// Leading implements server.Record.
func (r *record) Leading() (uint64, <-chan struct{}) {
	l, changed := r.replica.Leadership()
	if !l.Leading {
		return 0, changed
	}
	return l.Term, changed
}

// Confirm implements server.Record.
func (r *record) Confirm(ctx context.Context) error {
	if err := r.replica.ReadIndex(ctx); err != nil {
		return r.refusal(err)
	}
	return nil
}

// Leader implements server.Record.
func (r *record) Leader() protocol.NodeID {
	m, _ := r.replica.Leader()
	return m.ID
}

// Applied implements server.Record: the last entry of the machine's own, which is
// what the ledger counts by, too.
func (r *record) Applied() (index uint64) {
	r.Read(func(m *state.Machine) { index = m.Index() })
	return index
}

// Term implements server.Record.
func (r *record) Term() uint64 { return r.replica.Term() }

// LogBytes implements server.Record.
func (r *record) LogBytes() protocol.ByteSize {
	return protocol.ByteSize(r.replica.Stats().LogBytes)
}

// Members implements server.Record: raft's members with the addresses the record
// has of their APIs.
func (r *record) Members() []protocol.Member {
	leader := r.Leader()
	var all []protocol.Member
	for _, m := range r.replica.Members() {
		x := protocol.Member{ID: m.ID, Raft: m.Address, Voter: m.Voter, Leader: m.ID == leader, Self: m.ID == r.node, Contact: -1}
		if p, known := r.replica.Progress(m.ID); known {
			x.Healthy, x.Behind = p.Healthy, p.Behind
			if p.Contact >= 0 {
				x.Contact = p.Contact.Milliseconds()
			}
		}
		all = append(all, x)
	}
	r.Read(func(m *state.Machine) {
		for i := range all {
			if x, ok := m.Member(all[i].ID); ok {
				all[i].Address = x.Address
			}
		}
	})
	return all
}

// AddMember implements server.Record.
func (r *record) AddMember(ctx context.Context, id protocol.NodeID, raft string) error {
	for _, m := range r.replica.Members() {
		if m.ID == id && m.Address == raft {
			return nil
		}
	}
	if err := r.replica.AddNonvoter(ctx, id, raft); err != nil {
		return r.refusal(err)
	}
	return nil
}
