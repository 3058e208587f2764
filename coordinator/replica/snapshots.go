package replica

import (
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// snapshotsKept is how many snapshots stay on disk. Source: research E1.9.
const snapshotsKept = 3

// snapshotStore is raft's file store; what it opens knows what it is.
type snapshotStore struct{ raft.SnapshotStore }

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
