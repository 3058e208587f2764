package history

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"floe/coordinator/state"
	"floe/protocol"
)

// model is the ledger as plainly as possible: every attempt in a list, and no sums.
type model struct {
	attempts []*Attempt
	byLease  map[protocol.LeaseID]*Attempt
	reported map[protocol.LeaseID]protocol.Usage // when the attempt ended
	actions  int
	next     uint64 // lease
}

// step draws what one log entry does, and does it to the model.
func (m *model) step(t *rapid.T, index uint64) (bodies []state.EventBody) {
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		switch rapid.IntRange(0, 9).Draw(t, "event") {
		case 0:
			m.actions++
			bodies = append(bodies, &state.ActionTaken{Verb: "reset", Object: "dataset 1"})
		case 1:
			if b := m.withdraw(t); b != nil {
				bodies = append(bodies, b)
			}
		case 2:
			if b := m.waste(t); b != nil {
				bodies = append(bodies, b)
			}
		case 3:
			bodies = append(bodies, &state.LeaseGranted{Lease: protocol.LeaseID{Index: index}}) // not kept
		default:
			b := m.end(t)
			a := m.byLease[b.Lease]
			a.Ended, a.EndedWall = state.RecordTime(index)*state.Second, state.UnixMillis(1e12+index)
			bodies = append(bodies, b)
		}
	}
	return bodies
}

func (m *model) counted(task protocol.TaskID) *Attempt {
	for _, a := range m.attempts {
		if a.Task == task && a.Counts() {
			return a
		}
	}
	return nil
}

func (m *model) end(t *rapid.T) *state.AttemptEnded {
	task := protocol.TaskID{
		Dataset: protocol.DatasetID(rapid.IntRange(1, 2).Draw(t, "dataset")),
		Task:    protocol.TaskIndex(rapid.IntRange(0, 1).Draw(t, "task")),
		Job:     protocol.JobIndex(rapid.IntRange(0, 150).Draw(t, "job")),
	}
	accepted := m.counted(task) == nil && rapid.IntRange(0, 3).Draw(t, "accepted") > 0
	m.next++
	b := ended(m.next, task.Dataset, task.Task, task.Job, accepted)
	for _, name := range []string{"a", "b", "a/b"} {
		if rapid.Bool().Draw(t, name) {
			b.Statistics = append(b.Statistics, protocol.Statistic{Name: name, Value: values().Draw(t, "value")})
		}
	}
	b.Usage.CPUMillis = int64(rapid.IntRange(0, 1000).Draw(t, "cpu"))
	b.Site = protocol.SiteID(rapid.SampledFrom([]string{"desy", "lyon"}).Draw(t, "site"))
	a := &Attempt{AttemptEnded: *b}
	m.attempts = append(m.attempts, a)
	m.byLease[b.Lease] = a
	m.reported[b.Lease] = b.Usage
	return b
}

func (m *model) waste(t *rapid.T) state.EventBody {
	for _, a := range m.attempts {
		if !a.Accepted && !a.Late && rapid.Bool().Draw(t, "late") {
			a.Late, a.Usage = true, protocol.Usage{CPUMillis: 5, WallMillis: 7, Cores: 1}
			return &state.UsageWasted{Lease: a.Lease, Task: a.Task, Site: a.Site, Usage: a.Usage}
		}
	}
	return nil
}

// withdraw names the counted attempts of a task in some range of jobs.
func (m *model) withdraw(t *rapid.T) state.EventBody {
	b := &state.AttemptsWithdrawn{
		Dataset: protocol.DatasetID(rapid.IntRange(1, 2).Draw(t, "dataset")),
		Task:    protocol.TaskIndex(rapid.IntRange(0, 1).Draw(t, "task")),
	}
	first := protocol.JobIndex(rapid.IntRange(0, 150).Draw(t, "first"))
	last := first + protocol.JobIndex(rapid.IntRange(0, 100).Draw(t, "span"))
	all := rapid.Bool().Draw(t, "all")
	if all { // as a reset of everything: jobs without an attempt included
		b.Jobs = []protocol.JobRange{{First: first, Last: last}}
	}
	for j := first; j <= last; j++ {
		a := m.counted(protocol.TaskID{Dataset: b.Dataset, Task: b.Task, Job: j})
		if a == nil {
			continue
		}
		a.Withdrawn = true
		if !all {
			b.Jobs = append(b.Jobs, protocol.JobRange{First: j, Last: j})
		}
	}
	if len(b.Jobs) == 0 {
		return nil
	}
	return b
}

// machine is a ledger that is written, sealed, killed and reopened by hand.
type machine struct {
	t       *rapid.T
	dir     string
	l       *Ledger
	entries []batch // all that was ever applied
	given   int     // entries handed over since the last restart, replayed ones included
}

