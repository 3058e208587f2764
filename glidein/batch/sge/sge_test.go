package sge

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestFakeSGE(t *testing.T) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		f := batchtest.NewFake(t, 2)
		f.Install(t, dialect)
		return batchtest.Target{
			System: New(batch.Tool{}, Config{}), Fake: f, Dialect: dialect, Queue: "all.q", BadQueue: "nope.q", NeverID: "999999",
			Slots: 2, SharedDirectory: true,
		}
	})
}

// TestRealSGE runs where scripts/batch-systems/sge.sh can install and start one.
func TestRealSGE(t *testing.T) {
	batchtest.Start(t, "sge")
	config := Config{ParallelEnvironment: "smp"}
	batchtest.Run(t, func(*testing.T) batchtest.Target {
		return batchtest.Target{
			System: New(batch.Tool{}, config), Queue: "all.q", BadQueue: "nope.q", NeverID: "999999", Slots: 2, SharedDirectory: true,
			Wait: 2 * time.Minute,
		}
	})
	t.Run("Suspended", func(t *testing.T) { suspended(t, New(batch.Tool{}, config)) })
	t.Run("NeverStarts", func(t *testing.T) { neverStarts(t, New(batch.Tool{}, config)) })
}

// submit hands in one job of a script, which is removed with the test.
func submit(t *testing.T, s *System, j batch.Job, script string) batch.JobID {
	t.Helper()
	j.Directory = t.TempDir()
	j.Script = filepath.Join(j.Directory, "pilot.sh")
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
	t.Cleanup(func() { _ = s.Remove(context.Background(), ids[0]) })
	return ids[0]
}

// await polls a real system for a job.
func await(t *testing.T, s *System, id batch.JobID, what string, ok func(batch.Entry) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		entries, err := s.Status(ctx, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		i := slices.IndexFunc(entries, func(e batch.Entry) bool { return e.ID == id })
		if i >= 0 && ok(entries[i]) || i < 0 && ok(batch.Entry{State: batch.Ended}) {
			return
		}
	}
}

