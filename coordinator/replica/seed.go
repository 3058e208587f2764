package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"floe/coordinator/boltfile"
)

// Seed makes the directory of a replica that has not run before: its first and only
// member is self, and it begins with a snapshot at the index and term. It is how a
// record is carried into a new cluster. The directory must not be one of a replica.
func Seed(dir string, self Member, index, term uint64, s Snapshot) (err error) {
	defer func() {
		s.Release()
		if err != nil {
			err = fmt.Errorf("seed replica in %s: %w", dir, err)
		}
	}()
	if Exists(dir) {
		return errors.New("there is one already")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := boltfile.Create(filepath.Join(dir, logFile), boltOptions(0)); err != nil {
		return err
	}
	stable, err := openStable(filepath.Join(dir, stableFile), self.ID)
	if err != nil {
		return err
	}
	if err := errors.Join(stable.SetUint64([]byte(raftTermKey), term), stable.db.Close()); err != nil {
		return err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, newRaftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	address := raft.ServerAddress(self.Address)
	_, transport := raft.NewInmemTransport(address) // asked how an address is written, no more
	members := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(self.ID), Address: address}}}
	sink, err := store.Create(raft.SnapshotVersionMax, index, term, members, index, transport)
	if err != nil {
		return err
	}
	sealed := &sealedSnapshot{Snapshot: s, index: index, persisted: new(atomic.Uint64)}
	if err := sealed.Persist(sink); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
