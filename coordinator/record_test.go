package coordinator

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"floe/coordinator/history"
	"floe/coordinator/state"
	"floe/protocol"
)

// newMachine makes a machine with a ledger that writes.
func newMachine(t *testing.T) *machine {
	t.Helper()
	ledger, err := history.Open(history.Config{Dir: filepath.Join(t.TempDir(), "history"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ledger.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return &machine{state: state.New(), hashes: newHashes(), ledger: ledger, observe: func([]state.Event) {}}
}

// entry is a log entry that makes a site known.
func entry(t *testing.T, site protocol.SiteID) []byte {
	t.Helper()
	c, err := state.EncodeCommand(&state.PutSite{Site: site})
	if err != nil {
		t.Fatal(err)
	}
	return state.EncodeEntry(&state.Entry{Term: 1, Elapsed: state.Second, Wall: 1000, Commands: [][]byte{c}})
}

func (m *machine) mustApply(t *testing.T, index uint64, sites ...protocol.SiteID) {
	t.Helper()
	for i, s := range sites {
		answers, err := m.Apply(index+uint64(i), 1, entry(t, s))
		if err != nil || len(answers) != 1 {
			t.Fatalf("apply %s: %v, %v", s, answers, err)
		}
	}
}

func TestTheChainTellsLogsApart(t *testing.T) {
	one, same, other, swapped := newMachine(t), newMachine(t), newMachine(t), newMachine(t)
	one.mustApply(t, 1, "a", "b")
	same.mustApply(t, 1, "a", "b")
	other.mustApply(t, 1, "a", "c")
	swapped.mustApply(t, 1, "b", "a")
	if one.chain != same.chain {
		t.Error("equal logs have different chains")
	}
	if one.chain == other.chain || one.chain == swapped.chain {
		t.Error("different logs have the same chain")
	}
}

func TestASnapshotGoesOnWhereItWasTaken(t *testing.T) {
	m := newMachine(t)
	m.mustApply(t, 1, "a", "b")
	taken, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	m.mustApply(t, 3, "c") // while it is being written
	var file bytes.Buffer
	if err := taken.Persist(&file); err != nil {
		t.Fatal(err)
	}
	taken.Release()
	if m.ledger.Applied() < 2 {
		t.Errorf("the snapshot at 2 was written while the ledger was at %d", m.ledger.Applied())
	}
	restored := newMachine(t)
	if err := restored.Restore(bytes.NewReader(file.Bytes())); err != nil {
		t.Fatal(err)
	}
	if _, known := restored.state.Site("c"); known || restored.state.Index() != 2 {
		t.Errorf("restored to %d, with what came after the snapshot: %v", restored.state.Index(), known)
	}
	restored.mustApply(t, 3, "c")
	if restored.chain != m.chain {
		t.Error("the chain does not go on where the snapshot was taken")
	}
	if err := newMachine(t).Restore(bytes.NewReader(file.Bytes()[:20])); err == nil {
		t.Error("a cut snapshot was restored")
	}
}

func TestAnEntryThatCannotBeReadStopsTheNode(t *testing.T) {
	m := newMachine(t)
	before := m.chain
	if _, err := m.Apply(1, 1, []byte("nonsense")); err == nil || m.chain != before {
		t.Errorf("apply nonsense = %v", err)
	}
}

func TestConfigNamesEveryMistake(t *testing.T) {
	err := (&Config{Listen: "here", Address: "c1:443", Raft: ":1", RaftAddress: "x"}).Validate()
	for _, want := range []string{`listen "here"`, `raft address "x"`, "dir and logger"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want it to name %s", err, want)
		}
	}
	good := Config{Dir: "d", Logger: slog.New(slog.DiscardHandler), Listen: ":1", Address: "c1:1", Raft: ":2", RaftAddress: "c1:2"}
	if err := good.Validate(); err != nil {
		t.Errorf("Validate = %v", err)
	}
}
