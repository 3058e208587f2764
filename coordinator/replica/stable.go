package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"floe/coordinator/boltfile"
	"floe/protocol"
)

// stableStore keeps what a member must never forget: its term and its vote, apart
// from the log so that a log file can be replaced without forgetting a vote. Raft
// writes a vote with two calls, first the term, then the candidate; a crash between
// them would let it vote twice (raft#661). Here the first call is held back and the
// second writes both as one value.
//
// The file is bolt with one bucket:
//
//	bucket "stable"
//	  "node"  the node id, written once
//	  "term"  8 bytes, big endian: current term
//	  "vote"  8 bytes, big endian: term of the last vote ‖ address of the candidate
//	  others  as raft sets them
//
// Every value but the node id is followed by the CRC-32C of key and value, 4 bytes,
// big endian: one bit of a term or a vote is enough to vote twice.
//
// Only raft's main goroutine uses it once the replica is open.
type stableStore struct {
	db       *bbolt.DB
	watchdog *watchdog

	pendingVote uint64 // term of a vote whose candidate is still to come; 0: none
}

var (
	stableBucket = []byte("stable")
	nodeKey      = []byte("node")
	termKey      = []byte("term")
	voteKey      = []byte("vote")
)

// The keys raft uses. They are private to the library; TestStableKeys compares them
// with what a running node writes.
const (
	raftTermKey     = "CurrentTerm"
	raftVoteTermKey = "LastVoteTerm"
	raftVoteCandKey = "LastVoteCand"
)

// errNotFound has the exact text by which raft recognises a missing key.
var errNotFound = errors.New("not found")

// openStable opens or creates the store for one node id.
func openStable(path string, id protocol.NodeID) (*stableStore, error) {
	if err := boltfile.Create(path, boltOptions(0)); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, boltOptions(0))
	if err != nil {
		return nil, openError(path, err)
	}
	s := &stableStore{db: db}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(stableBucket)
		if err != nil {
			return err
		}
		switch owner := b.Get(nodeKey); {
		case owner == nil:
			return b.Put(nodeKey, []byte(id))
		case string(owner) != string(id):
			return fmt.Errorf("%w: %s was written by %s, this node is %s; check id and dir", ErrOtherNode, path, owner, id)
		}
		return b.ForEach(func(key, stored []byte) error {
			if string(key) == string(nodeKey) {
				return nil
			}
			_, err := unsealValue(key, stored)
			return err
		})
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// boltOptions are shared by both files. Source: research E2. The freelist is not
// written at each commit but rebuilt at open; a second process waits 2 s for the
// file lock and is then refused.
func boltOptions(mapSize int) *bbolt.Options {
	return &bbolt.Options{
		Timeout: 2 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		InitialMmapSize: mapSize, OpenFile: os.OpenFile,
	}
}

func openError(path string, err error) error {
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("open %s: %w", path, ErrLocked)
	}
	return fmt.Errorf("open %s: %w: %w", path, ErrDamaged, err)
}

// Set writes a value; the candidate of a vote together with its term.
func (s *stableStore) Set(key, val []byte) error {
	if string(key) != raftVoteCandKey {
		return s.put(key, val)
	}
	if s.pendingVote == 0 {
		return errors.New("vote without a term")
	}
	vote := append(binary.BigEndian.AppendUint64(nil, s.pendingVote), val...)
	s.pendingVote = 0
	return s.put(voteKey, vote)
}

// SetUint64 writes a number; the term of a vote is held back for its candidate.
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	switch string(key) {
	case raftVoteTermKey:
		s.pendingVote = val
		return nil
	case raftTermKey:
		// An error would make raft panic. The fuse is blown before put returns one,
		// so the node is cut off and may believe in the term until it stops.
		_ = s.put(termKey, binary.BigEndian.AppendUint64(nil, val))
		return nil
	}
	return s.put(key, binary.BigEndian.AppendUint64(nil, val))
}

func (s *stableStore) put(key, val []byte) error {
	write := func() error {
		return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(stableBucket).Put(key, sealValue(key, val)) })
	}
	if s.watchdog == nil {
		return write()
	}
	return s.watchdog.guard("write", write)
}

// Get reads a value, or fails with "not found".
func (s *stableStore) Get(key []byte) ([]byte, error) {
	if string(key) == raftVoteCandKey {
		vote, err := s.get(voteKey)
		if err != nil {
			return nil, err
		}
		return vote[8:], nil
	}
	return s.get(key)
}

// GetUint64 reads a number, or fails with "not found".
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	switch string(key) {
	case raftTermKey:
		key = termKey
	case raftVoteTermKey:
		key = voteKey
	}
	val, err := s.get(key)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(val), nil
}

func (s *stableStore) get(key []byte) (val []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(stableBucket).Get(key)
		if v == nil {
			return errNotFound
		}
		v, err := unsealValue(key, v)
		val = append([]byte{}, v...)
		return err
	})
	return val, err
}

// foundingTerm is the term that raft writes first when it founds a cluster; the members
// follow in the log. Nobody leads in it, and nobody votes.
const foundingTerm = 1

// takeBackFounding lets a founding be repeated that was cut short between the term and
// the members: raft founds nothing where it finds a term, and without members nobody
// would ever lead. The log is empty, and there are no snapshots.
func (s *stableStore) takeBackFounding() error {
	term, err := s.GetUint64([]byte(raftTermKey))
	if errors.Is(err, errNotFound) || err == nil && term != foundingTerm {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.get(voteKey); !errors.Is(err, errNotFound) {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(stableBucket).Delete(termKey) })
}

func sealValue(key, val []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, val)
	return binary.BigEndian.AppendUint32(slices.Clone(val), sum)
}

// unsealValue takes a value apart from its checksum, which must match.
func unsealValue(key, stored []byte) ([]byte, error) {
	if n := len(stored) - 4; n >= 0 && string(sealValue(key, stored[:n:n])) == string(stored) {
		return stored[:n], nil
	}
	return nil, fmt.Errorf("%w: %s does not match its checksum", ErrDamaged, key)
}

func (s *stableStore) close() error { return s.db.Close() }
