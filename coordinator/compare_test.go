package coordinator

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// The record of one of three is changed behind its back. It must stop and keep
// evidence, while the others go on.
func TestTheOddOneOutStops(t *testing.T) {
	for _, test := range []struct {
		name string
		what string // the evidence says
		harm func(t *testing.T, m *machine)
	}{
		{"its events differ", "chain", func(_ *testing.T, m *machine) { m.chain[0] ^= 1 }},
		{"its record differs and no event shows it", "checkpoint", func(t *testing.T, m *machine) {
			if err := m.state.Restore(strings.NewReader(miscounted(t, m.state.Snapshot()))); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newTrio(t, replica.Limits{}, 3)
			c.propose(&state.PutSite{Site: "mill"})
			c.caughtUp()
			odd := c.follower()
			odd.machine.mu.Lock()
			test.harm(t, odd.machine)
			odd.machine.mu.Unlock()
			c.propose(&state.Checkpoint{})
			c.caughtUp()
			c.await("the records to be hashed", func() bool {
				for _, r := range c.running {
					if len(r.hashes(0).Checkpoints) == 0 {
						return false
					}
				}
				return true
			})
			odd.machine.hashes.ask()
			<-odd.ended
			if !errors.Is(odd.err, ErrAstray) || ExitCode(odd.err) != ExitAstray {
				t.Fatalf("it ended with %v, exit code %d; want ErrAstray, %d", odd.err, ExitCode(odd.err), ExitAstray)
			}
			id := odd.cluster.Node()
			said, err := os.ReadFile(c.dir(id, evidenceFile))
			if err != nil || !strings.Contains(string(said), `"what": "`+test.what+`"`) || strings.Count(string(said), "sha256:") != 3 {
				t.Errorf("evidence %s, %v; want the %s of three", said, err, test.what)
			}
			if err := Run(context.Background(), *c.configs[id]); !errors.Is(err, ErrAstray) {
				t.Errorf("it starts again: %v", err)
			}
			delete(c.running, id)
			c.propose(&state.PutSite{Site: "pond"})
			for other, r := range c.running {
				if _, err := r.compareOnce(t.Context()); err != nil || r.record.refusing.Load() != nil {
					t.Errorf("coordinator %s: %v, refusing %v", other, err, r.record.refusing.Load())
				}
			}
		})
	}
}

// Of two that differ nobody can say which is right: nothing is written.
func TestWithoutAMajorityNothingIsWritten(t *testing.T) {
	t.Parallel()
	c := newTrio(t, replica.Limits{}, 2)
	c.propose(&state.PutSite{Site: "mill"})
	c.caughtUp()
	odd := c.follower()
	odd.machine.mu.Lock()
	odd.machine.chain[0] ^= 1
	odd.machine.mu.Unlock()
	c.propose(&state.PutSite{Site: "pond"})
	c.caughtUp()
	leader := c.leader()
	if _, err := leader.compareOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := leader.record.Propose(t.Context(), &state.PutSite{Site: "lake"})
	if protocol.CodeOf(err) != protocol.CodeReadOnly {
		t.Errorf("Propose = %v, want read-only", err)
	}
	if _, text := c.metricsOf(leader, c.configs["c1"].FirstToken); !strings.Contains(text, "floe_read_only 1") {
		t.Error("no alarm is raised")
	}
}

// caughtUp waits until all have applied the same.
func (c *trio) caughtUp() {
	c.t.Helper()
	c.await("all to have applied the same", func() bool {
		indexes := map[uint64]bool{}
		for _, r := range c.running {
			indexes[r.record.Applied()] = true
		}
		return len(indexes) == 1
	})
}

func TestAGhostEntryAsksForAComparison(t *testing.T) {
	m := newMachine(t)
	m.mustApply(t, 1, "a")
	select {
	case <-m.hashes.asked:
		t.Fatal("an ordinary entry asked for a comparison")
	default:
	}
	if _, err := m.Apply(2, 7, entry(t, "b")); err != nil { // proposed in term 1
		t.Fatal(err)
	}
	select {
	case <-m.hashes.asked:
	default:
		t.Error("a ghost entry asked for nothing")
	}
}

func TestJudge(t *testing.T) {
	a, b, x := protocol.DigestOf([]byte("a")), protocol.DigestOf([]byte("b")), protocol.DigestOf([]byte("x"))
	at := func(pairs ...any) (list []protocol.RecordHash) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, protocol.RecordHash{Index: uint64(pairs[i].(int)), Hash: pairs[i+1].(protocol.Digest)})
		}
		return list
	}
	for _, c := range []struct {
		name    string
		chains  [][]protocol.RecordHash // of c1, c2, c3
		voters  int
		nonvote protocol.NodeID
		odd     []protocol.NodeID
		split   bool
		agreed  uint64
	}{
		{"equal", [][]protocol.RecordHash{at(1, a, 2, b), at(1, a, 2, b), at(1, a)}, 3, "", nil, false, 2},
		{"one is odd", [][]protocol.RecordHash{at(1, a, 2, b), at(1, a, 2, x), at(1, a, 2, b)}, 3, "", []protocol.NodeID{"c2"}, false, 1},
		{"the lowest index decides", [][]protocol.RecordHash{at(1, x, 2, a), at(1, a, 2, x), at(1, a, 2, b)}, 3, "", []protocol.NodeID{"c1"}, false, 0},
		{"two of three, the third is silent", [][]protocol.RecordHash{at(1, a), at(1, b), nil}, 3, "", nil, true, 0},
		{"all differ", [][]protocol.RecordHash{at(1, a), at(1, b), at(1, x)}, 3, "", nil, true, 0},
		{"a non-voter is odd", [][]protocol.RecordHash{at(1, a), at(1, a), at(1, x)}, 2, "c3", []protocol.NodeID{"c3"}, false, 0},
		{"a non-voter decides nothing", [][]protocol.RecordHash{at(1, a), at(1, x), at(1, x)}, 2, "c3", nil, true, 0},
		{"nothing in common", [][]protocol.RecordHash{at(1, a), at(2, b), at(3, x)}, 3, "", nil, false, 0},
	} {
		votes := map[protocol.NodeID]bool{}
		var replies []protocol.HashesReply
		for i, chain := range c.chains {
			id := protocol.NodeID("c" + string(rune('1'+i)))
			votes[id] = id != c.nonvote
			replies = append(replies, protocol.HashesReply{Node: id, Chain: chain})
		}
		j := judge(&replies[0], replies[1:], votes, c.voters)
		if diff := cmp.Diff(c.odd, j.odd); diff != "" || j.split != c.split || j.agreed != c.agreed {
			t.Errorf("%s: %+v; want odd %v, split %v, agreed %d", c.name, j, c.odd, c.split, c.agreed)
		}
	}
}

func TestHashesAreKeptAtFixedIndexes(t *testing.T) {
	h := newHashes()
	// Entries have the indexes that the log gives them, with gaps.
	for i := uint64(1); i < 5*chainEvery; i += 3 {
		h.note(i, chain{byte(i)})
	}
	var got []uint64
	for _, v := range h.chain {
		got = append(got, v.Index)
	}
	if diff := cmp.Diff([]uint64{1024, 2050, 3073, 4096}, got); diff != "" {
		t.Errorf("kept at (-want +got):\n%s", diff)
	}
	if v := h.newest(); v == nil || v.Index != 5*chainEvery-1-(5*chainEvery-2)%3 {
		t.Errorf("newest %v", v)
	}
}
