package replica

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"floe/coordinator/boltfile"
)

const (
	snapshotDir = "snapshots" // as raft names it
	damagedDir  = "damaged"
)

// found is what preflight leaves open.
type found struct {
	stable    *stableStore
	snapshots *raft.FileSnapshotStore
}

// Exists tells whether a directory holds a replica's files, or did once and holds
// some of them still.
func Exists(dir string) bool {
	return exists(filepath.Join(dir, logFile)) || exists(filepath.Join(dir, stableFile)) || exists(filepath.Join(dir, snapshotDir))
}

// preflight decides whether this directory can be trusted, before raft sees it: raft
// would panic on a hole in the log, or start silently from an older state. It changes
// nothing but what a crash left half-written, and snapshots it sets aside because
// everything they held is still elsewhere. The retention ledger learns the sizes of
// the entries present.
func preflight(c Config, log *slog.Logger, ledger *retention) (found, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return found{}, err
	}
	if err := checkFileSystem(c.Dir); err != nil {
		return found{}, err
	}
	logPath, stablePath := filepath.Join(c.Dir, logFile), filepath.Join(c.Dir, stableFile)
	hasLog, hasStable := exists(logPath), exists(stablePath)
	for _, path := range []string{logPath, stablePath} {
		// Neither is ever made empty, and bolt takes an empty file for a new one.
		if info, err := os.Stat(path); err == nil && info.Size() == 0 {
			return found{}, fmt.Errorf("%w: %s is empty; %s", ErrDamaged, path, rejoin(c.Dir))
		}
	}
	if hasStable && !hasLog { // log.db is always created first
		return found{}, fmt.Errorf("%w: %s is missing beside %s; %s", ErrDamaged, logFile, stableFile, rejoin(c.Dir))
	}
	var entries span
	if hasLog {
		err := boltfile.Guard(logPath, func() (err error) { entries, err = scanLog(logPath, ledger); return err })
		if err != nil {
			return found{}, fmt.Errorf("%w; %s", err, rejoin(c.Dir))
		}
	}
	if hasLog && !hasStable && entries.last > 0 {
		return found{}, fmt.Errorf("%w: %s is missing beside %s, the votes are lost; %s", ErrDamaged, stableFile, logFile, rejoin(c.Dir))
	}
	if !hasStable && hasSnapshots(c.Dir) {
		return found{}, fmt.Errorf("%w: %s and %s are missing beside the snapshots, the votes are lost; %s", ErrDamaged, logFile, stableFile, rejoin(c.Dir))
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(c.Dir, snapshotsKept, newRaftLogger(log))
	if err != nil {
		return found{}, err
	}
	if err := chooseSnapshot(c.Dir, snapshots, entries, log); err != nil {
		return found{}, fmt.Errorf("%w; %s", err, rejoin(c.Dir))
	}
	if !hasLog {
		// An empty file, so that a lost log can be told from a new one.
		if err := boltfile.Create(logPath, boltOptions(0)); err != nil {
			return found{}, err
		}
	}
	var stable *stableStore
	err = boltfile.Guard(stablePath, func() (err error) { stable, err = openStable(stablePath, c.ID); return err })
	if err == nil && entries.last == 0 && !hasSnapshots(c.Dir) {
		if err = stable.takeBackFounding(); err != nil {
			err = errors.Join(err, stable.close())
		}
	}
	if err == nil && !(hasLog && hasStable) {
		// A synced file whose name a loss of power takes back is a lost file.
		if err = errors.Join(syncDir(c.Dir), syncDir(filepath.Dir(c.Dir))); err != nil {
			err = errors.Join(err, stable.close())
		}
	}
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w; %s", err, rejoin(c.Dir))
	}
	return found{stable, snapshots}, err
}

// span is what the log holds: entries up to last, without a hole from unbroken on.
type span struct{ unbroken, last uint64 }

// scanLog checks the log file's structure and walks its keys (8 bytes, big endian,
// in bucket "logs", as raft-boltdb writes them).
func scanLog(path string, ledger *retention) (s span, err error) {
	options := boltOptions(0)
	options.ReadOnly = true
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		return s, openError(path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		var broken error
		for err := range tx.Check() { // to its end: the checker is a goroutine
			broken = errors.Join(broken, err)
		}
		if broken != nil {
			return broken
		}
		logs := tx.Bucket([]byte("logs"))
		if logs == nil {
			return nil
		}
		return logs.ForEach(func(k, v []byte) error {
			if len(k) != 8 {
				return fmt.Errorf("key of %d bytes", len(k))
			}
			index := binary.BigEndian.Uint64(k)
			if index != s.last+1 || s.last == 0 {
				s.unbroken = index
			}
			s.last = index
			ledger.stored(index, len(v))
			return nil
		})
	})
	if err != nil {
		return s, fmt.Errorf("%w: check %s: %w", ErrDamaged, path, err)
	}
	return s, nil
}

