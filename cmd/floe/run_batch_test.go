package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch/batchtest"
)

// gatedSteering leaves a line per task that was begun, and fails in job 2 as long as
// there is no gate.
const gatedSteering = `version: 3
options: {out: /nowhere}
tasks:
  - name: make
    requirements: {memory: 0.2, time: 0.1}
    trays:
      - modules:
          - src: /bin/sh
            args: ["-c", "echo making $(job) of $(jobs_submitted); echo make.$(job) >>$options(out)/begun; echo $(job) >part"]
            data: [{type: job_temp, movement: output, local: part, remote: ""}]
  - name: check
    depends: [make]
    requirements: {cpu: 2, memory: 0.1, time: 0.1}
    trays:
      - modules:
          - src: /bin/sh
            args: ["-c", "[ $(job) != 2 ] || [ -e $options(out)/gate ] || { echo no gate >&2; exit 7; }; cp part whole"]
            data:
              - {type: job_temp, movement: input, local: part, remote: ""}
              - {type: permanent, movement: output, local: whole, remote: "file://$options(out)/whole.$(job)"}
`

// batchRun is floe run status -o json.
type batchRun struct {
	Counts map[string]int
	Jobs   []struct {
		Job     int
		State   string
		Attempt int
		Reason  string
		Result  *struct{ Task, Evidence string }
	}
}

// awaitRun asks for the status of a run until none of its jobs is under way.
func awaitRun(t *testing.T, dir string) (run batchRun, code int) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		run = batchRun{}
		code, out, errs := runFloe(t, "run", "status", dir, "-o", "json")
		if err := json.Unmarshal([]byte(out), &run); err != nil {
			t.Fatalf("floe run status = %d, %v\n%s%s", code, err, out, errs)
		}
		if n := run.Counts; n["submitted"]+n["queued"]+n["running"] == 0 {
			return run, code
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v the run is still under way: %s", patience, out)
		}
	}
}

// runThroughBatch is what a person does with a run, in whatever batch system.
func runThroughBatch(t *testing.T, flags ...string) {
	// Where jobs run as somebody else, nothing below the test's own directory is for them.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mc.yaml"), []byte(gatedSteering), 0o600); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "mc.run")
	args := append([]string{"run", filepath.Join(dir, "mc.yaml"), "--jobs", "0-3/10", "--dir", work, "--option", "out=" + dir}, flags...)
	if code, out, errs := runFloe(t, args...); code != exitOK || !strings.Contains(out, "next: floe run status "+work) {
		t.Fatalf("floe %q = %d\n%s%s", args, code, out, errs)
	}
	run, code := awaitRun(t, work)
	if code != exitFailure || run.Counts["ok"] != 3 || run.Counts["failed"] != 1 {
		t.Fatalf("first attempt: exit code %d, %+v; want job 2 alone to fail", code, run)
	}
	if j := run.Jobs[2]; j.State != "failed" || j.Result == nil || j.Result.Task != "check" || !strings.Contains(j.Result.Evidence, "exit code 7") {
		t.Errorf("job 2 = %+v, want its task and why", j)
	}
	if b, err := os.ReadFile(filepath.Join(work, "job-2", "batch-1", "output")); err != nil || !strings.Contains(string(b), "making 2 of 10\n") || !strings.Contains(string(b), "no gate\n") || !strings.Contains(string(b), "\ncheck\tpayload\t") {
		t.Errorf("what the batch job printed: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "whole.3")); err != nil || string(b) != "3\n" {
		t.Errorf("output of job 3: %q, %v", b, err)
	}
	code, out, _ := runFloe(t, "run", "status", work)
	if code != exitFailure || !strings.Contains(out, "3 ok, 1 failed") || !strings.Contains(out, "task check: payload: ") {
		t.Errorf("floe run status = %d\n%s", code, out)
	}

	if err := os.WriteFile(filepath.Join(dir, "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := runFloe(t, "run", "resubmit", work); code != exitOK {
		t.Fatalf("floe run resubmit = %d\n%s%s", code, out, errs)
	}
	if run, code = awaitRun(t, work); code != exitOK || run.Counts["ok"] != 4 || run.Jobs[2].Attempt != 2 || run.Jobs[3].Attempt != 1 {
		t.Fatalf("second attempt: exit code %d, %+v; want job 2 alone submitted again", code, run)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "begun")); err != nil || strings.Count(string(b), "make.2\n") != 1 {
		t.Errorf("tasks begun: %q, %v; want what was done kept", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(work, "job-*", "blobs")); len(left) > 0 {
		t.Errorf("files between tasks of jobs that are done: %v", left)
	}
	if code, out, _ := runFloe(t, "run", "resubmit", work); code != exitOK || !strings.Contains(out, "nothing to submit: 4 ok") {
		t.Errorf("floe run resubmit of a run that is done = %d: %s", code, out)
	}
}

func TestRunInLocalBatch(t *testing.T) { runThroughBatch(t, "--batch", "local", "--at-most", "2") }

func TestRunInRealSlurm(t *testing.T) {
	batchtest.Start(t, "slurm")
	runThroughBatch(t, "--batch", "slurm", "--queue", "short")
}

func TestRunTakesJobsBack(t *testing.T) {
	dir := t.TempDir()
	slow := strings.ReplaceAll(gatedSteering, "cp part whole", "touch $options(out)/runs.$(job); sleep 300")
	if err := os.WriteFile(filepath.Join(dir, "mc.yaml"), []byte(slow), 0o600); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "mc.run")
	if code, out, errs := runFloe(t, "run", filepath.Join(dir, "mc.yaml"), "--batch", "local", "--at-most", "1", "--jobs", "1", "--dir", work, "--option", "out="+dir); code != exitOK {
		t.Fatalf("floe run = %d\n%s%s", code, out, errs)
	}
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		if _, err := os.Stat(filepath.Join(dir, "runs.0")); err == nil {
			break
		}
	}
	if code, out, errs := runFloe(t, "run", "remove", work); code != exitOK || !strings.Contains(out, "1 jobs are taken out; 1 removed") {
		t.Fatalf("floe run remove = %d\n%s%s", code, out, errs)
	}
	if run, code := awaitRun(t, work); code != exitOK || run.Jobs[0].State != "removed" {
		t.Errorf("after the removal: %d, %+v", code, run)
	}
}

