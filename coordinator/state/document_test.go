package state

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func TestDocumentIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../docs/state-machine.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(Document()), string(got)); diff != "" {
		t.Errorf("docs/state-machine.md is not what the tables say; run go generate ./coordinator/state (-tables +file):\n%s", diff)
	}
}

// Every state but waiting is reached by some move, every cause has one, and a
// task can come out of every state.
func TestMovesAreComplete(t *testing.T) {
	var to, from [protocol.TaskSuspended + 1]bool
	var by [ByNode + 1]bool
	seen := map[[3]int]bool{}
	for _, m := range moves {
		to[m.to], from[m.from], by[m.by] = true, true, true
		key := [3]int{int(m.from), int(m.to), int(m.by)}
		if seen[key] {
			t.Errorf("move from %v to %v by %v stands twice", m.from, m.to, m.by)
		}
		seen[key] = true
	}
	for _, s := range protocol.TaskStates {
		if !to[s] || !from[s] {
			t.Errorf("%v: is reached: %v, is left: %v", s, to[s], from[s])
		}
	}
	for c := BySubmit; c <= ByNode; c++ {
		if !by[c] {
			t.Errorf("no move by %v", c)
		}
	}
}

// A verdict that a pilot may give, and lost, has exactly one rule.
func TestEveryVerdictHasARule(t *testing.T) {
	n := map[protocol.Verdict]int{}
	for _, r := range verdictRules {
		n[r.verdict]++
	}
	for _, v := range protocol.Verdicts {
		want := 1
		if v == protocol.VerdictOK || v == protocol.VerdictWithdrawn {
			want = 0
		}
		if n[v] != want {
			t.Errorf("verdict %v has %d rules, want %d", v, n[v], want)
		}
	}
}
