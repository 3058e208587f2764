package replica

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"floe/coordinator/boltfile"
)

// Logged is one entry of a log at rest.
type Logged struct {
	Index, Term uint64
	// Data is what Stamp made; nil where raft wrote an entry of its own.
	Data []byte
}

// ReadLog lists what the log in the directory of a replica that is not open holds,
// oldest first: also entries at its end that were never committed. Errors:
// ErrDamaged, ErrLocked.
func ReadLog(dir string) (all []Logged, err error) {
	path := filepath.Join(dir, logFile)
	err = boltfile.Guard(path, func() error {
		options := boltOptions(0)
		options.ReadOnly = true
		store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options})
		if err != nil {
			return openError(logFile, err)
		}
		defer store.Close()
		first, err := store.FirstIndex()
		if err != nil {
			return err
		}
		last, err := store.LastIndex()
		if err != nil {
			return err
		}
		for i := first; i <= last && i != 0; i++ {
			var l raft.Log
			if err := getSealed(store, i, &l); errors.Is(err, raft.ErrLogNotFound) {
				continue
			} else if err != nil {
				return err
			}
			e := Logged{Index: l.Index, Term: l.Term}
			if l.Type == raft.LogCommand {
				e.Data = l.Data
			}
			all = append(all, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read log in %s: %w", dir, err)
	}
	return all, nil
}

// ReadSnapshots gives read each snapshot in the directory of a replica that is not
// open, oldest first: the index it covers, and the body as the machine wrote it. A
// body that does not match its seal ends in ErrSnapshotDamaged instead of io.EOF.
func ReadSnapshots(dir string, read func(index uint64, body io.Reader) error) error {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, newRaftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("read snapshots in %s: %w", dir, err)
	}
	metas, err := store.List()
	if err != nil {
		return fmt.Errorf("read snapshots in %s: %w", dir, err)
	}
	for _, m := range slices.Backward(metas) {
		_, body, err := store.Open(m.ID)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSnapshotDamaged, m.ID, err)
		}
		err = read(m.Index, newSealReader(body))
		body.Close()
		if err != nil {
			return fmt.Errorf("snapshot at %d: %w", m.Index, err)
		}
	}
	return nil
}
