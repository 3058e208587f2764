package history

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// WriteJournal writes a consistent copy of the journal to w, for a peer's Install,
// and returns the log index it reaches. The sealed files it names never change and
// are had by OpenSeal.
func (l *Ledger) WriteJournal(w io.Writer) (applied uint64, err error) {
	err = l.view.Load().db.View(func(tx *bbolt.Tx) error {
		s, _, err := load[standing](tx.Bucket(bucketMeta), keyStanding)
		if err != nil {
			return err
		}
		applied = s.Applied
		_, err = tx.WriteTo(w)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("history: copy journal: %w", err)
	}
	return applied, nil
}

// Fetch opens a sealed file at a peer.
type Fetch func(context.Context, Seal) (io.ReadCloser, error)

// ErrIncomplete means that a peer's copy has a gap itself or does not reach far
// enough; try another peer.
var ErrIncomplete = errors.New("the copy is incomplete")

// Install replaces the ledger in dir by a peer's: journal is what the peer's
// WriteJournal wrote, fetch brings the sealed files that are not here yet. Nothing
// is replaced before everything is here and verified, so it may be interrupted and
// repeated; sealed files that came stay. The ledger must not be open. The copy must
// reach atLeast, the index of the newest snapshot of the record here: what the log
// has beyond is applied again anyway.
func Install(ctx context.Context, dir string, logger *slog.Logger, journal io.Reader, atLeast uint64, fetch Fetch) error {
	if _, err := bring(ctx, dir, logger, journal, atLeast, fetch); err != nil {
		return fmt.Errorf("install history: %w", err)
	}
	incoming := filepath.Join(dir, incomingFile)
	target := filepath.Join(dir, journalFile)
	// Whoever has the ledger open holds its lock.
	old, err := bbolt.Open(target, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("install history: the ledger in %s must not be open: %w", dir, err)
	}
	return errors.Join(os.Rename(incoming, target), syncDir(dir), old.Close())
}

const incomingFile = "journal.incoming"

// bring writes a peer's journal beside the ledger's in dir, as incomingFile, and
// fetches the sealed files it names that are not here. It returns their names.
func bring(ctx context.Context, dir string, logger *slog.Logger, journal io.Reader, atLeast uint64, fetch Fetch) ([]Seal, error) {
	if err := os.MkdirAll(sealedDir(dir), 0o700); err != nil {
		return nil, err
	}
	incoming := filepath.Join(dir, incomingFile)
	if err := writeFile(incoming, journal); err != nil {
		return nil, err
	}
	seals, err := inspect(incoming, atLeast)
	if err != nil {
		return nil, errors.Join(err, os.Remove(incoming))
	}
	for _, s := range seals {
		if verifySeal(ctx, dir, s) == nil {
			continue
		}
		if err := install(ctx, dir, s, fetch); err != nil {
			return nil, fmt.Errorf("sealed file %v: %w", s.Digest, err)
		}
		logger.Info("history file came from a peer", "digest", s.Digest, "rows", s.Rows)
	}
	return seals, nil
}

// inspect reads what a copied journal says of itself.
func inspect(path string, atLeast uint64) (seals []Seal, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("copied journal: %w", err)
	}
	v, seals, err := loadJournal(db)
	switch {
	case err != nil:
	case v.standing.Gap != Gap{}:
		err = fmt.Errorf("%w: it has a gap from %d to %d", ErrIncomplete, v.standing.Gap.From, v.standing.Gap.To)
	case v.standing.Applied < atLeast:
		err = fmt.Errorf("%w: it ends at %d, want %d", ErrIncomplete, v.standing.Applied, atLeast)
	}
	return seals, errors.Join(err, db.Close())
}

func install(ctx context.Context, dir string, s Seal, fetch Fetch) error {
	r, err := fetch(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(MendSeal(dir, s, r), r.Close())
}

// MendSeal puts a sealed file from a peer into the ledger in dir, which may be open
// or not. It refuses bytes that are not the file.
func MendSeal(dir string, s Seal, r io.Reader) error {
	temp := sealPath(sealedDir(dir), s.Digest) + ".incoming"
	hash := sha256.New()
	if err := writeFile(temp, io.TeeReader(io.LimitReader(r, int64(s.Size)+1), hash)); err != nil {
		return err
	}
	var d protocol.Digest
	if hash.Sum(d[:0]); d != s.Digest {
		return errors.Join(fmt.Errorf("%w: got digest %v, want %v", errSeal, d, s.Digest), os.Remove(temp))
	}
	return errors.Join(os.Rename(temp, sealPath(sealedDir(dir), s.Digest)), syncDir(sealedDir(dir)))
}

// writeFile writes and syncs a whole file; on errors it is removed.
func writeFile(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Verify reads all sealed files and returns those that are lost or damaged. It is
// the scrubbing of the ledger, for quiet hours.
func (l *Ledger) Verify(ctx context.Context) (damaged []Seal, err error) {
	for _, s := range l.Seals() {
		err := verifySeal(ctx, l.config.Dir, s)
		switch {
		case errors.Is(err, errSeal) || errors.Is(err, fs.ErrNotExist):
			l.config.Logger.Warn("history file is damaged; fetch it from a peer", "digest", s.Digest, "err", err)
			damaged = append(damaged, s)
		case err != nil:
			return damaged, fmt.Errorf("verify history: %w", err)
		}
	}
	return damaged, nil
}

// Mend replaces a damaged sealed file of the open ledger by a peer's.
func (l *Ledger) Mend(s Seal, r io.Reader) error {
	if err := MendSeal(l.config.Dir, s, r); err != nil {
		return fmt.Errorf("mend history: %w", err)
	}
	fresh, err := openSegment(sealedDir(l.config.Dir), l.codec, s)
	if err != nil {
		return fmt.Errorf("mend history: %w", err)
	}
	l.publish(func(v *view) {
		all := make([]*segment, len(v.segments))
		for i, old := range v.segments {
			if all[i] = old; old.Digest == s.Digest {
				all[i] = fresh // queries may still read old; the runtime closes it
			}
		}
		v.segments = all
	})
	return nil
}

func verifySeal(ctx context.Context, dir string, s Seal) error {
	f, err := os.Open(sealPath(sealedDir(dir), s.Digest))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	var d protocol.Digest
	if hash.Sum(d[:0]); d != s.Digest {
		return fmt.Errorf("%w: digest %v, want %v", errSeal, d, s.Digest)
	}
	return nil
}
