package unmonitored_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/glidein/batch"
	"floe/glidein/unmonitored"
	"floe/protocol"
)

// system is a batch system in memory.
type system struct {
	properties batch.Properties
	jobs       map[batch.JobID]batch.Entry
	dirs       map[batch.JobID]string
	arrays     []int
	next       int
	lose       bool  // the answers to submissions
	refuse     error // from Submit
	down       bool
}

func newSystem(p batch.Properties) *system {
	return &system{properties: p, jobs: map[batch.JobID]batch.Entry{}, dirs: map[batch.JobID]string{}}
}

func (s *system) Properties() batch.Properties { return s.properties }

func (s *system) WriteSubmitFile(jobs []batch.Job) (string, error) {
	return filepath.Join(jobs[0].Directory, "submit"), nil
}

func (s *system) Submit(_ context.Context, jobs []batch.Job, _ string) ([]batch.JobID, error) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	s.arrays = append(s.arrays, len(jobs))
	s.next++
	ids := make([]batch.JobID, len(jobs))
	for i := range jobs {
		ids[i] = batch.JobID(fmt.Sprintf("%d_%d", s.next, i))
		s.jobs[ids[i]] = batch.Entry{ID: ids[i], Launch: jobs[0].Launch, Index: i, State: batch.Queued}
		s.dirs[ids[i]] = jobs[i].Directory
	}
	if s.lose {
		return nil, fmt.Errorf("sbatch: %w: no answer", batch.ErrTransient)
	}
	return ids, nil
}

func (s *system) Status(context.Context, []batch.Known) ([]batch.Entry, error) {
	if s.down {
		return nil, batch.ErrTransient
	}
	var all []batch.Entry
	for _, e := range s.jobs {
		all = append(all, e)
	}
	return all, nil
}

func (s *system) Remove(_ context.Context, id batch.JobID) error {
	delete(s.jobs, id)
	return nil
}

func (s *system) Clean(_ context.Context, id batch.JobID, _ string) error {
	delete(s.jobs, id)
	return nil
}

// end ends a batch job, with a result or without a word.
func (s *system) end(t *testing.T, id batch.JobID, launch protocol.LaunchID, r *unmonitored.Result) {
	t.Helper()
	delete(s.jobs, id)
	if r == nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(s.dirs[id], batch.Output), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("some words without an end"); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(f, launch); err != nil {
		t.Fatal(err)
	}
}

var arrays = batch.Properties{Name: "memory", MaxArray: 3, Lists: true}

// prepare asks for one core more in every fifth job.
func prepare(j *unmonitored.Job, _ string) (batch.Job, error) {
	cores := 1
	if j.Job%5 == 4 {
		cores = 2
	}
	return batch.Job{Cores: cores}, nil
}

func create(t *testing.T, jobs int) (*unmonitored.Run, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := unmonitored.Create(dir, []protocol.JobRange{{First: 0, Last: protocol.JobIndex(jobs - 1)}})
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// again is another process that opens the run after this one has ended.
func again(t *testing.T, r *unmonitored.Run, dir string) *unmonitored.Run {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := unmonitored.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func refresh(t *testing.T, r *unmonitored.Run, s *system) {
	t.Helper()
	if err := r.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func states(r *unmonitored.Run) (all []string) {
	for _, j := range r.Jobs {
		all = append(all, j.State.String())
	}
	return all
}

func want(t *testing.T, r *unmonitored.Run, what string, jobs ...string) {
	t.Helper()
	if got := states(r); !slices.Equal(got, jobs) {
		t.Errorf("%s: jobs are %v, want %v", what, got, jobs)
	}
}

func TestArraysAreOfJobsThatAskForTheSame(t *testing.T) {
	r, _ := create(t, 8)
	s := newSystem(arrays)
	if err := r.Submit(t.Context(), s, r.Jobs, prepare); err != nil {
		t.Fatal(err)
	}
	if want := []int{3, 1, 1, 3}; !slices.Equal(s.arrays, want) {
		t.Errorf("submissions of %v jobs, want %v", s.arrays, want)
	}
	for _, j := range r.Jobs {
		if j.BatchID == "" || !batch.OfRun(j.Launch) {
			t.Errorf("job %d: %+v, want its batch job and a launch that passes leave alone", j.Job, j)
		}
	}
}

func TestResultsAndNoResult(t *testing.T) {
	r, dir := create(t, 4)
	s := newSystem(arrays)
	if err := r.Submit(t.Context(), s, r.Jobs, prepare); err != nil {
		t.Fatal(err)
	}
	j := r.Jobs
	s.end(t, j[0].BatchID, j[0].Launch, &unmonitored.Result{OK: true})
	s.end(t, j[1].BatchID, j[1].Launch, &unmonitored.Result{Evidence: "exit code 7"})
	s.end(t, j[2].BatchID, j[2].Launch, nil)
	r = again(t, r, dir)
	refresh(t, r, s)
	want(t, r, "after three have ended", "ok", "failed", "lost", "queued")

	s.down = true
	if err := r.Refresh(t.Context(), s); !errors.Is(err, batch.ErrTransient) {
		t.Errorf("refresh of a system that is down: %v", err)
	}
	want(t, r, "while the system is down", "ok", "failed", "lost", "queued")
	s.down = false

	// The second attempt is told from the first.
	first := r.Jobs[1].Launch
	if err := r.Submit(t.Context(), s, r.Pick([]protocol.JobRange{{First: 1, Last: 1}}, unmonitored.State.Again), prepare); err != nil {
		t.Fatal(err)
	}
	s.end(t, r.Jobs[1].BatchID, first, &unmonitored.Result{OK: true})
	refresh(t, r, s)
	want(t, r, "after an attempt that left another's result", "ok", "lost", "lost", "queued")
	// What a file system showed late is seen later.
	s.dirs["late"] = filepath.Dir(r.OutputPath(r.Jobs[1]))
	s.end(t, "late", r.Jobs[1].Launch, &unmonitored.Result{OK: true})
	refresh(t, r, s)
	want(t, r, "after its own came late", "ok", "ok", "lost", "queued")
}

func TestLostAnswersAreFoundByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, dir := create(t, 3)
		s := newSystem(arrays)
		s.lose = true
		if err := r.Submit(t.Context(), s, r.Jobs, prepare); !errors.Is(err, batch.ErrTransient) {
			t.Fatalf("submit = %v", err)
		}
		r = again(t, r, dir)
		refresh(t, r, s)
		want(t, r, "as the system lists them", "queued", "queued", "queued")
		if r.Jobs[2].BatchID != "1_2" {
			t.Errorf("the third is %+v, want batch job 1_2", r.Jobs[2])
		}
	})
}

