package replica

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// snapshotsKept is how many snapshots stay on disk. Source: research E1.9.
const snapshotsKept = 3

// snapshotStore is raft's file store; what it opens knows what it is, and what it
// makes seals its description, too.
type snapshotStore struct {
	raft.SnapshotStore
	dir string // that holds snapshots/
}

// Create begins a snapshot.
func (s snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, members, membersIndex, transport)
	if err != nil {
		return nil, err
	}
	return sealedSink{sink, filepath.Join(s.dir, snapshotDir, sink.ID())}, nil
}

// sealedSink seals the description of a snapshot once it is complete: it holds the
// members, and one bit of it could change who they are. The seal of the body (seal.go)
// does not cover it, because every node describes its snapshots itself.
type sealedSink struct {
	raft.SnapshotSink
	dir string
}

// Close completes the snapshot. Power that is lost before the seal is written leaves
// a snapshot without one, which is taken as it is.
func (s sealedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	meta, err := os.ReadFile(filepath.Join(s.dir, metaFile))
	if err != nil {
		return err
	}
	temp := filepath.Join(s.dir, metaSealFile+".tmp")
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(metaSeal(meta))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(temp, filepath.Join(s.dir, metaSealFile)), syncDir(s.dir))
}

// The description of a snapshot, as raft writes it, and its seal: SHA-256 in
// hexadecimal.
const (
	metaFile     = "meta.json"
	metaSealFile = "meta.sha256"
)

func metaSeal(meta []byte) string { return fmt.Sprintf("%x\n", sha256.Sum256(meta)) }

// checkMetaSeal compares a description with its seal, if it has one.
func checkMetaSeal(dir string, meta []byte) error {
	seal, err := os.ReadFile(filepath.Join(dir, metaSealFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && string(seal) != metaSeal(meta) {
		err = errors.New("it does not match its seal")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSnapshotDamaged, metaFile, err)
	}
	return nil
}

// Open opens a snapshot after its CRC matched.
func (s snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, body, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, openSnapshot{ReadCloser: body, meta: meta}, nil
}

type openSnapshot struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

// snapshotMeta finds the description under what raft wrapped around an open snapshot.
func snapshotMeta(r io.ReadCloser) raft.SnapshotMeta {
	for {
		switch v := r.(type) {
		case openSnapshot:
			return *v.meta
		case raft.ReadCloserWrapper:
			r = v.WrappedReadCloser()
		default:
			return raft.SnapshotMeta{}
		}
	}
}

// sealedSnapshot persists a captured state with its seal.
type sealedSnapshot struct {
	Snapshot
	index     uint64
	persisted *atomic.Uint64
}

// Persist writes, seals, syncs and names the snapshot, or leaves nothing behind.
func (s *sealedSnapshot) Persist(sink raft.SnapshotSink) error {
	w := newSealWriter(sink)
	if err := s.Snapshot.Persist(w); err != nil {
		sink.Cancel()
		return err
	}
	if err := w.seal(); err != nil {
		sink.Cancel()
		return err
	}
	if err := sink.Close(); err != nil {
		return err
	}
	s.persisted.Store(s.index)
	return nil
}
