package sge

import (
	"os"
	"strings"
	"testing"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestRecorded reads what a real 8.1.9 said: an array of which a task is suspended,
// one is being removed, two were removed and the others wait; a job in error; one
// held by its user; and one that is not ours.
func TestRecorded(t *testing.T) {
	text, err := os.ReadFile("testdata/qstat.xml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []batch.Entry{
		{ID: "14.1", Launch: "array", Index: 0, State: batch.Running},
		{ID: "14.2", Launch: "array", Index: 1, State: batch.Running},
		{ID: "14.3", Launch: "array", Index: 2, State: batch.Queued},
		{ID: "14.5", Launch: "array", Index: 4, State: batch.Queued},
		{ID: "14.7", Launch: "array", Index: 6, State: batch.Queued},
		{ID: "14.8", Launch: "array", Index: 7, State: batch.Queued},
		{ID: "14.9", Launch: "array", Index: 8, State: batch.Queued},
		{ID: "13", Launch: "z", State: batch.Held, Reason: "Eqw"},
		{ID: "16", Launch: "averylongnamethatiscut", State: batch.Held, Reason: "hqw"},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(batch.Entry{}, "Since")); d != "" {
		t.Errorf("parsed (-want +got):\n%s", d)
	}
	for _, e := range got {
		if e.Since.IsZero() {
			t.Errorf("job %s: no time since when", e.ID)
		}
	}
}

func TestStates(t *testing.T) {
	for letters, want := range map[string]batch.State{
		"qw": batch.Queued, "hqw": batch.Held, "Eqw": batch.Held, "Ehqw": batch.Held, "hRwq": batch.Held, "Rq": batch.Queued,
		"r": batch.Running, "t": batch.Running, "Rr": batch.Running, "hr": batch.Running, "s": batch.Running, "S": batch.Running, "T": batch.Running,
		"dr": batch.Running, "dt": batch.Running, "ds": batch.Running, "z": batch.Ended, "": 0, "?": 0,
	} {
		if got := stateOf(letters, "pending"); got != want {
			t.Errorf("state %q = %v, want %v", letters, got, want)
		}
	}
	if got := stateOf("P", "running"); got != batch.Running {
		t.Errorf("a running job in a state that nobody knows is %v, want running: its room is taken", got)
	}
}

func TestTasks(t *testing.T) {
	for in, want := range map[string][]int{"3": {3}, "1-4:1": {1, 2, 3, 4}, "3,5,7-9:1": {3, 5, 7, 8, 9}, "1-7:3,9": {1, 4, 7, 9}} {
		if got, err := expand(in); err != nil || !cmp.Equal(got, want) {
			t.Errorf("tasks %s = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "4-1:1", "1-4:0", "1-", "a", "1-999999999:1", "1-90000:1,1-90000:1", "1-4:1:1", "-1"} {
		if got, err := expand(in); err == nil {
			t.Errorf("tasks %q = %v, want an error", in, got)
		}
	}
}

// TestNeverStarts are the traps of a job in error and of one that no queue can take:
// both stay in the list as if they waited.
func TestNeverStarts(t *testing.T) {
	f := batchtest.NewFake(t, 0)
	f.Install(t, dialect)
	s := New(batch.Tool{}, Config{})
	submit := func(launch protocol.LaunchID, gpus int) {
		t.Helper()
		jobs := []batch.Job{{Launch: launch, Directory: t.TempDir(), Script: "pilot.sh", GPUs: gpus}}
		file, err := s.WriteSubmitFile(jobs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Submit(t.Context(), jobs, file); err != nil {
			t.Fatal(err)
		}
	}
	submit("wrong", 0)
	f.Hold(t, "error: can't chdir to /d: No such file or directory", batchtest.Held)
	submit("never", 7)
	submit("waits", 0)
	got, err := s.Status(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []batch.Entry{
		{ID: "1", Launch: "wrong", State: batch.Held, Reason: "11/22/2026 06:53:19 [0:6392]: error: can't chdir to /d: No such file or directory"},
		{ID: "2", Launch: "never", State: batch.Held, Reason: `Job 2 (-l gpu=7) cannot run at host "vm" because it offers only hc:gpu=2.000000`},
		{ID: "3", Launch: "waits", State: batch.Queued},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(batch.Entry{}, "Since")); d != "" {
		t.Errorf("listed (-want +got):\n%s", d)
	}
}

// TestImpossible: what no queue has is told from what none has at this moment.
func TestImpossible(t *testing.T) {
	for _, c := range []struct {
		exit       int
		said, want string
	}{
		{0, "verification: found suitable queue(s)\n", ""},
		{1, "Job 19 (-l gpu=7) cannot run at host \"vm\" because it offers only hc:gpu=2.000000\nverification: no suitable queues\n", `Job 19 (-l gpu=7) cannot run at host "vm" because it offers only hc:gpu=2.000000`},
		{1, "Job 33 cannot run in PE \"smp\" because it only offers 0 slots\nverification: no suitable queues\n", `Job 33 cannot run in PE "smp" because it only offers 0 slots`},
		{1, "Job 31 (-l mem_free=30G) cannot run in queue \"all.q@vm\" because job requests unknown resource (mem_free)\nverification: no suitable queues\n", ""},
		{1, "Job 43 (-l mem_free=30G) cannot run at host \"vm\" because it offers only hl:mem_free=22.570G\nverification: no suitable queues\n", ""},
		{1, "verification: job is already running or is held\n", ""},
		{1, "error: commlib error: got select error (Connection refused)\n", ""},
	} {
		if got := impossible(&batch.Answer{Exit: c.exit, Stdout: []byte(c.said)}); got != c.want {
			t.Errorf("qalter that says %q: %q, want %q", c.said, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/qstat.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("<unknown_jobs ><ST_name>77</ST_name></unknown_jobs>"))
	f.Add([]byte(strings.Replace(string(text), "7-9:1", "7-999999:1", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parse(b)
		if err != nil && entries != nil {
			t.Fatal("entries beside an error")
		}
		for _, e := range entries {
			if !jobID.MatchString(string(e.ID)) || e.Launch == "" || e.State == 0 || e.Index < 0 {
				t.Fatalf("parsed %+v", e)
			}
		}
	})
}
