package history

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/state"
	"floe/protocol"
)

// running opens a ledger and runs it until the test ends or stop is called, which
// returns what Run returned and closes the ledger.
func running(t *testing.T, c Config) (l *Ledger, stop func() error) {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-done, l.Close())
	})
	t.Cleanup(func() { _ = stop() })
	return l, stop
}

// entry makes the events of one log entry.
func entry(index uint64, bodies ...state.EventBody) (events []state.Event) {
	for i, b := range bodies {
		events = append(events, state.Event{
			Index: index, Ordinal: uint32(i),
			Time: state.RecordTime(index) * state.Second, Wall: state.UnixMillis(1e12 + index),
			Body: b,
		})
	}
	return events
}

// ended makes the end of an attempt.
func ended(lease uint64, d protocol.DatasetID, task protocol.TaskIndex, job protocol.JobIndex, accepted bool, statistics ...protocol.Statistic) *state.AttemptEnded {
	a := &state.AttemptEnded{
		Lease:   protocol.LeaseID{Index: lease},
		Task:    protocol.TaskID{Dataset: d, Task: task, Job: job},
		Attempt: 1, Pilot: "p-1", Site: "desy", Verdict: protocol.VerdictPayload, Next: protocol.TaskQueued,
		Usage:      protocol.Usage{WallMillis: 1000, CPUMillis: 900, Cores: 2},
		Statistics: statistics,
	}
	if accepted {
		a.Accepted, a.Verdict, a.Next = true, protocol.VerdictOK, protocol.TaskOK
		a.Outputs = []protocol.FileRecord{
			{Type: protocol.FileJobTemp, Name: "temp", URL: "x", Size: 1, Digest: protocol.DigestOf([]byte("t"))},
			{Type: protocol.FilePermanent, Name: "out", URL: "gsiftp://x/out", Size: 5, Digest: protocol.DigestOf([]byte{byte(job)})},
		}
	}
	return a
}

func appendAll(t *testing.T, l *Ledger, entries ...[]state.Event) {
	t.Helper()
	var last uint64
	for _, e := range entries {
		last = e[0].Index
		l.Append(last, e)
	}
	if err := l.SyncTo(t.Context(), last); err != nil {
		t.Fatal(err)
	}
}

func TestStatisticsOfDatasetAndTask(t *testing.T) {
	l, _ := running(t, Config{})
	events := func(x float64) protocol.Statistic { return protocol.Statistic{Name: "events", Value: x} }
	appendAll(
		t, l,
		entry(1, ended(1, 7, 0, 0, true, events(1), protocol.Statistic{Name: "cpu", Value: 0.5})),
		entry(2, ended(2, 7, 0, 1, true, events(2)), ended(3, 7, 0, 2, false, events(1e9))),
		entry(3, ended(4, 7, 1, 0, true, events(6))),
		entry(4, ended(5, 8, 0, 0, true, events(100))),
	)
	want := []protocol.StatisticSummary{
		{Name: "cpu", Count: 1, Sum: 0.5, Mean: 0.5, Min: 0.5, Max: 0.5},
		{Name: "events", Count: 3, Sum: 9, Mean: 3, StdDev: 2.6457513110645907, Min: 1, Max: 6},
	}
	got, more, err := l.Statistics(StatisticQuery{Dataset: 7})
	if err != nil || more {
		t.Fatal(more, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statistics of the dataset (-want +got):\n%s", diff)
	}
	task := protocol.TaskIndex(1)
	got, _, err = l.Statistics(StatisticQuery{Dataset: 7, Task: &task})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]protocol.StatisticSummary{{Name: "events", Count: 1, Sum: 6, Mean: 6, Min: 6, Max: 6}}, got); diff != "" {
		t.Errorf("statistics of the task (-want +got):\n%s", diff)
	}
	first, more, err := l.Statistics(StatisticQuery{Dataset: 7, Limit: 1})
	if err != nil || !more || len(first) != 1 || first[0].Name != "cpu" {
		t.Fatalf("first page = %v, %v, %v", first, more, err)
	}
	second, more, err := l.Statistics(StatisticQuery{Dataset: 7, Limit: 1, After: "cpu"})
	if err != nil || more || len(second) != 1 || second[0].Name != "events" {
		t.Fatalf("second page = %v, %v, %v", second, more, err)
	}
}

