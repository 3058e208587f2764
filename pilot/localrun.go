package pilot

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// RunJob runs the tasks of one job, parents first, and begins no more once one is not
// ok. It returns the tasks that were begun, in that order. An error means that there
// is no verdict to look at: the job cannot be run here at all, or ctx ended.
func RunJob(ctx context.Context, job LocalJob) ([]*LocalTask, error) {
	r := &localRun{LocalJob: job, made: map[protocol.TaskIndex][]protocol.FileRecord{}}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	w := walk{localRun: r, done: make([]bool, len(r.plan.Tasks)), results: make(chan walked)}
	for _, index := range r.order {
		chosen := len(job.Tasks) == 0 || slices.Contains(job.Tasks, index)
		if chosen && !job.Resume {
			w.waiting = append(w.waiting, index)
			continue
		}
		was, err := r.remember(index)
		if err != nil {
			return nil, err
		}
		if w.done[index] = was || !chosen; !w.done[index] {
			w.waiting = append(w.waiting, index)
		}
	}
	err := w.run(ctx)
	return w.ran, err
}

// walk is the way through the DAG of a job. It is owned by the goroutine of RunJob.
type walk struct {
	*localRun
	waiting []protocol.TaskIndex // in the order of the DAG
	done    []bool
	ran     []*LocalTask
	running int
	results chan walked
}

// walked is a task that has ended.
type walked struct {
	task  *LocalTask
	lease protocol.LeaseID
	err   error
}

func (w *walk) run(ctx context.Context) error {
	var all []error
	for stopped := false; ; {
		for !stopped && ctx.Err() == nil && w.begin(ctx) {
		}
		if w.running == 0 {
			if len(all) == 0 && len(w.waiting) > 0 && !stopped {
				all = append(all, context.Cause(ctx)) // it ended between two tasks
			}
			return errors.Join(all...)
		}
		end := <-w.results
		w.running--
		w.packing.release(end.lease)
		ok := end.err == nil && end.task.Report.Verdict == protocol.VerdictOK
		if ok {
			w.done[end.task.Index], w.made[end.task.Index] = true, end.task.Report.Outputs
		}
		switch {
		case end.task.Report == nil: // it did not come as far as that
			w.ran = slices.DeleteFunc(w.ran, func(t *LocalTask) bool { return t == end.task })
		case w.Ended != nil:
			w.Ended(end.task)
		}
		if end.err != nil && (ctx.Err() == nil || len(all) == 0) {
			all = append(all, end.err)
		}
		stopped = stopped || !ok
	}
}

// begin starts the first task that waits for no other and has room, if there is one.
func (w *walk) begin(ctx context.Context) bool {
	for at, index := range w.waiting {
		if slices.ContainsFunc(w.plan.Tasks[index].Parents, func(p protocol.TaskIndex) bool { return !w.done[p] }) {
			continue
		}
		lease := w.lease(index)
		if w.running > 0 && (w.Cores == 0 || !w.packing.hasRoom(lease)) {
			continue
		}
		share := w.packing.take(lease)
		t := &LocalTask{Index: index, Name: lease.TaskName, Dir: w.dir(index), Granted: lease.Granted}
		if len(share.gpus) < t.Granted.GPUs {
			w.Logger.Warn("this machine has too few cards; the task runs with those there are", "task", t.Name, "gpus", len(share.gpus))
		}
		w.waiting = slices.Delete(w.waiting, at, at+1)
		w.ran = append(w.ran, t)
		w.running++
		if w.Began != nil {
			w.Began(t)
		}
		go func() { w.results <- walked{t, lease.ID, w.task(ctx, t, lease, share)} }()
		return true
	}
	return false
}

// keepFile keeps a file under another name, by a link where the two are on one disk.
func keepFile(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// oneAtATime lets several tasks write to one log.
type oneAtATime struct {
	mu  sync.Mutex
	out io.Writer
}

// Write implements io.Writer.
func (o *oneAtATime) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(p)
}

// followEvery is how often a log that is shown live is looked at.
const followEvery = 100 * time.Millisecond

// follower copies an attempt's log to people while it grows.
type follower struct {
	out  io.Writer
	stop chan struct{}
	done chan struct{}
}

// follow begins with a log and ends with nil, as Attempt.Log is called.
func (f *follower) follow(log *payload.Log) {
	if f.out == nil {
		return
	}
	if log == nil {
		close(f.stop)
		<-f.done
		return
	}
	f.stop, f.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(f.done)
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		told := int64(0)
		for last := false; ; {
			data, at, err := log.ReadFrom(told, protocol.MaxLogTail)
			if err != nil {
				return
			}
			if len(data) > 0 {
				_, _ = f.out.Write(data) // a closed terminal is no reason to end the job
				told = at + int64(len(data))
				continue
			}
			if last {
				return
			}
			select {
			case <-tick.C:
			case <-f.stop:
				last = true
			}
		}
	}()
}
