package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"floe/coordinator/boltfile"
)

// sealGenerations turns closed generations of the journal into sealed files, oldest
// first, until ctx ends.
func (l *Ledger) sealGenerations(ctx context.Context) error {
	for {
		for {
			sealed, err := l.sealOldest(ctx)
			if err == nil && !sealed {
				break
			}
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // what was begun is begun again after a restart
			case err != nil:
				return fmt.Errorf("seal: %w", err)
			}
		}
		select {
		case <-l.rotated:
		case <-ctx.Done():
			return nil
		}
	}
}

// sealOldest seals the oldest closed generation; false where there is none. One
// that a gap falls into is never sealed: it would be another file than the peers'.
func (l *Ledger) sealOldest(ctx context.Context) (bool, error) {
	l.sealing.Lock()
	defer l.sealing.Unlock()
	v := l.view.Load()
	if len(v.generations) < 2 || v.standing.Gap.To > 0 {
		return false, nil
	}
	first := v.generations[0].number
	if err := l.sealGeneration(ctx, v.generations[0], v.generations[1].number-1); err != nil {
		return false, fmt.Errorf("entries from %d: %w", first, err)
	}
	return true, nil
}

// sealGeneration writes the sealed file of a generation, shows it to readers in the
// generation's place, and only then names it in the journal and drops the rows. A
// crash in between leaves a file that nothing names, and the rows.
func (l *Ledger) sealGeneration(ctx context.Context, g *generation, last uint64) error {
	dir := sealedDir(l.config.Dir)
	seal, err := writeSeal(ctx, dir, l.codec, g.number, last, func(yield func(row) error) error {
		return l.eachRow(g, yield)
	})
	if err != nil {
		return err
	}
	s, err := openSegment(dir, l.codec, seal)
	if err != nil {
		return err
	}
	var seals []Seal
	l.publish(func(v *view) {
		v.segments = append(v.segments[:len(v.segments):len(v.segments)], s)
		v.generations = v.generations[1:]
		for _, s := range v.segments {
			seals = append(seals, s.Seal)
		}
	})
	err = l.view.Load().db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			store(tx.Bucket(bucketMeta), keySeals, seals),
			tx.Bucket(bucketJournal).DeleteBucket(generationName(g.number)))
	})
	if err == nil {
		l.config.Logger.Info("history sealed", "digest", seal.Digest, "rows", seal.Rows, "bytes", int64(seal.Size), "first", seal.First, "last", seal.Last)
	}
	return err
}

// eachRow gives yield the rows of a closed generation, in order. It reads them a
// page at a time: a long transaction would keep the writer from growing the file.
func (l *Ledger) eachRow(g *generation, yield func(row) error) error {
	keys := make([]key, 0, pageRows)
	some := func() error {
		return l.view.Load().db.View(func(tx *bbolt.Tx) error {
			rows := generationRows(tx, g.number)
			if rows == nil {
				return fmt.Errorf("%w: the journal lacks generation %d", errRow, g.number)
			}
			for _, k := range keys {
				r, err := rowAt(rows, k.place())
				if err != nil {
					return err
				}
				if err := yield(r); err != nil {
					return err
				}
			}
			keys = keys[:0]
			return nil
		})
	}
	var err error
	g.keys.Scan(func(k key) bool {
		if keys = append(keys, k); len(keys) == cap(keys) {
			err = some()
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return some()
}

// DamageError says which sealed files are lost or damaged. Fetch each from a peer
// by its digest and give it to Ledger.Mend.
type DamageError struct {
	Seals  []Seal
	causes []error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%d sealed files are damaged, the first is %v: fetch them from a peer: %v", len(e.Seals), e.Seals[0].Digest, e.causes[0])
}

// Is makes errors.Is(err, boltfile.ErrDamaged) true.
func (e *DamageError) Is(target error) bool { return target == boltfile.ErrDamaged }

// Unwrap returns what is wrong with each file.
func (e *DamageError) Unwrap() []error { return e.causes }

// Seals returns the sealed files, oldest first.
func (l *Ledger) Seals() []Seal {
	var all []Seal
	for _, s := range l.view.Load().segments {
		all = append(all, s.Seal)
	}
	return all
}

// Damaged returns the sealed files that were lost or damaged when they were opened
// and have not been mended since. Verify finds more.
func (l *Ledger) Damaged() []Seal {
	var all []Seal
	for _, s := range l.view.Load().segments {
		if s.broken != nil {
			all = append(all, s.Seal)
		}
	}
	return all
}

// OpenSeal opens a sealed file, for a peer; the caller closes it.
func (l *Ledger) OpenSeal(s Seal) (*os.File, error) {
	return os.Open(filepath.Join(sealedDir(l.config.Dir), s.Digest.Hex()))
}
