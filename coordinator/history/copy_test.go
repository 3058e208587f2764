package history

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// snapshot is what two equal ledgers agree on.
func snapshot(t *testing.T, l *Ledger) string {
	t.Helper()
	var b strings.Builder
	for d := protocol.DatasetID(1); d <= 3; d++ {
		p, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: d, Limit: 10000})
		if err != nil {
			t.Fatal(err)
		}
		stats, _, err := l.Statistics(StatisticQuery{Dataset: d})
		if err != nil {
			t.Fatal(err)
		}
		usage, err := l.Usage(d)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(cmp.Diff(nil, p.Attempts) + cmp.Diff(nil, stats) + cmp.Diff(nil, usage))
	}
	return strings.ReplaceAll(b.String(), "\u00a0", " ")
}

func TestInstallClosesTheGap(t *testing.T) {
	peer, _ := running(t, Config{JournalLimit: 10})
	fill(t, peer, 57)
	waitForSeals(t, peer, 5)
	var journal bytes.Buffer
	applied, err := peer.WriteJournal(&journal)
	if err != nil || applied != 57 {
		t.Fatalf("WriteJournal = %d, %v; want 57", applied, err)
	}

	dir := t.TempDir()
	l, stop := running(t, Config{Dir: dir, JournalLimit: 10})
	fill(t, l, 12) // one sealed file is here already
	waitForSeals(t, l, 1)
	l.Restored(50)
	l.Append(51, nil)
	if err := errors.Join(l.SyncTo(t.Context(), 51), stop()); err != nil {
		t.Fatal(err)
	}

	here := l.Seals()[0]
	fetch := func(_ context.Context, s Seal) (io.ReadCloser, error) {
		if s == here {
			t.Error("a file that is here was fetched")
		}
		return peer.OpenSeal(s)
	}
	logger := slog.New(slog.DiscardHandler)
	if err := Install(t.Context(), dir, logger, bytes.NewReader(journal.Bytes()), 58, fetch); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("Install of a copy that ends too early = %v, want ErrIncomplete", err)
	}
	broken := func(context.Context, Seal) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("?")), nil }
	if err := Install(t.Context(), dir, logger, bytes.NewReader(journal.Bytes()), 50, broken); err == nil {
		t.Fatal("Install took a sealed file of wrong bytes")
	}
	if err := Install(t.Context(), dir, logger, bytes.NewReader(journal.Bytes()), 50, fetch); err != nil {
		t.Fatal(err)
	}
	l, _ = running(t, Config{Dir: dir, JournalLimit: 10})
	if g, gap := l.Gap(); gap || l.Applied() != 57 {
		t.Errorf("after Install: gap %v, applied %d", g, l.Applied())
	}
	if diff := cmp.Diff(snapshot(t, peer), snapshot(t, l)); diff != "" {
		t.Errorf("ledgers differ (-peer +installed):\n%s", diff)
	}
	// Both go on alike.
	for _, x := range []*Ledger{peer, l} {
		appendAll(t, x, entry(58, ended(58, 1, 0, 99, true, protocol.Statistic{Name: "v", Value: 0.7})))
	}
	if diff := cmp.Diff(snapshot(t, peer), snapshot(t, l)); diff != "" {
		t.Errorf("ledgers differ later (-peer +installed):\n%s", diff)
	}
}

func TestInstallRefusesAnOpenLedger(t *testing.T) {
	dir := t.TempDir()
	l, _ := running(t, Config{Dir: dir})
	appendAll(t, l, entry(1, ended(1, 1, 0, 0, true)))
	var journal bytes.Buffer
	if _, err := l.WriteJournal(&journal); err != nil {
		t.Fatal(err)
	}
	if err := Install(t.Context(), dir, slog.New(slog.DiscardHandler), &journal, 0, nil); err == nil || !strings.Contains(err.Error(), "must not be open") {
		t.Errorf("Install = %v, want a refusal", err)
	}
}

func TestInstallRefusesForeignBytes(t *testing.T) {
	dir := t.TempDir()
	err := Install(t.Context(), dir, slog.New(slog.DiscardHandler), strings.NewReader(strings.Repeat("no journal ", 4000)), 0, nil)
	if err == nil {
		t.Fatal("Install took bytes that are no journal")
	}
	if _, err := os.Stat(dir + "/" + journalFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a journal was made of them: %v", err)
	}
}

// TestQueriesWhileWritingAndSealing asks all the while: every answer is consistent.
func TestQueriesWhileWritingAndSealing(t *testing.T) {
	l, _ := running(t, Config{JournalLimit: 25, CommitInterval: 1})
	done := make(chan struct{})
	go func() {
		defer close(done)
		fill(t, l, 600)
	}()
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		p, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 2, Limit: 10000})
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Attempts {
			if want := uint64(3*i + 1); p.Attempts[i].Lease.Index != want {
				t.Fatalf("attempt %d is of lease %d, want %d: a row is lost or doubled", i, p.Attempts[i].Lease.Index, want)
			}
		}
		if finished && len(p.Attempts) != 200 {
			t.Errorf("%d attempts, want 200", len(p.Attempts))
		}
	}
}
