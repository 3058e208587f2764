package unmonitored

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"floe/glidein/batch"
	"floe/protocol"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// ErrBusy is returned when another process has the run.
var ErrBusy = errors.New("another floe run is at work in this directory")

// ledgerFile is the last file that is made of a run: with it, there is one.
const ledgerFile = "ledger.json"

// Run is a run that this process has the lock of.
type Run struct {
	dir  string
	lock *flock.Flock
	// Jobs are all jobs of the run, by number.
	Jobs []*Job
}

// Create makes the ledger of a run in a directory that has none, all jobs waiting.
func Create(dir string, jobs []protocol.JobRange) (*Run, error) {
	r, err := lock(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, ledgerFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s: there is a run already", dir), err, r.Close())
	}
	for _, some := range jobs {
		for j := uint64(some.First); j <= uint64(some.Last); j++ {
			r.Jobs = append(r.Jobs, &Job{Job: protocol.JobIndex(j), State: Waiting})
		}
	}
	if err := r.save(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Open opens a run; Close gives it back.
func Open(dir string) (*Run, error) {
	// A lock is a file, which is not to be left where there is no run.
	if _, err := os.Stat(filepath.Join(dir, ledgerFile)); err != nil {
		return nil, fmt.Errorf("%s: no run is here: %w", dir, err)
	}
	r, err := lock(dir)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, ledgerFile))
	if err == nil {
		err = json.Unmarshal(b, &r.Jobs)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger %s: %w", filepath.Join(dir, ledgerFile), err), r.Close())
	}
	return r, nil
}

func lock(dir string) (*Run, error) {
	r := &Run{dir: dir, lock: flock.New(filepath.Join(dir, "lock"))}
	held, err := r.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock of %s: %w", dir, err)
	}
	if !held {
		return nil, fmt.Errorf("%s: %w", dir, ErrBusy)
	}
	return r, nil
}

// Close gives the run back.
func (r *Run) Close() error { return r.lock.Unlock() }

func (r *Run) save() error {
	b, err := json.MarshalIndent(r.Jobs, "", " ")
	if err == nil {
		err = renameio.WriteFile(filepath.Join(r.dir, ledgerFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// Counts says how many jobs are in each state.
func (r *Run) Counts() map[State]int {
	n := map[State]int{}
	for _, j := range r.Jobs {
		n[j.State]++
	}
	return n
}

// Pick are the jobs within ranges that a state is asked of.
func (r *Run) Pick(ranges []protocol.JobRange, in func(State) bool) []*Job {
	var some []*Job
	for _, j := range r.Jobs {
		if in(j.State) && slices.ContainsFunc(ranges, func(x protocol.JobRange) bool { return x.First <= j.Job && j.Job <= x.Last }) {
			some = append(some, j)
		}
	}
	return some
}

// unanswered is how long a submission without an answer may still come to be. Source:
// the two minutes that a batch system's tool may take, and one.
const unanswered = 3 * time.Minute

// Refresh makes the ledger agree with the batch system and the outputs. An error of
// the batch system changes nothing.
func (r *Run) Refresh(ctx context.Context, system batch.System) error {
	var known []batch.Known
	for _, j := range r.Jobs {
		if j.State.UnderWay() {
			at := j.place()
			known = append(known, batch.Known{ID: j.BatchID, Launch: at.launch, Index: at.index})
		}
	}
	listed := map[place]*batch.Entry{}
	if len(known) > 0 {
		entries, err := system.Status(ctx, known)
		if err != nil {
			return err
		}
		for i := range entries {
			listed[place{entries[i].Launch, entries[i].Index}] = &entries[i]
		}
	}
	var all []error
	for _, j := range r.Jobs {
		if j.State.UnderWay() || j.State == Lost {
			all = append(all, r.refresh(ctx, system, j, listed[j.place()]))
		}
	}
	return errors.Join(append(all, r.save())...)
}

func (r *Run) refresh(ctx context.Context, system batch.System, j *Job, e *batch.Entry) error {
	if e != nil {
		j.BatchID, j.Reason = e.ID, e.Reason
		switch e.State {
		case batch.Queued:
			j.State = Queued
			return nil
		case batch.Held:
			j.State = Held
			return nil
		case batch.Running:
			j.State = Running
			return nil
		case batch.Ended:
			// What cannot be cleaned now is asked about again, and cleaned then.
			if err := system.Clean(ctx, e.ID, r.batchDir(j)); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
				return fmt.Errorf("job %d: %w", j.Job, err)
			}
		}
	}
	result, err := readResult(r.OutputPath(j), j.Launch)
	if err != nil {
		return fmt.Errorf("job %d: its output: %w", j.Job, err)
	}
	j.Result, j.Reason = result, ""
	switch {
	case result != nil && result.OK:
		j.State = OK
	case j.Removing:
		j.State = Removed
	case result != nil:
		j.State = Failed
	case j.BatchID == "" && time.Since(j.Submitted) < unanswered:
		j.State, j.Reason = Submitted, "its submission was not answered; it may still come"
		return nil
	case j.BatchID == "" && system.Properties().Lists:
		j.State, j.Reason = Waiting, "its submission was not answered, and the batch system does not have it"
	case j.BatchID == "":
		j.State, j.Reason = Lost, "its submission was not answered; this batch system does not show whether it runs all the same"
	default:
		j.State, j.Reason = Lost, "its batch job is gone and has left no result"
	}
	j.Removing = false
	return nil
}

// Remove takes jobs back that are under way. They are Removed when they have ended.
func (r *Run) Remove(ctx context.Context, system batch.System, jobs []*Job) error {
	var all []error
	for _, j := range jobs {
		switch {
		case !j.State.UnderWay():
		case j.BatchID == "":
			all = append(all, fmt.Errorf("job %d: %s", j.Job, j.Reason))
		default:
			if err := system.Remove(ctx, j.BatchID); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
				all = append(all, fmt.Errorf("job %d: %w", j.Job, err))
				continue
			}
			j.Removing = true
		}
	}
	return errors.Join(append(all, r.save())...)
}
