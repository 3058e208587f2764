package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/glidein/batch/local"
	"floe/protocol"
)

// await polls until ok or the test's own deadline: the batch system is real.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: %v", what, t.Context().Err())
		}
	}
}

func submit(t *testing.T, s *local.System, launch protocol.LaunchID, script string) (batch.Job, batch.JobID) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a job's dir") // a name that needs quoting
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	job := batch.Job{Launch: launch, Directory: dir, Script: filepath.Join(dir, "pilot.sh")}
	if err := os.WriteFile(job.Script, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := s.WriteSubmitFile([]batch.Job{job})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := s.Submit(t.Context(), []batch.Job{job}, file)
	if err != nil {
		t.Fatal(err)
	}
	return job, ids[0]
}

func stateOf(t *testing.T, s *local.System, launch protocol.LaunchID) batch.State {
	t.Helper()
	entries, err := s.Status(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Launch == launch {
			return e.State
		}
	}
	return 0
}

func newSystem(t *testing.T) *local.System {
	t.Helper()
	s, err := local.New(t.TempDir(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSystem(t *testing.T) {
	batchtest.Run(t, func(t *testing.T) batchtest.Target {
		return batchtest.Target{System: newSystem(t), NeverID: "floe-never", SharedDirectory: true}
	})
}

func TestLifeOfAJob(t *testing.T) {
	s := newSystem(t)
	job, id := submit(t, s, "l1", "echo from the job\nexec cat\n") // cat ends at once: no input
	await(t, "the job's end", func() bool { return stateOf(t, s, "l1") == batch.Ended })
	out, err := os.ReadFile(filepath.Join(job.Directory, "output"))
	if err != nil || string(out) != "from the job\n" {
		t.Errorf("output = %q, %v", out, err)
	}
	if err := s.Clean(t.Context(), id, ""); err != nil {
		t.Errorf("clean: %v", err)
	}
	if got := stateOf(t, s, "l1"); got != 0 {
		t.Errorf("a cleaned job is still listed as %v", got)
	}
}

func TestRemoveEndsTheWholeGroup(t *testing.T) {
	s := newSystem(t)
	job, id := submit(t, s, "l2", "trap '' TERM\nsh -c 'echo $$ >child; exec sleep 1000' &\nwait\n")
	await(t, "the child", func() bool { _, err := os.Stat(filepath.Join(job.Directory, "child")); return err == nil })
	if got := stateOf(t, s, "l2"); got != batch.Running {
		t.Fatalf("state = %v, want running", got)
	}
	if err := s.Clean(t.Context(), id, ""); !errors.Is(err, batch.ErrRefused) {
		t.Errorf("clean of a running job: %v, want ErrRefused", err)
	}
	if err := s.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := stateOf(t, s, "l2"); got != batch.Ended {
		t.Errorf("state after remove = %v, want ended", got)
	}
	if err := s.Remove(t.Context(), id); err != nil {
		t.Errorf("second remove: %v", err)
	}
	pid, err := os.ReadFile(filepath.Join(job.Directory, "child"))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the job's child", func() bool {
		b, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat"))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

func TestUnknownJob(t *testing.T) {
	s := newSystem(t)
	if err := s.Remove(t.Context(), "floe-nope"); !errors.Is(err, batch.ErrUnknownJob) {
		t.Errorf("remove of an unknown job: %v", err)
	}
	for _, id := range []batch.JobID{"other", "../floe-x", "floe-/../x"} {
		if err := s.Clean(t.Context(), id, ""); !errors.Is(err, batch.ErrUnknownJob) {
			t.Errorf("clean of %q: %v, want ErrUnknownJob", id, err)
		}
	}
}

func TestSubmitTwiceIsOneJob(t *testing.T) {
	s := newSystem(t)
	job, id := submit(t, s, "l3", "exit 0\n")
	again, err := s.Submit(t.Context(), []batch.Job{job}, filepath.Join(job.Directory, "submit.sh"))
	if err != nil || again[0] != id {
		t.Errorf("second submit = %q, %v; want %q", again, err, id)
	}
}

func TestRefusedWhenItsShellCannotRecord(t *testing.T) {
	s := newSystem(t)
	dir := t.TempDir()
	job := batch.Job{Launch: "l4", Directory: dir, Script: filepath.Join(dir, "pilot.sh")}
	bad := filepath.Join(dir, "submit.sh")
	if err := os.WriteFile(bad, []byte("exit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submit(context.Background(), []batch.Job{job}, bad); !errors.Is(err, batch.ErrRefused) {
		t.Errorf("submit = %v, want ErrRefused", err)
	}
}
