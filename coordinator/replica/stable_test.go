package replica

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

func reopen(t *testing.T, s *stableStore, path string) *stableStore {
	t.Helper()
	if s != nil {
		s.close()
	}
	s, err := openStable(path, "c1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// A vote is written with its candidate or not at all, wherever a crash falls.
func TestVoteIsOneTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	s := reopen(t, nil, path)
	vote := func() (uint64, string) {
		term, _ := s.GetUint64([]byte(raftVoteTermKey))
		candidate, _ := s.Get([]byte(raftVoteCandKey))
		return term, string(candidate)
	}
	if _, err := s.GetUint64([]byte(raftVoteTermKey)); err == nil || err.Error() != "not found" {
		t.Errorf("vote of a new store: %v, want raft's \"not found\"", err)
	}
	check := func(when string, term uint64, candidate string) {
		t.Helper()
		if gotTerm, got := vote(); gotTerm != term || got != candidate {
			t.Errorf("vote %s = %d for %q, want %d for %q", when, gotTerm, got, term, candidate)
		}
	}
	s.SetUint64([]byte(raftVoteTermKey), 7)
	check("before its candidate", 0, "")
	s.Set([]byte(raftVoteCandKey), []byte("c2:4433"))
	check("complete", 7, "c2:4433")
	s.SetUint64([]byte(raftVoteTermKey), 8)
	check("before the next candidate", 7, "c2:4433")
	s = reopen(t, s, path)
	check("after a crash", 7, "c2:4433")
	if err := s.Set([]byte(raftVoteCandKey), []byte("c3:4433")); err == nil {
		t.Error("a candidate without a term was accepted")
	}
	s.SetUint64([]byte(raftTermKey), 9)
	s.Set([]byte("other"), []byte("value"))
	s = reopen(t, s, path)
	term, _ := s.GetUint64([]byte(raftTermKey))
	other, _ := s.Get([]byte("other"))
	if term != 9 || string(other) != "value" {
		t.Errorf("term %d, other %q after reopening, want 9 and value", term, other)
	}
}

// The keys that raft uses are those that the store knows: nothing of a running node
// is stored under another name.
func TestStableKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.leader()
		voted := 0
		for _, n := range c.nodes {
			var keys []string
			n.stable.db.View(func(tx *bbolt.Tx) error {
				return tx.Bucket(stableBucket).ForEach(func(k, _ []byte) error { keys = append(keys, string(k)); return nil })
			})
			if len(keys) == 3 {
				voted++
			} else {
				keys = append(keys, "vote")
			}
			if diff := cmp.Diff([]string{"node", "term", "vote"}, keys); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		}
		if voted < 2 {
			t.Errorf("%d of 3 nodes stored a vote, want a majority", voted)
		}
	})
}

func TestStableStoreIsOwned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	reopen(t, nil, path).close()
	if _, err := openStable(path, "c2"); !errors.Is(err, ErrOtherNode) {
		t.Errorf("open as another node = %v, want ErrOtherNode", err)
	}
}
