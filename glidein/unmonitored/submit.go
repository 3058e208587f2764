package unmonitored

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// Prepare writes what a batch job needs into its directory, which is there, and says
// what it asks for. Launch and Directory are set by the run.
type Prepare func(j *Job, dir string) (batch.Job, error)

// perSave is how many jobs are handed in one by one before the ledger is written
// again, where the batch system finds by name what it lacks.
const perSave = 100

// Submit hands jobs in, each as an attempt of its own. What an error keeps from being
// submitted waits.
func (r *Run) Submit(ctx context.Context, system batch.System, jobs []*Job, prepare Prepare) error {
	p := system.Properties()
	limit := max(1, p.MaxArray)
	if limit == 1 && p.Lists {
		limit = perSave
	}
	for len(jobs) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		some, asked, err := r.prepare(jobs, limit, prepare)
		if err == nil {
			err = r.save()
		}
		if err != nil {
			return err
		}
		jobs = jobs[len(some):]
		for len(some) > 0 && err == nil {
			n := len(some)
			if p.MaxArray < 2 {
				n = 1
			}
			err = r.handIn(ctx, system, some[:n], asked[:n])
			some, asked = some[n:], asked[n:]
		}
		for _, j := range some {
			j.State = Waiting // behind one that was not taken
		}
		if err := errors.Join(err, r.save()); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the next attempts of the first jobs, at most limit, that ask for the
// same, and notes them in the ledger as submitted.
func (r *Run) prepare(jobs []*Job, limit int, prepare Prepare) (some []*Job, asked []batch.Job, err error) {
	for _, j := range jobs[:min(limit, len(jobs))] {
		next := *j
		next.Attempt++
		next.Launch = protocol.LaunchID(batch.RunPrefix + protocol.RandomText(8))
		dir := r.batchDir(&next)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, err
		}
		b, err := prepare(&next, dir)
		if err != nil {
			return nil, nil, fmt.Errorf("job %d: %w", j.Job, err)
		}
		b.Launch, b.Directory = next.Launch, dir
		if len(asked) > 0 && !sameNeeds(&asked[0], &b) {
			break
		}
		some, asked = append(some, j), append(asked, b)
	}
	for i, j := range some {
		*j = Job{Job: j.Job, State: Submitted, Attempt: j.Attempt + 1, Launch: asked[i].Launch, Submitted: time.Now()}
	}
	return some, asked, nil
}

// sameNeeds tells whether two jobs can be in one array.
func sameNeeds(a, b *batch.Job) bool {
	return a.Cores == b.Cores && a.Memory == b.Memory && a.Disk == b.Disk && a.GPUs == b.GPUs && a.Walltime == b.Walltime
}

// handIn hands in one job or one array, which the ledger has.
func (r *Run) handIn(ctx context.Context, system batch.System, some []*Job, asked []batch.Job) error {
	if len(some) > 1 {
		for i, j := range some {
			j.Leader, j.Index = some[0].Launch, i
		}
		// On disk before it is submitted: an array's jobs are found by its leader.
		if err := r.save(); err != nil {
			return err
		}
	}
	file, err := system.WriteSubmitFile(asked)
	var ids []batch.JobID
	if err == nil {
		ids, err = system.Submit(ctx, asked, file)
	} else {
		err = fmt.Errorf("%w: %w", batch.ErrRefused, err)
	}
	switch {
	case err == nil && len(ids) != len(some):
		err = fmt.Errorf("%w: %d jobs handed in, %d ids came back", batch.ErrTransient, len(some), len(ids))
	case err == nil:
		for i, j := range some {
			j.BatchID = ids[i]
		}
		return nil
	case errors.Is(err, batch.ErrRefused):
		for _, j := range some {
			j.State, j.Reason = Waiting, err.Error()
		}
	}
	return fmt.Errorf("submit job %d: %w", some[0].Job, err)
}
