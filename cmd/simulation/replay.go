package simulation

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"

	"floe/coordinator/state"
)

// Committed is one entry of a committed log.
type Committed struct {
	Index, Term uint64
	Entry       []byte
}

// Replayed is what a log gave.
type Replayed struct {
	Machine *state.Machine
	Account *Account
	// Snapshot is the digest of the record's snapshot behind the last entry.
	Snapshot [sha256.Size]byte
}

// How often a replay looks at everything, in entries.
const (
	auditEvery   = 16
	restoreEvery = 64
)

// Replay applies a committed log, from its first entry on, to two fresh machines, one of
// which goes through a snapshot every now and then, and checks the invariants on the
// way: the same events and the same bytes (I-19, I-20), entries applied twice change
// nothing (I-4), the books balance (Account), the record's own audit finds nothing.
// observe, which may be nil, hears of every entry's events.
func Replay(log iter.Seq[Committed], observe func(index uint64, events []state.Event)) (*Replayed, error) {
	one, other := state.New(), state.New()
	r := &Replayed{Machine: one, Account: NewAccount()}
	n := 0
	for c := range log {
		n++
		answers, events, err := one.Apply(c.Index, c.Term, c.Entry)
		if err != nil {
			return nil, fmt.Errorf("I-21: %w", err)
		}
		if err := applySame(other, c, answers, events); err != nil {
			return nil, err
		}
		if err := r.Account.Observe(one, events); err != nil {
			return nil, fmt.Errorf("at index %d: %w", c.Index, err)
		}
		if observe != nil {
			observe(c.Index, events)
		}
		if n%auditEvery == 0 {
			if err := auditBoth(one, other, c.Index); err != nil {
				return nil, err
			}
		}
		if n%restoreEvery == 0 {
			if other, err = restored(one); err != nil {
				return nil, err
			}
		}
	}
	if err := auditBoth(one, other, one.Index()); err != nil {
		return nil, err
	}
	if err := r.Account.Compare(one); err != nil {
		return nil, err
	}
	b, err := snapshotOf(one)
	r.Snapshot = sha256.Sum256(b)
	return r, err
}

// applySame applies an entry, twice, to a machine that must give what another gave.
func applySame(m *state.Machine, c Committed, answers []state.Answer, events []state.Event) error {
	again, same, err := m.Apply(c.Index, c.Term, c.Entry)
	if err != nil {
		return fmt.Errorf("I-21: %w", err)
	}
	if digestOf(events) != digestOf(same) || len(again) != len(answers) {
		return fmt.Errorf("I-20: two machines differ over the entry at index %d", c.Index)
	}
	answers, events, err = m.Apply(c.Index, c.Term, c.Entry)
	if err == nil && len(answers)+len(events) > 0 {
		err = errors.New("it had an effect twice")
	}
	if err != nil {
		return fmt.Errorf("I-4: the entry at index %d again: %w", c.Index, err)
	}
	return nil
}

// digestOf is a digest of what happened.
func digestOf(events []state.Event) [sha256.Size]byte {
	h := sha256.New()
	for i := range events {
		b, err := state.EncodeEvent(events[i].Body)
		if err != nil {
			panic(err) // an event that history could not keep
		}
		fmt.Fprintf(h, "%d.%d %d %d %d ", events[i].Index, events[i].Ordinal, events[i].Time, events[i].Wall, len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func auditBoth(one, other *state.Machine, index uint64) error {
	if err := Audit(one); err != nil {
		return fmt.Errorf("at index %d: %w", index, err)
	}
	if err := Audit(other); err != nil {
		return fmt.Errorf("at index %d, through a snapshot: %w", index, err)
	}
	a, err := snapshotOf(one)
	if err != nil {
		return err
	}
	b, err := snapshotOf(other)
	if err == nil && !bytes.Equal(a, b) {
		err = fmt.Errorf("I-20: two machines have other bytes at index %d", index)
	}
	return err
}

// Audit is the record's own audit, with its index of ready work.
func Audit(m *state.Machine) error {
	for _, v := range append(m.Audit(), m.AuditIndex()...) {
		return fmt.Errorf("audit: %v", v)
	}
	return nil
}

func snapshotOf(m *state.Machine) ([]byte, error) {
	var b bytes.Buffer
	err := m.Snapshot().Persist(&b)
	return b.Bytes(), err
}

// restored is a machine made from another's snapshot.
func restored(m *state.Machine) (*state.Machine, error) {
	b, err := snapshotOf(m)
	if err != nil {
		return nil, err
	}
	fresh := state.New()
	if err := fresh.Restore(bytes.NewReader(b)); err != nil {
		return nil, fmt.Errorf("I-22: %w", err)
	}
	return fresh, nil
}
