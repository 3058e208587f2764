package arc

import (
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func TestFakeARC(t *testing.T) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		f, s := newFake(t, 2)
		return batchtest.Target{System: s, Fake: f, Dialect: dialect, BadQueue: "nope", NeverID: "never", Slots: 2}
	})
}

// TestRealARC runs where scripts/batch-systems/arc.sh can install and start one.
func TestRealARC(t *testing.T) {
	batchtest.Start(t, "arc")
	s, err := New(os.Getenv("FLOE_ARC_ENDPOINT"))
	if err != nil {
		t.Fatal(err)
	}
	batchtest.Run(t, func(*testing.T) batchtest.Target {
		return batchtest.Target{
			System: s, BadQueue: "nope", NeverID: "never", Wait: 3 * time.Minute,
			Abrupt: "jobs that are forked get a signal at their wrapper alone; systems behind a real element do better",
		}
	})
}

func TestSubmitFile(t *testing.T) {
	dir := t.TempDir()
	file, err := new(System).WriteSubmitFile([]batch.Job{{
		Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Files: []string{`ti"cket`}, Cores: 4, Memory: 8 * protocol.GB,
		Walltime: 90*time.Minute + time.Second, Priority: 60, Queue: "long", Account: "ice", Directives: []string{`(runtimeenvironment="ENV/GPU")`},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `&(executable="/bin/sh")
 (arguments="pilot.sh")
 (jobname="floe-abc")
 (stdout="output")
 (stderr="output")
 (inputFiles=("pilot.sh" "")("ti""cket" ""))
 (outputFiles=("output" ""))
 (count="4")
 (countpernode="4")
 (memory="2000")
 (walltime="91 minutes")
 (priority="100")
 (queue="long")
 (project="ice")
 (runtimeenvironment="ENV/GPU")
`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("submit file (-want +got):\n%s", d)
	}
}

func TestEndpointAndCredentials(t *testing.T) {
	for _, bad := range []string{"", "ce.example.org", "http://ce.example.org/arex", "https:///arex"} {
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), "https://") {
			t.Errorf("endpoint %q: %v, want an example of a right one", bad, err)
		}
	}
	_, s := newFake(t, 1)
	t.Setenv("BEARER_TOKEN_FILE", "")
	t.Setenv("X509_USER_PROXY", filepath.Join(t.TempDir(), "none"))
	if _, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || !strings.Contains(err.Error(), "arcproxy") {
		t.Errorf("status without a proxy: %v, want ErrTransient and how to make one", err)
	}
}

// TestFilesThatCannotBeUploaded is the trap of a job that waits for its files.
func TestFilesThatCannotBeUploaded(t *testing.T) {
	f, s := newFake(t, 1)
	dir := t.TempDir()
	j := batch.Job{Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh")}
	if err := os.WriteFile(j.Script, []byte("exit 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := s.WriteSubmitFile([]batch.Job{j})
	if err != nil {
		t.Fatal(err)
	}
	f.Break(t, "put", batchtest.Down)
	if _, err := s.Submit(t.Context(), []batch.Job{j}, file); !errors.Is(err, batch.ErrTransient) {
		t.Errorf("submit: %v, want ErrTransient", err)
	}
	if last := f.Last(t); last.State != batchtest.Ended || !last.Removed {
		t.Errorf("the job that got no files: %+v, want it killed", last)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"job":{"status-code":"201","reason":"Created","id":"kutL","state":"ACCEPTING"}}`))
	f.Add([]byte(`{"job":[{"status-code":"200","id":"z5VL","state":"ACCEPTED"},{"status-code":"404","id":"nosuchid","state":"None"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		jobs, err := parse(b)
		if err != nil && jobs != nil {
			t.Fatal("jobs beside an error")
		}
		for _, j := range jobs {
			if j.ID != "" && !jobID.MatchString(j.ID) {
				t.Fatalf("parsed the id %q", j.ID)
			}
		}
	})
}

// TestNoJobsAtAll is the trap of a list that is empty: so is an answer that failed.
func TestNoJobsAtAll(t *testing.T) {
	f, s := newFake(t, 2)
	if entries, err := s.Status(t.Context(), nil); err != nil || len(entries) != 0 {
		t.Errorf("status of an element without jobs: %v, %v; want nothing", entries, err)
	}
	f.Break(t, "", batchtest.Empty)
	if entries, err := s.Status(t.Context(), nil); !errors.Is(err, batch.ErrTransient) || entries != nil {
		t.Errorf("status by empty answers: %v, %v; want ErrTransient", entries, err)
	}
	for text, want := range map[string]bool{
		"<jobs/>": true, "<?xml version='1.0'?><jobs></jobs>": true, "<jobs><job><id>a</id></job></jobs>": false, "<html/>": false, "": false, "<jobs>": false,
	} {
		if got := saysNone([]byte(text)); got != want {
			t.Errorf("saysNone(%q) = %v, want %v", text, got, want)
		}
	}
}
