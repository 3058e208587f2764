package history

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// Still is the ledger at one log index, for copying: the journal's bytes as they
// were, and the names of the sealed files, which never change. It must be closed
// soon: while it is open the journal cannot reuse space.
type Still struct {
	Applied uint64
	Seals   []Seal
	tx      *bbolt.Tx
}

// Still waits until the ledger is durable up to the index and holds it there. The
// caller must keep later entries from being appended meanwhile if it wants no more
// than the index. A ledger with a gap is refused with ErrIncomplete.
func (l *Ledger) Still(ctx context.Context, index uint64) (*Still, error) {
	select {
	case l.urgent <- struct{}{}:
	default:
	}
	if err := l.WaitApplied(ctx, index); err != nil {
		return nil, err
	}
	if gap, open := l.Gap(); open {
		return nil, fmt.Errorf("%w: a gap from %d to %d", ErrIncomplete, gap.From, gap.To)
	}
	tx, err := l.view.Load().db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	s := &Still{tx: tx}
	at, _, err := load[standing](tx.Bucket(bucketMeta), keyStanding)
	if err == nil {
		s.Applied = at.Applied
		s.Seals, _, err = load[[]Seal](tx.Bucket(bucketMeta), keySeals)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("history: %w", err)
	}
	return s, nil
}

// WriteTo writes the journal.
func (s *Still) WriteTo(w io.Writer) (int64, error) { return s.tx.WriteTo(w) }

// Digest is that of the ledger's contents: equal for equal histories, however their
// files came about.
func (s *Still) Digest() (protocol.Digest, error) { return contents(s.tx) }

// Close lets the journal go on.
func (s *Still) Close() { _ = s.tx.Rollback() } // of a transaction that only read

// ReadStill is the digest and last log index of a ledger at rest. Sealed files count
// by their names; Verify reads them.
func ReadStill(dir string) (d protocol.Digest, applied uint64, err error) {
	db, err := bbolt.Open(filepath.Join(dir, journalFile), 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return d, 0, fmt.Errorf("history %s: %w", dir, err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bbolt.Tx) error {
		at, _, err := load[standing](tx.Bucket(bucketMeta), keyStanding)
		if err != nil {
			return err
		}
		applied = at.Applied
		d, err = contents(tx)
		return err
	})
	return d, applied, err
}

// contents hashes all keys and values of a journal in their order, each behind its
// length; a bucket's name stands before what is in it.
func contents(tx *bbolt.Tx) (d protocol.Digest, err error) {
	h := sha256.New()
	put := func(b []byte) {
		h.Write(binary.AppendUvarint(nil, uint64(len(b))))
		h.Write(b)
	}
	var walk func(b *bbolt.Bucket) error
	walk = func(b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			put(k)
			if v == nil {
				return walk(b.Bucket(k))
			}
			put(v)
			return nil
		})
	}
	err = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		put(name)
		return walk(b)
	})
	h.Sum(d[:0])
	return d, err
}