func TestWithdrawnAttemptTakesItsShareWithIt(t *testing.T) {
	l, _ := running(t, Config{})
	v := func(x float64) protocol.Statistic { return protocol.Statistic{Name: "v", Value: x} }
	appendAll(
		t, l,
		entry(1, ended(1, 7, 0, 0, true, v(0.1)), ended(2, 7, 0, 1, true, v(1e300)), ended(3, 7, 0, 2, true, v(0.2))),
		entry(2, &state.AttemptsWithdrawn{Dataset: 7, Task: 0, Jobs: []protocol.JobRange{{First: 1, Last: 1}}}),
		entry(3, ended(4, 7, 0, 1, true, v(0.3))),
	)
	got, _, err := l.Statistics(StatisticQuery{Dataset: 7})
	if err != nil {
		t.Fatal(err)
	}
	want := foldAll([]float64{0.1, 0.2, 0.3}).summary("v")
	if diff := cmp.Diff([]protocol.StatisticSummary{want}, got); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
	attempts, err := l.Attempts(protocol.TaskID{Dataset: 7, Job: 1})
	if err != nil || len(attempts) != 2 || !attempts[0].Withdrawn || attempts[1].Withdrawn || !attempts[1].Counts() {
		t.Errorf("attempts = %+v, %v; want the first withdrawn, the second counted", attempts, err)
	}
	usage, err := l.Usage(7)
	if err != nil || len(usage) != 1 || usage[0].Used.Attempts != 3 || usage[0].Wasted.Attempts != 1 || usage[0].Wasted.CoreMillis != 2000 {
		t.Errorf("usage = %+v, %v", usage, err)
	}
	outputs, err := l.Outputs(t.Context(), 7, "", 0)
	if err != nil || len(outputs.Outputs) != 3 || outputs.Outputs[1].Lease.Index != 4 {
		t.Errorf("outputs = %+v, %v; want one for each job, that of job 1 by the second attempt", outputs, err)
	}
}

// What cards did is summed over the attempts of which it is known, and moves with one
// that is withdrawn. A lying pilot cannot push the sum over its edge.
func TestTheWorkOfCardsIsSummed(t *testing.T) {
	l, _ := running(t, Config{})
	on := func(a *state.AttemptEnded, millis int64) *state.AttemptEnded {
		a.Usage.GPUs, a.Usage.GPUMillis = 1, &millis
		return a
	}
	appendAll(
		t, l,
		entry(1, on(ended(1, 7, 0, 0, true), 500), on(ended(2, 7, 0, 1, true), 70), ended(3, 7, 0, 2, true)),
		entry(2, on(ended(4, 7, 0, 3, false), 0), on(ended(5, 7, 0, 4, false), math.MaxInt64), on(ended(6, 7, 0, 5, false), -9)),
		entry(3, &state.AttemptsWithdrawn{Dataset: 7, Task: 0, Jobs: []protocol.JobRange{{First: 1, Last: 2}}}),
	)
	usage, err := l.Usage(7)
	if err != nil || len(usage) != 1 {
		t.Fatal(usage, err)
	}
	if used := usage[0].Used; used.GPUBusyMillis != 500 || used.GPUKnown != 1 {
		t.Errorf("used: %d ms of %d attempts, want 500 of 1", used.GPUBusyMillis, used.GPUKnown)
	}
	if wasted := usage[0].Wasted; wasted.GPUBusyMillis != maxUsage+70 || wasted.GPUKnown != 4 {
		t.Errorf("wasted: %d ms of %d attempts, want %d of 4", wasted.GPUBusyMillis, wasted.GPUKnown, maxUsage+70)
	}
}