// suspended: the warning that comes before does not end the pilot.
func suspended(t *testing.T, s *System) {
	done := filepath.Join(t.TempDir(), "done")
	id := submit(t, s, batch.Job{Launch: "susp"}, "while [ ! -e "+batch.Quote(done)+".go ]; do sleep 1; done; echo yes >"+batch.Quote(done)+"\n")
	await(t, s, id, "the job", func(e batch.Entry) bool { return e.State == batch.Running })
	for _, verb := range []string{"-sj", "-usj"} {
		if out, err := exec.Command("qmod", verb, string(id)).CombinedOutput(); err != nil {
			t.Fatalf("qmod %s: %v: %s", verb, err, out)
		}
		out, err := exec.Command("qstat", "-s", "s").Output()
		for verb == "-sj" && err == nil && len(out) == 0 {
			out, err = exec.Command("qstat", "-s", "s").Output()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(done+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, s, id, "the end of the job", func(e batch.Entry) bool { return e.State == batch.Ended })
	if b, err := os.ReadFile(done); err != nil || string(b) != "yes\n" {
		t.Errorf("after it was suspended and resumed the job wrote %q, %v", b, err)
	}
}

// neverStarts: jobs that wait for what no queue has, and such whose directory is gone.
func neverStarts(t *testing.T, s *System) {
	id := submit(t, s, batch.Job{Launch: "never", GPUs: 7}, "exit 0\n")
	await(t, s, id, "a job for seven cards, held", func(e batch.Entry) bool {
		return e.State == batch.Held && strings.Contains(e.Reason, "gpu")
	})
	id = submit(t, s, batch.Job{Launch: "wrong", Directives: []string{"-o /nonexist/dir/output"}}, "exit 0\n")
	await(t, s, id, "a job with an output nowhere, held", func(e batch.Entry) bool {
		return e.State == batch.Held && strings.Contains(e.Reason, "/nonexist")
	})
	id = submit(t, s, batch.Job{Launch: "cores", Cores: 2, GPUs: 2, Memory: 64 * protocol.MB}, "exit 0\n")
	await(t, s, id, "the end of a job of two cores and two cards", func(e batch.Entry) bool { return e.State == batch.Ended })
}

func TestSubmitFile(t *testing.T) {
	dir := t.TempDir()
	jobs := []batch.Job{
		{
			Launch: "abc", Directory: dir, Script: filepath.Join(dir, "pilot.sh"), Cores: 8, Memory: 16 * protocol.GB, Disk: 1, GPUs: 2,
			Walltime: 90*time.Minute + time.Millisecond, Priority: -5, Queue: "gpu.q,long.q", Account: "icecube", Directives: []string{"-l arch=lx-amd64"},
		},
		{Launch: "abd", Directory: "/d", Script: "/d/pilot.sh"},
	}
	file, err := New(batch.Tool{}, Config{ParallelEnvironment: "smp", Memory: "h_vmem"}).WriteSubmitFile(jobs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `#!/bin/sh
#$ -N floe-abc
#$ -S /bin/sh
#$ -notify
#$ -r n
#$ -j y
#$ -o DIR/batch-output
#$ -t 1-2
#$ -pe smp 8
#$ -l h_vmem=1908M
#$ -l gpu=2
#$ -l h_rt=5401
#$ -p -5
#$ -q gpu.q,long.q
#$ -P icecube
#$ -l arch=lx-amd64
FLOE_WALLTIME=5401
export FLOE_WALLTIME
asked= pilot=
trap : USR1
trap 'asked=1; [ -z "$pilot" ] || kill -TERM "$pilot"' USR2 TERM
(
trap '' USR1 USR2
trap - TERM
case ${SGE_TASK_ID-} in
1) cd 'DIR' && exec /bin/sh 'DIR/pilot.sh' >>output 2>&1 ;;
2) cd '/d' && exec /bin/sh '/d/pilot.sh' >>output 2>&1 ;;
*) echo "floe: no pilot job SGE_TASK_ID=${SGE_TASK_ID-}" >&2; exit 2 ;;
esac
) &
pilot=$!
[ -z "$asked" ] || kill -TERM "$pilot"
while wait "$pilot"; code=$?; kill -0 "$pilot" 2>/dev/null; do :; done
exit "$code"
`
	if d := cmp.Diff(strings.ReplaceAll(want, "DIR", dir), string(got)); d != "" {
		t.Errorf("submit file (-want +got):\n%s", d)
	}
}

// TestCoresNeedAnEnvironment is about the name that only a site's administrators know.
func TestCoresNeedAnEnvironment(t *testing.T) {
	job := batch.Job{Launch: "abc", Directory: t.TempDir(), Script: "pilot.sh", Cores: 2}
	if _, err := New(batch.Tool{}, Config{}).WriteSubmitFile([]batch.Job{job}); err == nil || !strings.Contains(err.Error(), "parallel_environment") {
		t.Errorf("two cores without an environment: %v, want an error that names the key", err)
	}
	job.Directives = []string{"-pe mpi 2"}
	file, err := New(batch.Tool{}, Config{ParallelEnvironment: "smp"}).WriteSubmitFile([]batch.Job{job})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "smp") {
		t.Errorf("the site's own -pe is not the only one: %v\n%s", err, b)
	}
}

// TestPath is the trap of paths in #$ lines. What is plain was seen to work.
func TestPath(t *testing.T) {
	for in, want := range map[string]string{
		"/home/ice/floe/jobs/floe-a/batch-output": "/home/ice/floe/jobs/floe-a/batch-output",
		"/home/ice cube/batch-output":             `"/home/ice cube/batch-output"`,
		"/home/$USER/out":                         "/dev/null",
		"/home/#1/out":                            "/dev/null",
		"/home/it's/out":                          "/dev/null",
		"/home/a:b/out":                           "/dev/null",
	} {
		if got := path(in); got != want {
			t.Errorf("path(%s) = %s, want %s", in, got, want)
		}
	}
}
