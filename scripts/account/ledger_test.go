package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

func newLedger(jobs int) *ledger {
	return &ledger{jobs: jobs, sites: map[protocol.SiteID]*work{}, outputs: map[string]bool{}}
}

// TestEachTaskOnce: what must not be is told, and what attempts did is booked with
// their sites.
func TestEachTaskOnce(t *testing.T) {
	ok := func(site protocol.SiteID) protocol.Attempt {
		return protocol.Attempt{Site: site, Pilot: "p1", Verdict: protocol.VerdictOK, Accepted: true, Usage: protocol.Usage{CPUMillis: 1500}}
	}
	lost := protocol.Attempt{Site: "dying", Verdict: protocol.VerdictLost}
	withdrawn := ok("dying")
	withdrawn.Withdrawn = true
	for _, c := range []struct {
		name     string
		state    protocol.TaskState
		attempts []protocol.Attempt
		wrong    string
	}{
		{"once", protocol.TaskOK, []protocol.Attempt{ok("here")}, ""},
		{"once, after it was lost", protocol.TaskOK, []protocol.Attempt{lost, ok("here")}, ""},
		{"once, after it was taken back", protocol.TaskOK, []protocol.Attempt{withdrawn, ok("here")}, ""},
		{"twice", protocol.TaskOK, []protocol.Attempt{ok("dying"), ok("here")}, "has 2 attempts that count"},
		{"never", protocol.TaskOK, []protocol.Attempt{lost}, "has 0 attempts that count"},
		{"not yet", protocol.TaskQueued, nil, "is queued"},
	} {
		l := newLedger(1)
		l.task(&protocol.Task{Name: "photons", State: c.state, Attempts: c.attempts}, map[string]protocol.Digest{})
		said := strings.Join(l.wrong, "\n")
		if c.wrong == "" && said != "" || !strings.Contains(said, c.wrong) {
			t.Errorf("%s: said to be wrong: %q, want %q", c.name, said, c.wrong)
		}
		if c.wrong == "" && (l.at("here").tasks != 1 || l.at("here").cpu.Seconds() != 1.5 || len(l.at("here").pilots) != 1) {
			t.Errorf("%s: here is booked with %+v, want one task of 1.5 s by one pilot", c.name, *l.at("here"))
		}
	}
	l := newLedger(1)
	l.task(&protocol.Task{State: protocol.TaskOK, Attempts: []protocol.Attempt{lost, lost, ok("here")}}, map[string]protocol.Digest{})
	if got := l.at("dying").others(); got != "2 lost" {
		t.Errorf("the dying site's attempts are booked as %q, want 2 lost", got)
	}
}

// TestFilesAreOutputs: a file that was changed, is missing, or is nobody's is told of.
func TestFilesAreOutputs(t *testing.T) {
	dir := t.TempDir()
	place := filepath.Join(dir, "a.csv")
	if err := os.WriteFile(place, []byte("hits"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := protocol.Output{URL: "file://" + place, Digest: protocol.DigestOf([]byte("hits"))}
	changed, gone, moved := good, good, good
	changed.Digest = protocol.DigestOf([]byte("other hits"))
	gone.URL = "file://" + filepath.Join(dir, "b.csv")
	moved.URL, moved.Intended = gone.URL, good.URL // its pilot died after it had moved it
	for _, c := range []struct {
		outputs []protocol.Output
		wrong   string
	}{
		{[]protocol.Output{good}, ""},
		{[]protocol.Output{moved}, ""},
		{[]protocol.Output{changed}, "is recorded"},
		{[]protocol.Output{gone}, "no such file"},
		{[]protocol.Output{good, good}, "is another's, too"},
		{nil, "is no output"},
	} {
		l := newLedger(1)
		for i := range c.outputs {
			l.file("job 0", &c.outputs[i])
		}
		if err := l.compareFiles(dir); err != nil {
			t.Fatal(err)
		}
		said := strings.Join(l.wrong, "\n")
		if c.wrong == "" && said != "" || !strings.Contains(said, c.wrong) {
			t.Errorf("outputs %+v: said to be wrong: %q, want %q", c.outputs, said, c.wrong)
		}
	}
}