// chooseSnapshot verifies the snapshots and makes sure that the newest good one and
// the log together hold everything that any of the files ever claimed to hold.
// Snapshots that fail are then moved to damaged/; otherwise nothing is touched.
func chooseSnapshot(dir string, store *raft.FileSnapshotStore, entries span, log *slog.Logger) error {
	names, err := os.ReadDir(filepath.Join(dir, snapshotDir))
	if err != nil {
		return err
	}
	var good, known uint64
	bad := map[string]error{}
	for _, n := range names {
		path := filepath.Join(dir, snapshotDir, n.Name())
		if strings.HasSuffix(n.Name(), ".tmp") { // a crash while it was written
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		index, err := nameIndex(n.Name())
		if err != nil {
			bad[n.Name()] = err
			continue
		}
		known = max(known, index)
		if err := checkSnapshot(path, store, n.Name(), index); err != nil {
			bad[n.Name()] = err
			continue
		}
		good = max(good, index)
	}
	known = max(known, entries.last)
	whole := good == known || entries.last == known && entries.unbroken <= good+1
	if !whole {
		var reasons error
		for name, err := range bad {
			reasons = errors.Join(reasons, fmt.Errorf("snapshot %s: %w", name, err))
		}
		return errors.Join(fmt.Errorf("%w: the newest good snapshot ends at %d and the log holds %d to %d, but entries up to %d were stored",
			ErrDamaged, good, entries.unbroken, entries.last, known), reasons)
	}
	for name, cause := range bad {
		log.Error("damaged snapshot set aside; an older one and the log make up for it", "snapshot", name, "err", cause)
		if err := setAside(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// checkTerm refuses votes that are older than the log or a snapshot: raft writes a term
// before it stores anything of that term, so this is an old copy of the file, and the
// node could vote a second time. The log's last entry is of logTerm.
func checkTerm(stable raft.StableStore, logTerm uint64, snapshots raft.SnapshotStore) error {
	term, err := stable.GetUint64([]byte(raftTermKey))
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	if term < logTerm {
		return fmt.Errorf("%w: %s knows terms up to %d, but %s has an entry of term %d", ErrDamaged, stableFile, term, logFile, logTerm)
	}
	all, err := snapshots.List()
	if err != nil {
		return err
	}
	for _, s := range all {
		if term < s.Term {
			return fmt.Errorf("%w: %s knows terms up to %d, but snapshot %s is of term %d", ErrDamaged, stableFile, term, s.ID, s.Term)
		}
	}
	return nil
}

// nameIndex reads the index from a snapshot's name, term-index-milliseconds.
func nameIndex(name string) (uint64, error) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0, fmt.Errorf("%w: unexpected name", ErrSnapshotDamaged)
	}
	index, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: unexpected name: %w", ErrSnapshotDamaged, err)
	}
	return index, nil
}

// checkSnapshot reads a snapshot once for raft's CRC and once for our seal.
func checkSnapshot(path string, store *raft.FileSnapshotStore, name string, index uint64) error {
	raw, err := os.ReadFile(filepath.Join(path, metaFile))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshotDamaged, err)
	}
	if err := checkMetaSeal(path, raw); err != nil {
		return err
	}
	var meta raft.SnapshotMeta // the store skips, silently, what it cannot read
	if err := json.Unmarshal(raw, &meta); err != nil {
		return fmt.Errorf("%w: meta.json: %w", ErrSnapshotDamaged, err)
	}
	if meta.Index != index || meta.ID != name {
		return fmt.Errorf("%w: meta.json speaks of %q", ErrSnapshotDamaged, meta.ID)
	}
	_, body, err := store.Open(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshotDamaged, err)
	}
	defer body.Close()
	return verifySeal(body)
}

// hasSnapshots tells whether any snapshot was ever finished here.
func hasSnapshots(dir string) bool {
	names, _ := os.ReadDir(filepath.Join(dir, snapshotDir)) // unreadable: found out below
	return slices.ContainsFunc(names, func(n os.DirEntry) bool { return !strings.HasSuffix(n.Name(), ".tmp") })
}

// setAside keeps a damaged snapshot as evidence, out of raft's sight.
func setAside(dir, name string) error {
	if err := os.MkdirAll(filepath.Join(dir, damagedDir), 0o700); err != nil {
		return err
	}
	to := filepath.Join(dir, damagedDir, name)
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, snapshotDir, name), to)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
