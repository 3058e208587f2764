package condor

import (
	"errors"
	"os"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"

	"github.com/google/go-cmp/cmp"
)

// TestRecorded reads what condor_q 23.9 printed: a job that a schedd elsewhere keeps,
// one that runs, another person's, one held, one too large for any machine, one that
// is removed and still ends, one that waits.
func TestRecorded(t *testing.T) {
	b, err := os.ReadFile("testdata/condor_q.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	want := []batch.Entry{
		{ID: "19.0", Launch: "7qsup7ohos3cu1", State: batch.Ended, Since: at(1795726226)},
		{ID: "28.0", Launch: "run", State: batch.Running, Since: at(1795726264)},
		{ID: "30.0", Launch: "hold", State: batch.Held, Reason: "submitted on hold at user's request", Since: at(1795726264)},
		{ID: "31.0", Launch: "big", State: batch.Queued, Since: at(1795726264)},
		{ID: "32.0", Launch: "gone", State: batch.Running, Since: at(1795726283)},
		{ID: "33.0", Launch: "done", State: batch.Queued, Reason: "no match found", Since: at(1795726265)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("parsed (-want +got):\n%s", d)
	}
}

// TestNothingIsConfirmed is the trap of a query that finds nothing and prints nothing.
func TestNothingIsConfirmed(t *testing.T) {
	f := batchtest.NewFake(t, 2)
	f.Install(t, dialect)
	s := newSystem(t, "")
	if entries, err := s.Status(t.Context(), nil); err != nil || len(entries) != 0 {
		t.Errorf("status of an empty queue: %v, %v; want nothing", entries, err)
	}
	f.Break(t, "condor_q", batchtest.Empty)
	if entries, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || entries != nil {
		t.Errorf("status of a condor_q that does nothing and says so by 0: %v, %v; want ErrTransient", entries, err)
	}
	if none.MatchString("Total for query: 10 jobs; 0 completed\nTotal for floe: 0 jobs;") {
		t.Error("the totals of ten jobs were taken for none")
	}
}

func TestStates(t *testing.T) {
	for _, c := range []struct {
		ad   ad
		want batch.State
		why  string
	}{
		{ad{Status: 1, Rejected: "no match found "}, batch.Queued, "no match found"},
		{ad{Status: 2, Rejected: "no match found "}, batch.Running, ""},
		{ad{Status: 3, Last: 2}, batch.Running, ""}, // its program still ends
		{ad{Status: 3, Last: 1}, batch.Ended, ""},
		{ad{Status: 4, Last: 2}, batch.Ended, ""}, // kept by a schedd elsewhere
		{ad{Status: 5, Held: "Spooling input data files"}, batch.Held, "Spooling input data files"},
		{ad{Status: 6}, batch.Running, ""},
		{ad{Status: 7}, batch.Running, ""},
		{ad{Status: 8}, 0, ""},
	} {
		if got, why := stateOf(&c.ad); got != c.want || why != c.why {
			t.Errorf("state of %+v = %v %q, want %v %q", c.ad, got, why, c.want, c.why)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"ClusterId":3,"ProcId":0,"JobStatus":2,"JobBatchName":"floe-a"}]`))
	f.Add([]byte(`[{"ClusterId":3,"ProcId":0,"JobStatus":9,"JobBatchName":"floe-a"}]`))
	f.Add([]byte(`[{"JobStatus":2,"JobBatchName":"floe-a"}]`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parse(b)
		if err != nil && entries != nil {
			t.Fatal("entries beside an error")
		}
		for _, e := range entries {
			if e.ID == "" || e.Launch == "" || e.State == 0 || e.Index < 0 {
				t.Fatalf("parsed %+v", e)
			}
		}
	})
}
