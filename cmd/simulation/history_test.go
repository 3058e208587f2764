package simulation

import (
	"errors"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
)

func TestHistory(t *testing.T) {
	task := protocol.TaskID{Dataset: 1, Job: 2, Task: 3}
	first, second := protocol.LeaseID{Index: 5}, protocol.LeaseID{Index: 9}
	const ok, stale, unknown = protocol.CodeOK, protocol.CodeStale, protocol.CodeUnknown
	end := func(l protocol.LeaseID) []state.Event {
		return []state.Event{{Body: &state.AttemptEnded{Lease: l, Task: task, Verdict: protocol.VerdictWithdrawn}}}
	}
	for _, test := range []struct {
		name  string
		happy bool
		write func(h *History)
	}{
		{"one attempt, reported twice", true, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Reported(1, task, first, protocol.VerdictOK, unknown, 20, 30)
			h.Reported(1, task, first, protocol.VerdictOK, ok, 40, 50)
		}},
		{"the old attempt is stale once the task was claimed again", true, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Claimed(2, task, second, 20, 30)
			h.Reported(1, task, first, protocol.VerdictOK, stale, 40, 50)
			h.Reported(2, task, second, protocol.VerdictOK, ok, 60, 70)
		}},
		{"two accepted attempts", false, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Claimed(2, task, second, 20, 30)
			h.Reported(1, task, first, protocol.VerdictOK, ok, 40, 50)
			h.Reported(2, task, second, protocol.VerdictOK, ok, 60, 70)
		}},
		{"a claim that may be older than it was heard of", true, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Claimed(2, task, second, 35, 80)
			h.Reported(1, task, first, protocol.VerdictOK, stale, 40, 50)
		}},
		{"an acknowledged report that is lost", false, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Reported(1, task, first, protocol.VerdictOK, ok, 20, 30)
			h.Claimed(2, task, second, 40, 50)
		}},
		{"a report of unknown fate that was lost", true, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Reported(1, task, first, protocol.VerdictOK, unknown, 20, Never)
			h.Claimed(2, task, second, 40, 50)
			h.Reported(2, task, second, protocol.VerdictOK, ok, 60, 70)
		}},
		{"a stale answer for no reason", false, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Reported(1, task, first, protocol.VerdictOK, stale, 20, 30)
		}},
		{"a report after a reset", true, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Observe(12, 15, end(first))
			h.Reported(1, task, first, protocol.VerdictOK, stale, 20, 30)
		}},
		{"a report that counts after a reset", false, func(h *History) {
			h.Claimed(1, task, first, 0, 10)
			h.Observe(12, 15, end(first))
			h.Reported(1, task, first, protocol.VerdictOK, ok, 20, 30)
		}},
		{"a lease that is granted twice", false, func(h *History) {
			h.Claimed(1, task, second, 0, 10)
			h.Claimed(2, task, first, 20, 30)
		}},
	} {
		h := NewHistory()
		test.write(h)
		if _, err := h.Check(0); (err == nil) != test.happy || err != nil && !errors.Is(err, ErrHistory) {
			t.Errorf("%s: %v, want linearizable %v", test.name, err, test.happy)
		}
	}
}

// entries builds a log of single-command entries of one leader.
func entries(t *testing.T, commands ...state.Command) (log []Committed) {
	t.Helper()
	for i, c := range commands {
		b, err := state.EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		e := state.EncodeEntry(&state.Entry{Term: 1, First: i == 0, Elapsed: state.Second, Wall: 1000, Commands: [][]byte{b}})
		log = append(log, Committed{Index: uint64(i + 1), Term: 1, Entry: e})
	}
	return log
}

func TestReplay(t *testing.T) {
	ticket := protocol.DigestOf([]byte("ticket"))
	task := protocol.TaskID{Dataset: 1}
	lease := protocol.LeaseID{Index: 5}
	log := entries(
		t,
		&state.PutSite{Site: "mill"},
		&state.PutTicket{Site: "mill", Hash: ticket, Uses: 1, Expires: state.Hour},
		&state.EnrolPilot{Pilot: "p", Site: "mill", TicketHash: ticket, PublicKey: make([]byte, 32), Host: "h", Resources: protocol.Resources{Cores: 1, Memory: protocol.GB, Disk: protocol.GB}},
		&state.SubmitDataset{Dataset: 1, Jobs: 1, Facts: state.Facts{Owner: "ada", LanguageVersion: 1, Steering: ticket}, Tasks: []state.TaskSpec{{
			Name: "t", Classes: []state.Class{{Requirements: protocol.Requirements{Cores: 1}}},
		}}},
		&state.Acquire{Pilot: "p", Free: protocol.Resources{Cores: 1, Memory: protocol.GB, Disk: protocol.GB}, Want: 1},
		&state.Report{Lease: lease, Task: task, Pilot: "p", Verdict: protocol.VerdictOK, Cleaned: true, StartedUnix: 1, Statistics: []protocol.Statistic{{Name: "n", Value: 0.1}}},
		&state.Report{Lease: lease, Task: task, Pilot: "p", Verdict: protocol.VerdictOK, Cleaned: true, StartedUnix: 1, Statistics: []protocol.Statistic{{Name: "n", Value: 0.1}}},
	)
	replay := func(log []Committed) (*Replayed, error) {
		return Replay(func(yield func(Committed) bool) {
			for _, c := range log {
				if !yield(c) {
					return
				}
			}
		}, nil)
	}
	r, err := replay(log)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Account.Accepted(task); got != lease || r.Account.Used != 1 || r.Account.Wasted != 0 {
		t.Errorf("accepted %v, %d used and %d wasted; want %v, 1 and 0", got, r.Account.Used, r.Account.Wasted, lease)
	}
	if s := r.Account.Statistics()[StatisticKey{1, 0, "n"}]; s == nil || s.Count != 1 {
		t.Errorf("statistics = %v, want one value", r.Account.Statistics())
	}
	broken := append([]Committed(nil), log...)
	broken[3].Entry = append([]byte{}, broken[3].Entry[:50]...)
	if _, err := replay(broken); err == nil {
		t.Error("a log with a torn entry was replayed")
	}
}