func TestRunBatchRefusesMistakes(t *testing.T) {
	const published = "version: 3\ntasks:\n  - name: t\n    trays: [{projects: [{name: icetray, version: v1}], modules: [{src: /bin/true}]}]\n"
	for _, test := range []struct {
		steering string
		args     []string
		code     int
		err      string
	}{
		{gatedSteering, []string{"--batch", "slrum"}, exitUsage, `queue.type "slrum": want one of`},
		{gatedSteering, []string{"--queue", "long"}, exitUsage, "--queue: it is for --batch TYPE"},
		{gatedSteering, []string{"--batch", "local", "--task", "make"}, exitUsage, "--task: it is for one job on this machine"},
		{gatedSteering, []string{"--batch", "local", "--jobs", "0-"}, exitUsage, "want how many, such as 100, or which"},
		{gatedSteering, []string{"--batch", "local", "--jobs", "0-9/5"}, exitUsage, "the dataset has jobs 0 to 4"},
		{gatedSteering, []string{"--batch", "local", "--cores", "1"}, exitFailure, "task check asks for 2 cores, not 1: the batch job would be too small; change it in "},
		{gatedSteering, []string{"--batch", "local", "--walltime", "1m"}, exitFailure, "task make asks for 6m0s, not 1m0s"},
		{published, []string{"--batch", "local"}, exitFailure, "project icetray v1: published software is known to coordinators only; give its tarball as a resource"},
		{published, nil, exitFailure, "project icetray v1: published software is known to coordinators only"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "mc.yaml"), []byte(test.steering), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"run", filepath.Join(dir, "mc.yaml"), "--dir", filepath.Join(dir, "mc.run")}, test.args...)
		if code, _, errs := runFloe(t, args...); code != test.code || !strings.Contains(errs, test.err) {
			t.Errorf("floe run %q = %d, want %d and %q:\n%s", test.args, code, test.code, test.err, errs)
		}
	}
}

// TestRunSharesTheMachine has two tasks that wait for each other's file: one after
// another, they never end.
func TestRunSharesTheMachine(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	wait := func(mine, other string) string {
		return "  - name: " + mine + "\n    trays: [{modules: [{src: /bin/sh, args: [\"-c\", \"touch " + filepath.Join(dir, mine) +
			"; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do [ -e " + filepath.Join(dir, other) + " ] && exit 0; sleep 1; done; exit 1\"]}]}]\n"
	}
	text := "version: 3\ntasks:\n" + wait("left", "right") + wait("right", "left")
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runFloe(t, "run", filepath.Join(dir, "job.yaml"), "--cores", "2")
	if code != exitOK || !strings.Contains(out, "left\tok\t") || !strings.Contains(out, "right\tok\t") {
		t.Errorf("floe run --cores 2 = %d\n%s%s", code, out, errs)
	}
}