func TestLateUsageIsWasted(t *testing.T) {
	l, _ := running(t, Config{})
	lost := ended(1, 7, 0, 0, false)
	lost.Verdict, lost.Usage = protocol.VerdictLost, protocol.Usage{}
	appendAll(t, l, entry(1, lost), entry(2, &state.UsageWasted{Lease: lost.Lease, Task: lost.Task, Site: "desy", Usage: protocol.Usage{CPUMillis: 77}}))
	usage, err := l.Usage(7)
	if err != nil || len(usage) != 1 || usage[0].Wasted.Attempts != 1 || usage[0].Wasted.CPUMillis != 77 {
		t.Errorf("usage = %+v, %v", usage, err)
	}
	a, ok, err := l.Attempt(lost.Lease)
	if err != nil || !ok || !a.Late || a.Usage.CPUMillis != 77 {
		t.Errorf("attempt = %+v, %v, %v", a, ok, err)
	}
}

func TestActionsNewestFirst(t *testing.T) {
	l, _ := running(t, Config{JournalLimit: 3})
	object := [...]string{"dataset 7", "dataset 8", "desy"}
	for i := uint64(1); i <= 20; i++ {
		l.Append(i, entry(i, &state.ActionTaken{By: state.Action{Actor: "jane", Reason: "why not"}, Verb: "reset", Object: object[i%3]}))
	}
	if err := l.SyncTo(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	collect := func(d protocol.DatasetID) (walls []state.UnixMillis) {
		for cursor := ""; ; {
			p, err := l.Actions(t.Context(), ActionQuery{Dataset: d, Cursor: cursor, Limit: 4})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range p.Actions {
				walls = append(walls, a.Wall-1e12)
			}
			if cursor = p.Next; cursor == "" {
				return walls
			}
		}
	}
	var all []state.UnixMillis
	for i := state.UnixMillis(20); i > 0; i-- {
		all = append(all, i)
	}
	if diff := cmp.Diff(all, collect(0)); diff != "" {
		t.Errorf("all actions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]state.UnixMillis{18, 15, 12, 9, 6, 3}, collect(7)); diff != "" {
		t.Errorf("actions on dataset 7 (-want +got):\n%s", diff)
	}
	for _, cursor := range []string{"x", "1", "1-2-3", "-1-2", "1- 2"} {
		if _, err := l.Actions(t.Context(), ActionQuery{Cursor: cursor}); protocol.CodeOf(err) != protocol.CodeBadRequest {
			t.Errorf("cursor %q: %v, want bad-request", cursor, err)
		}
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	l, _ := running(t, Config{})
	appendAll(t, l, entry(1, ended(1, 7, 0, 0, true), ended(2, 7, 0, 1, true)))
	p, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 7, Limit: 1})
	if err != nil || p.Next == "" {
		t.Fatal(p, err)
	}
	for _, cursor := range []string{"!", "AAAA", p.Next + "AA"} {
		if _, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 7, Cursor: cursor}); protocol.CodeOf(err) != protocol.CodeBadRequest {
			t.Errorf("cursor %q: %v, want bad-request", cursor, err)
		}
	}
	if _, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 8, Cursor: p.Next}); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("another dataset's cursor: %v, want bad-request", err)
	}
}

