package pbs

import (
	"os"
	"strings"
	"testing"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// entries are ours of what qstat -f printed.
func entries(t *testing.T, text []byte) []batch.Entry {
	t.Helper()
	var all []batch.Entry
	for _, r := range read(text) {
		e, ours, err := r.entry()
		if err != nil {
			t.Fatal(err)
		}
		if ours {
			all = append(all, e)
		}
	}
	return all
}

// TestRecorded reads what a real OpenPBS 23.06 said, and what Torque prints by its
// sources. The real one has an array of which two jobs run and one was removed, a job
// that can never run, one that is held, and somebody's job that was submitted from
// inside a pilot, with a variable that looks like lines of qstat.
func TestRecorded(t *testing.T) {
	for file, want := range map[string][]batch.Entry{
		"openpbs-23.06.txt": {
			{ID: "30[0].vm", Launch: "arrayofasite", Index: 0, State: batch.Running},
			{ID: "30[1].vm", Launch: "arrayofasite", Index: 1, State: batch.Running},
			{ID: "30[2].vm", Launch: "arrayofasite", Index: 2, State: batch.Queued},
			{ID: "30[3].vm", Launch: "arrayofasite", Index: 3, State: batch.Ended},
			{ID: "30[4].vm", Launch: "arrayofasite", Index: 4, State: batch.Queued},
			{ID: "31.vm", Launch: "neverlease", State: batch.Held, Reason: "Can Never Run: Insufficient amount of resource: ncpus (R: 9 A: 2 T: 2)"},
			{ID: "32.vm", Launch: "held", State: batch.Held, Reason: "held (u)"},
		},
		"torque.txt": {
			{ID: "41.head.example.org", Launch: "waitsforaslot", State: batch.Queued},
			{ID: "42[1].head.example.org", Launch: "arrayofasite", Index: 1, State: batch.Running},
			{ID: "43.head.example.org", Launch: "done", State: batch.Ended},
		},
	} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		got := entries(t, text)
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(batch.Entry{}, "Since")); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
		for _, e := range got {
			if e.Since.IsZero() {
				t.Errorf("%s: job %s: no time since when", file, e.ID)
			}
		}
	}
}

// TestOursMustBeRight: what is ours and cannot be understood is an error, what is not
// ours is nobody's business.
func TestOursMustBeRight(t *testing.T) {
	for name, x := range map[string]struct {
		text string
		ok   bool
	}{
		"no state":          {"Job Id: 1.vm\n    Job_Name = floe-a\n\n", false},
		"a new state":       {"Job Id: 1.vm\n    Job_Name = floe-a\n    job_state = Z\n\n", false},
		"no lease":          {"Job Id: 1.vm\n    Job_Name = floe-abcdefghij\n    job_state = Q\n\n", false},
		"no id":             {"Job Id: one\n    Job_Name = floe-a\n    job_state = Q\n\n", false},
		"somebody's":        {"Job Id: one\n    Job_Name = analysis\n    job_state = Z\n\n", true},
		"from inside":       {"Job Id: 1.vm\n    Job_Name = analysis\n    job_state = Z\n    Variable_List = FLOE_LAUNCH=a\n\n", true},
		"a short name":      {"Job Id: 1.vm\n    Job_Name = floe-a\n    job_state = Q\n\n", true},
		"nothing but lines": {"\tfloe\n    job_state = Q\n\n", true},
	} {
		var err error
		for _, r := range read([]byte(x.text)) {
			if _, _, e := r.entry(); e != nil {
				err = e
			}
		}
		if (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestComplete is the trap of a qstat that is asked about several jobs and shows one.
func TestComplete(t *testing.T) {
	shown := []record{{ID: "1.vm"}, {ID: "2[0].vm"}}
	for _, c := range []struct {
		ids        []string
		complaints string
		ok         bool
	}{
		{[]string{"1.vm", "2[].vm"}, "", true},
		{[]string{"1", "2[].vm"}, "", true},
		{[]string{"1.vm", "2[].vm", "3.vm"}, "", false},
		{[]string{"1.vm", "3.vm"}, "qstat: Unknown Job Id 3.vm\n", true},
		{[]string{"1.vm", "3.vm"}, "qstat: Unknown Job Id Error 3.vm\n", true},
		{[]string{"1.vm", "3.vm"}, "warning: down for 3 hours on Sunday\n", false},
		{[]string{"3[].vm", "4.vm"}, "qstat: 3[].vm Job has finished, use -x or -H to obtain historical job information\n", false},
	} {
		if err := complete(c.ids, shown, c.complaints); (err == nil) != c.ok {
			t.Errorf("asked about %s, complaining %q: %v", c.ids, c.complaints, err)
		}
	}
}

// TestNeverStarts is the trap of a job that PBS accepts and will never run.
func TestNeverStarts(t *testing.T) {
	for _, dialect := range Dialects {
		f := fake(t, dialect, 0)
		s := New(batch.Tool{}, "")
		submit(t, s, batch.Job{Launch: "never", Cores: 9})
		f.Hold(t, "Can Never Run: Insufficient amount of resource: ncpus (R: 9 A: 2 T: 2)", batchtest.Queued)
		submit(t, s, batch.Job{Launch: "waits"})
		got, err := s.Status(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].State != batch.Held || !strings.Contains(got[0].Reason, "ncpus") || got[1].State != batch.Queued {
			t.Errorf("%s lists %+v, want the first held, with the reason, and the second queued", dialect, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, file := range []string{"openpbs-23.06.txt", "torque.txt"} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("Job Id: 1[99999999999999999999].vm\n    Job_Name = floe-a\n    job_state = Q\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range read(b) {
			e, ours, err := r.entry()
			if ours && err != nil {
				t.Fatal("an entry beside an error")
			}
			if ours && (!jobID.MatchString(string(e.ID)) || e.Launch == "" || e.State == 0 || e.Index < 0) {
				t.Fatalf("read %+v", e)
			}
		}
	})
}
