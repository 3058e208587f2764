package condor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func newSystem(t *testing.T, endpoint string) *System {
	t.Helper()
	s, err := New(batch.Tool{}, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// places are a schedd of this machine, and one that is spoken to as if it were not.
func places(t *testing.T, endpoint string, run func(t *testing.T, s *System)) {
	t.Run("Here", func(t *testing.T) { run(t, newSystem(t, "")) })
	t.Run("Elsewhere", func(t *testing.T) { run(t, newSystem(t, endpoint)) })
}

func TestFakeCondor(t *testing.T) {
	places(t, "schedd.example.org", func(t *testing.T, s *System) {
		batchtest.Run(t, func(t *testing.T) batchtest.Target {
			f := batchtest.NewFake(t, 2)
			f.Install(t, dialect)
			return batchtest.Target{System: s, Fake: f, Dialect: dialect, Queue: "short", BadQueue: "nope", NeverID: "999999.0", Slots: 2}
		})
	})
}

// TestRealCondor runs where scripts/batch-systems/condor.sh can install and start one.
func TestRealCondor(t *testing.T) {
	batchtest.Start(t, "condor")
	places(t, os.Getenv("FLOE_CONDOR_ENDPOINT"), func(t *testing.T, s *System) {
		batchtest.Run(t, func(*testing.T) batchtest.Target {
			return batchtest.Target{System: s, BadQueue: "nope", NeverID: "999999.0", Slots: 2, Wait: 2 * time.Minute}
		})
	})
	t.Run("Evicted", evicted)
	t.Run("Held", isHeld)
	t.Run("Queues", func(t *testing.T) {
		got, err := newSystem(t, "").Queues(t.Context())
		if err != nil || len(got) != 1 || got[0].Nodes != 1 || got[0].Cores < 2 || got[0].GPUs != 2 || got[0].Memory == 0 {
			t.Errorf("queues: %+v, %v; want the one machine, its two cards and all its cores and memory", got, err)
		}
	})
}

// one hands in a job, which is removed with the test, and returns its id.
func one(t *testing.T, s *System, script string) batch.JobID {
	t.Helper()
	dir := t.TempDir()
	j := batch.Job{Launch: protocol.LaunchID(strings.ToLower(protocol.RandomText(8))), Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Queue: "short"}
	if err := os.WriteFile(j.Script, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := s.WriteSubmitFile([]batch.Job{j})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Submit(t.Context(), []batch.Job{j}, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("condor_rm", string(ids[0])).Run() })
	return ids[0]
}

// until waits for what Status says of a job; nil when it is not listed.
func until(t *testing.T, s *System, id batch.JobID, ok func(*batch.Entry) bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-tick.C {
		entries, err := s.Status(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var mine *batch.Entry
		for i := range entries {
			if entries[i].ID == id {
				mine = &entries[i]
			}
		}
		if ok(mine) {
			return
		}
	}
	t.Fatalf("job %s: not within two minutes", id)
}

// evicted is the trap of a job that goes back to the queue: it must not start again.
func evicted(t *testing.T) {
	s := newSystem(t, "")
	starts := filepath.Join(t.TempDir(), "starts")
	id := one(t, s, "echo once >>"+batch.Quote(starts)+"\nexec sleep 600\n")
	until(t, s, id, func(e *batch.Entry) bool {
		b, err := os.ReadFile(starts)
		return err == nil && len(b) > 0 && e != nil && e.State == batch.Running
	})
	if out, err := exec.Command("condor_vacate_job", string(id)).CombinedOutput(); err != nil {
		t.Fatalf("condor_vacate_job: %v: %s", err, out)
	}
	until(t, s, id, func(e *batch.Entry) bool { return e == nil })
	if b, err := os.ReadFile(starts); err != nil || string(b) != "once\n" {
		t.Errorf("its starts: %q, %v; want one", b, err)
	}
}

func isHeld(t *testing.T) {
	s := newSystem(t, "")
	id := one(t, s, "exec sleep 600\n")
	if out, err := exec.Command("condor_hold", "-reason", "quota of the group", string(id)).CombinedOutput(); err != nil {
		t.Fatalf("condor_hold: %v: %s", err, out)
	}
	until(t, s, id, func(e *batch.Entry) bool {
		return e != nil && e.State == batch.Held && strings.HasPrefix(e.Reason, "quota of the group")
	})
}

func TestSubmitFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "$(HOME)")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	jobs := []batch.Job{
		{
			Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Files: []string{"ticket"}, Cores: 8, Memory: 16 * protocol.GB,
			Disk: 1025, GPUs: 2, Walltime: 90*time.Minute + time.Second, Priority: -5, Queue: `l"ong`, Account: "group_ice.cube",
			Directives: []string{"+MaxRuntime = 5400", "gpus_minimum_memory = 8000"},
		},
		{Launch: "abd", Directory: "/it's d", Script: "/it's d/pilot.sh"},
	}
	file, err := newSystem(t, "").WriteSubmitFile(jobs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `universe = vanilla
batch_name = floe-abc
notification = never
executable = /bin/sh
transfer_executable = false
arguments = "-c 'FLOE_WALLTIME=5401; export FLOE_WALLTIME; export PATH; exec /bin/sh pilot.sh 2>&1'"
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
transfer_input_files = pilot.sh, ticket
transfer_output_files = 
output = output
error = batch-output
stream_output = true
request_cpus = 8
request_memory = 15259
request_disk = 2
request_gpus = 2
priority = -5
+BatchQueue = "l\"ong"
accounting_group = group_ice.cube
requirements = NumJobStarts =?= UNDEFINED || NumJobStarts == 0
periodic_remove = (JobStatus == 1 && NumJobStarts > 0) || (JobStatus == 2 && time() - JobCurrentStartDate > 5401)
+MaxRuntime = 5400
gpus_minimum_memory = 8000
initialdir = $(floe_directory)
queue floe_directory from (
DIR
/it's d
)
`
	if d := cmp.Diff(strings.ReplaceAll(want, "DIR", strings.ReplaceAll(dir, "$", "$(DOLLAR)")), string(got)); d != "" {
		t.Errorf("submit file (-want +got):\n%s", d)
	}
	for _, change := range []func(*batch.Job){
		func(j *batch.Job) { j.Directives = []string{" Queue 5"} },
		func(j *batch.Job) { j.Account = "ice\ncube" },
		func(j *batch.Job) { j.Queue = "long\nqueue 5" },
		func(j *batch.Job) { j.Directory += " " },
		func(j *batch.Job) { j.Files = []string{"a,b"} },
	} {
		j := jobs[0]
		change(&j)
		if file, err := newSystem(t, "").WriteSubmitFile([]batch.Job{j}); err == nil {
			t.Errorf("submit file %s of %+v: want it refused", file, j)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for endpoint, want := range map[string]string{
		"": "", "schedd.example.org": "-name schedd.example.org", "ce.example.org ce.example.org:9619": "-pool ce.example.org:9619 -name ce.example.org",
	} {
		if got := strings.Join(newSystem(t, endpoint).at("-name"), " "); got != want {
			t.Errorf("options for endpoint %q = %q, want %q", endpoint, got, want)
		}
	}
	for _, endpoint := range []string{"a b c", "-allusers", "a -long"} {
		if _, err := New(batch.Tool{}, endpoint); err == nil || !strings.Contains(err.Error(), "queue.endpoint") {
			t.Errorf("endpoint %q: %v, want an error that names queue.endpoint", endpoint, err)
		}
	}
}