func (m *machine) open() {
	l, err := Open(Config{Dir: m.dir, JournalLimit: 20, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		m.t.Fatal(err)
	}
	m.l = l
}

// write commits entries up to n in transactions of drawn sizes.
func (m *machine) write(n int) {
	for m.given < n {
		next := min(n, m.given+rapid.IntRange(1, 8).Draw(m.t, "transaction"))
		if err := m.l.writer.commit(m.entries[m.given:next]); err != nil {
			m.t.Fatal(err)
		}
		m.given = next
	}
}

// kill drops what is not committed and replays the log from some entry at or
// before the ledger's.
func (m *machine) kill() {
	if err := m.l.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.open()
	m.given = rapid.IntRange(0, m.given).Draw(m.t, "replay from")
}

func (m *machine) seal() {
	for v := m.l.view.Load(); len(v.generations) > 1; v = m.l.view.Load() {
		if err := m.l.sealGeneration(context.Background(), v.generations[0], v.generations[1].number-1); err != nil {
			m.t.Fatal(err)
		}
	}
}

// TestLedgerAgainstModel applies drawn events with kills, replays and sealing in
// between and wants what a plain fold over the counted attempts gives, to the byte.
func TestLedgerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "history-*")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		want := &model{byLease: make(map[protocol.LeaseID]*Attempt), reported: make(map[protocol.LeaseID]protocol.Usage)}
		got := &machine{t: t, dir: dir}
		got.open()
		defer func() { _ = got.l.Close() }()
		for index := uint64(1); index <= uint64(rapid.IntRange(1, 60).Draw(t, "entries")); index++ {
			got.entries = append(got.entries, batch{index: index, events: entry(index, want.step(t, index)...)})
			switch rapid.IntRange(0, 9).Draw(t, "then") {
			case 0:
				got.kill()
			case 1:
				got.seal()
			case 2, 3, 4:
				got.write(len(got.entries))
			}
		}
		got.write(len(got.entries))
		compare(t, want, got.l)
		got.seal()
		got.kill()
		got.write(len(got.entries))
		compare(t, want, got.l)
	})
}

func compare(t *rapid.T, m *model, l *Ledger) {
	compareStatistics(t, m, l)
	compareUsage(t, m, l)
	slices.SortStableFunc(m.attempts, func(a, b *Attempt) int {
		return cmp.Or(cmp.Compare(a.Task.Dataset, b.Task.Dataset), cmp.Compare(a.Task.Task, b.Task.Task),
			cmp.Compare(a.Task.Job, b.Task.Job), a.Lease.Compare(b.Lease))
	})
	for d := protocol.DatasetID(1); d <= 2; d++ {
		var want, got []Attempt
		var wantOut, gotOut []Output
		for _, a := range m.attempts {
			if a.Task.Dataset != d {
				continue
			}
			want = append(want, *a)
			if a.Counts() {
				wantOut = append(wantOut, Output{a.Task, a.Lease, a.Uncleaned, a.Outputs[1]})
			}
			if one, ok, err := l.Attempt(a.Lease); err != nil || !ok || !gocmp.Equal(one, *a) {
				t.Fatalf("Attempt(%v) = %v, %v, %v; want %v", a.Lease, one, ok, err, *a)
			}
		}
		for cursor := ""; ; {
			p, err := l.AttemptsPage(context.Background(), AttemptQuery{Dataset: d, Limit: 7, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p.Attempts...)
			if cursor = p.Next; cursor == "" {
				break
			}
		}
		for cursor := ""; ; {
			p, err := l.Outputs(context.Background(), d, cursor, 5)
			if err != nil {
				t.Fatal(err)
			}
			gotOut = append(gotOut, p.Outputs...)
			if cursor = p.Next; cursor == "" {
				break
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("attempts of dataset %d (-want +got):\n%s", d, diff)
		}
		if diff := gocmp.Diff(wantOut, gotOut); diff != "" {
			t.Fatalf("outputs of dataset %d (-want +got):\n%s", d, diff)
		}
	}
	if p, err := l.Actions(context.Background(), ActionQuery{Limit: 1000}); err != nil || len(p.Actions) != m.actions {
		t.Fatalf("%d actions, %v; want %d", len(p.Actions), err, m.actions)
	}
}

// compareStatistics compares the bytes on disk.
func compareStatistics(t *rapid.T, m *model, l *Ledger) {
	want := make(map[string]*accumulator)
	for _, a := range m.attempts {
		for _, s := range a.Statistics {
			if !a.Counts() {
				continue
			}
			k := string(appendStatisticKey(nil, taskOf(a.Task), s.Name))
			if want[k] == nil {
				want[k] = new(accumulator)
			}
			want[k].fold(s.Value)
		}
	}
	err := l.view.Load().db.View(func(tx *bbolt.Tx) error {
		n := 0
		err := tx.Bucket(bucketStatistics).ForEach(func(k, v []byte) error {
			n++
			if want[string(k)] == nil {
				return fmt.Errorf("statistic %q should not exist", k)
			}
			v, err := checked(k, v)
			if err != nil {
				return err
			}
			if b := encode(t, want[string(k)]); !bytes.Equal(b, v) {
				return fmt.Errorf("statistic %q = %x, want %x", k, v, b)
			}
			return nil
		})
		if err == nil && n != len(want) {
			err = errors.New("a statistic is missing")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func compareUsage(t *rapid.T, m *model, l *Ledger) {
	for d := protocol.DatasetID(1); d <= 2; d++ {
		var want Totals
		for _, a := range m.attempts {
			if a.Task.Dataset != d {
				continue
			}
			want.count(a.Verdict)
			first := m.reported[a.Lease]
			if a.Counts() {
				want.Used.add(&first, 1)
				continue
			}
			want.Wasted.add(&first, 1)
			if a.Late {
				want.Wasted.addUsage(&a.Usage, 1)
			}
		}
		all, err := l.Usage(d)
		if err != nil {
			t.Fatal(err)
		}
		got := Sum(all)
		for len(got.Verdicts) < len(want.Verdicts) {
			got.Verdicts = append(got.Verdicts, 0)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("usage of dataset %d (-want +got):\n%s", d, diff)
		}
	}
}