func TestAttemptFilters(t *testing.T) {
	l, _ := running(t, Config{})
	failed := ended(3, 7, 0, 2, false)
	failed.Site = "lyon"
	appendAll(
		t, l,
		entry(1, ended(1, 7, 0, 0, true), ended(2, 7, 1, 0, true), failed, ended(4, 7, 0, 3, true)),
		entry(2, &state.AttemptsWithdrawn{Dataset: 7, Task: 0, Jobs: []protocol.JobRange{{First: 3, Last: 3}}}),
	)
	zero := protocol.TaskIndex(0)
	tests := []struct {
		name string
		q    AttemptQuery
		want []uint64
	}{
		{"all", AttemptQuery{}, []uint64{1, 3, 4, 2}},
		{"task", AttemptQuery{Task: &zero}, []uint64{1, 3, 4}},
		{"counted", AttemptQuery{Outcome: Counted}, []uint64{1, 2}},
		{"not counted", AttemptQuery{Outcome: NotCounted}, []uint64{3, 4}},
		{"withdrawn", AttemptQuery{Outcome: Withdrawn}, []uint64{4}},
		{"verdict", AttemptQuery{Verdicts: []protocol.Verdict{protocol.VerdictPayload, protocol.VerdictLost}}, []uint64{3}},
		{"site", AttemptQuery{Site: "desy"}, []uint64{1, 4, 2}},
		{"nothing", AttemptQuery{Site: "desy", Outcome: Counted, Verdicts: []protocol.Verdict{protocol.VerdictNode}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.q.Dataset = 7
			p, err := l.AttemptsPage(t.Context(), tt.q)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, a := range p.Attempts {
				got = append(got, a.Lease.Index)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || p.Next != "" {
				t.Errorf("leases (-want +got), next %q:\n%s", p.Next, diff)
			}
		})
	}
}

func TestReplayAfterRestartChangesNothing(t *testing.T) {
	dir := t.TempDir()
	entries := [][]state.Event{
		entry(1, ended(1, 7, 0, 0, true, protocol.Statistic{Name: "v", Value: 0.1})),
		entry(5, ended(2, 7, 0, 1, true, protocol.Statistic{Name: "v", Value: 0.2})), // raft's own entries lie between
		entry(6, &state.AttemptsWithdrawn{Dataset: 7, Jobs: []protocol.JobRange{{First: 0, Last: 0}}}),
	}
	for range 3 {
		l, stop := running(t, Config{Dir: dir})
		appendAll(t, l, entries...)
		got, _, err := l.Statistics(StatisticQuery{Dataset: 7})
		if err != nil || len(got) != 1 || got[0].Count != 1 || got[0].Sum != 0.2 {
			t.Errorf("statistics = %v, %v; want one value of 0.2", got, err)
		}
		if l.Applied() != 6 {
			t.Errorf("Applied = %d, want 6", l.Applied())
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunWritesWhatIsQueuedBeforeItEnds(t *testing.T) {
	dir := t.TempDir()
	l, stop := running(t, Config{Dir: dir, CommitInterval: time.Hour})
	for i := uint64(1); i <= 100; i++ {
		l.Append(i, entry(i, ended(i, 7, 0, protocol.JobIndex(i), true)))
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitApplied(t.Context(), 101); !errors.Is(err, ErrStopped) {
		t.Errorf("WaitApplied after Run = %v, want ErrStopped", err)
	}
	for i := uint64(101); i < 1000; i++ {
		l.Append(i, nil) // must not wait for ever
	}
	l, _ = running(t, Config{Dir: dir})
	if l.Applied() != 100 {
		t.Errorf("Applied = %d, want 100", l.Applied())
	}
}

func TestRestoredLeavesGap(t *testing.T) {
	dir := t.TempDir()
	l, stop := running(t, Config{Dir: dir})
	appendAll(t, l, entry(3, ended(1, 7, 0, 0, true)))
	l.Restored(3)
	l.Append(4, nil)
	if err := l.SyncTo(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if g, ok := l.Gap(); ok {
		t.Errorf("a snapshot of what is known left the gap %v", g)
	}
	l.Restored(9)
	appendAll(t, l, entry(10, ended(2, 7, 0, 1, true)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	l, _ = running(t, Config{Dir: dir})
	if g, ok := l.Gap(); !ok || g != (Gap{5, 9}) {
		t.Errorf("Gap = %v, %v; want 5 to 9", g, ok)
	}
}

func TestSealedFilesAreTheSameEverywhere(t *testing.T) {
	var want []Seal
	for _, interval := range []time.Duration{time.Nanosecond, 20 * time.Millisecond} {
		l, _ := running(t, Config{JournalLimit: 10, CommitInterval: interval})
		fill(t, l, 100)
		seals := waitForSeals(t, l, 10) // every row is in one: the last generation is full, too
		if want == nil {
			want = seals
		}
		if diff := cmp.Diff(want, seals); diff != "" {
			t.Errorf("sealed files differ (-first +second):\n%s", diff)
		}
	}
}

// fill appends n entries of one attempt each.
func fill(t *testing.T, l *Ledger, n int) {
	t.Helper()
	for i := uint64(1); i <= uint64(n); i++ {
		d, job := protocol.DatasetID(1+i%3), protocol.JobIndex(i/3)
		l.Append(i, entry(i, ended(i, d, 0, job, i%5 != 0, protocol.Statistic{Name: "v", Value: float64(i) / 10})))
	}
	if err := l.SyncTo(t.Context(), uint64(n)); err != nil {
		t.Fatal(err)
	}
}

func waitForSeals(t *testing.T, l *Ledger, n int) []Seal {
	t.Helper()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if seals := l.Seals(); len(seals) >= n {
			return seals
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("sealing does not come to its end")
		}
	}
}

func TestDamagedSealedFileIsNamedAndMended(t *testing.T) {
	dir := t.TempDir()
	l, stop := running(t, Config{Dir: dir, JournalLimit: 10})
	fill(t, l, 35)
	seal := waitForSeals(t, l, 3)[1]
	path := sealPath(sealedDir(dir), seal.Digest)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[len(sealMagic)+20] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged, err := l.Verify(t.Context())
	if err != nil || !cmp.Equal(damaged, []Seal{seal}) {
		t.Errorf("Verify = %v, %v; want %v", damaged, err, seal)
	}
	failed := false
	for d := protocol.DatasetID(1); d <= 3; d++ {
		_, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: d})
		failed = failed || errors.Is(err, errSeal)
	}
	if !failed {
		t.Error("queries answered without the damaged page")
	}
	if err := l.Mend(seal, &slowReader{bad}); err == nil {
		t.Error("mending with damaged bytes succeeded")
	}
	if err := l.Mend(seal, &slowReader{good}); err != nil {
		t.Fatal(err)
	}
	if p, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 1}); err != nil || len(p.Attempts) != 11 {
		t.Errorf("after mending: %d attempts, %v", len(p.Attempts), err)
	}
	if err := errors.Join(stop(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	l, _ = running(t, Config{Dir: dir, JournalLimit: 10})
	if got := l.Damaged(); !cmp.Equal(got, []Seal{seal}) {
		t.Fatalf("Damaged = %v, want the lost file", got)
	}
	var damage *DamageError
	if _, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 1}); !errors.As(err, &damage) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a query without the lost file = %v, want a *DamageError", err)
	}
	if err := l.Mend(seal, &slowReader{good}); err != nil {
		t.Fatal(err)
	}
	if p, err := l.AttemptsPage(t.Context(), AttemptQuery{Dataset: 1}); err != nil || len(p.Attempts) != 11 || l.Damaged() != nil {
		t.Errorf("after mending: %d attempts, damaged %v, %v", len(p.Attempts), l.Damaged(), err)
	}
}

// slowReader gives a few bytes at a time.
type slowReader struct{ rest []byte }

func (r *slowReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest[:min(len(r.rest), 777)])
	r.rest = r.rest[n:]
	return n, nil
}

func TestCrashWhileSealingLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	l, stop := running(t, Config{Dir: dir, JournalLimit: 10})
	fill(t, l, 15)
	waitForSeals(t, l, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"writing-1", protocol.DigestOf(nil).Hex()} {
		if err := os.WriteFile(filepath.Join(sealedDir(dir), name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running(t, Config{Dir: dir, JournalLimit: 10})
	entries, err := os.ReadDir(sealedDir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v; want the one sealed file", len(entries), err)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (&Config{JournalLimit: 2e6, CommitInterval: -1}).Validate(); err == nil {
		t.Error("a wrong configuration was taken")
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}