func TestWhatNeverCameIsNotSubmittedTwiceAtOnce(t *testing.T) {
	for _, lists := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r, dir := create(t, 1)
			s := newSystem(batch.Properties{Lists: lists})
			s.lose = true
			_ = r.Submit(t.Context(), s, r.Jobs, prepare)
			clear(s.jobs)
			r = again(t, r, dir)
			refresh(t, r, s)
			want(t, r, "at once", "submitted")
			if some := r.Pick([]protocol.JobRange{{}}, unmonitored.State.Again); len(some) != 0 {
				t.Error("it could be submitted again while it may still come")
			}
			<-time.After(4 * time.Minute)
			refresh(t, r, s)
			if lists {
				want(t, r, "later", "waiting")
			} else {
				want(t, r, "later, where nothing is listed", "lost")
			}
		})
	}
}

func TestRefusedJobsWait(t *testing.T) {
	for _, p := range []batch.Properties{arrays, {Lists: true}} {
		r, dir := create(t, 5)
		s := newSystem(p)
		s.refuse = fmt.Errorf("sbatch: %w: invalid partition", batch.ErrRefused)
		if err := r.Submit(t.Context(), s, r.Jobs, prepare); !errors.Is(err, batch.ErrRefused) {
			t.Fatalf("submit = %v", err)
		}
		want(t, r, "after the refusal", "waiting", "waiting", "waiting", "waiting", "waiting")
		if !strings.Contains(r.Jobs[0].Reason, "invalid partition") {
			t.Errorf("job 0 waits because of %q", r.Jobs[0].Reason)
		}
		s.refuse = nil
		r = again(t, r, dir)
		if err := r.Submit(t.Context(), s, r.Pick([]protocol.JobRange{{Last: 9}}, unmonitored.State.Again), prepare); err != nil {
			t.Fatal(err)
		}
		refresh(t, r, s)
		want(t, r, "once it takes them", "queued", "queued", "queued", "queued", "queued")
	}
}

func TestRemovedJobs(t *testing.T) {
	r, dir := create(t, 2)
	s := newSystem(arrays)
	if err := r.Submit(t.Context(), s, r.Jobs, prepare); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(t.Context(), s, r.Jobs[:1]); err != nil {
		t.Fatal(err)
	}
	r = again(t, r, dir)
	refresh(t, r, s)
	want(t, r, "after the removal", "removed", "queued")
}

func TestOneProcessHasARun(t *testing.T) {
	r, dir := create(t, 1)
	if _, err := unmonitored.Open(dir); !errors.Is(err, unmonitored.ErrBusy) {
		t.Errorf("second process = %v, want ErrBusy", err)
	}
	again(t, r, dir)
	if _, err := unmonitored.Create(dir, nil); err == nil {
		t.Error("a run was made over another")
	}
}
