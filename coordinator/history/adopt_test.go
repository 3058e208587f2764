package history

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/state"
	"floe/protocol"
)

// entriesTo are one entry per index: an attempt each, some accepted, and now and
// then a withdrawal of earlier ones.
func entriesTo(n uint64) [][]state.Event {
	all := make([][]state.Event, n+1)
	for i := uint64(1); i <= n; i++ {
		job := protocol.JobIndex(i / 3)
		all[i] = entry(i, ended(i, protocol.DatasetID(1+i%3), 0, job, i%5 != 0, protocol.Statistic{Name: "v", Value: float64(i) / 10}))
		if i%17 == 0 {
			all[i] = entry(i, &state.AttemptsWithdrawn{Dataset: protocol.DatasetID(1 + (i-9)%3), Task: 0, Jobs: []protocol.JobRange{{First: protocol.JobIndex((i - 9) / 3), Last: protocol.JobIndex((i - 9) / 3)}}})
		}
	}
	return all
}

func appendRange(t *testing.T, l *Ledger, all [][]state.Event, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		l.Append(i, all[i])
	}
	if err := l.SyncTo(t.Context(), to); err != nil {
		t.Fatal(err)
	}
}

// A ledger with a gap goes on being written. A peer's copy that ends before it must
// close the gap without losing what was written here since, and leave the very
// ledger that the peer has, sealed files included.
func TestAdoptClosesTheGapWhileTheLogGoesOn(t *testing.T) {
	all := entriesTo(120)
	peer, _ := running(t, Config{JournalLimit: 10})
	appendRange(t, peer, all, 1, 57)
	waitForSeals(t, peer, 4)
	var copied bytes.Buffer
	if _, err := peer.WriteJournal(&copied); err != nil {
		t.Fatal(err)
	}
	journal := func() io.Reader { return bytes.NewReader(copied.Bytes()) }
	fetch := func(_ context.Context, s Seal) (io.ReadCloser, error) { return peer.OpenSeal(s) }

	dir := t.TempDir()
	l, stop := running(t, Config{Dir: dir, JournalLimit: 10})
	appendRange(t, l, all, 1, 12)
	l.Restored(50)
	appendRange(t, l, all, 51, 113)
	if n := len(l.Seals()); n > 1 {
		t.Errorf("%d files were sealed with a gap open", n)
	}
	missing := func(context.Context, Seal) (io.ReadCloser, error) { return nil, errors.New("the peer is gone") }
	if err := l.Adopt(t.Context(), journal(), missing); err == nil {
		t.Fatal("adopted without the sealed files")
	}
	if _, gap := l.Gap(); !gap {
		t.Fatal("the gap is closed by nothing")
	}
	if err := l.Adopt(t.Context(), journal(), fetch); err != nil {
		t.Fatal(err)
	}
	if g, gap := l.Gap(); gap || l.Applied() != 113 {
		t.Errorf("gap %v, applied %d; want none, 113", g, l.Applied())
	}
	appendRange(t, peer, all, 58, 120)
	appendRange(t, l, all, 114, 120)
	if diff := cmp.Diff(snapshot(t, peer), snapshot(t, l)); diff != "" {
		t.Errorf("ledgers differ (-peer +adopted):\n%s", diff)
	}
	seals := waitForSeals(t, peer, 12)
	if diff := cmp.Diff(seals, waitForSeals(t, l, len(seals))); diff != "" {
		t.Errorf("sealed files differ (-peer +adopted):\n%s", diff)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	l, _ = running(t, Config{Dir: dir, JournalLimit: 10})
	if diff := cmp.Diff(snapshot(t, peer), snapshot(t, l)); diff != "" {
		t.Errorf("ledgers differ after a restart (-peer +adopted):\n%s", diff)
	}
}

func TestAdoptRefusesWhatDoesNotCloseTheGap(t *testing.T) {
	all := entriesTo(60)
	peer, _ := running(t, Config{})
	appendRange(t, peer, all, 1, 30)
	var copied bytes.Buffer
	if _, err := peer.WriteJournal(&copied); err != nil {
		t.Fatal(err)
	}
	l, _ := running(t, Config{})
	l.Restored(50)
	appendRange(t, l, all, 51, 60)
	if err := l.Adopt(t.Context(), &copied, nil); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Adopt = %v, want ErrIncomplete", err)
	}
	if err := l.Adopt(t.Context(), bytes.NewReader([]byte("no journal")), nil); err == nil {
		t.Error("adopted bytes that are no journal")
	}
	if g, _ := l.Gap(); g.To != 50 || l.Applied() != 60 {
		t.Errorf("gap %v, applied %d; want to 50, 60", g, l.Applied())
	}
}
