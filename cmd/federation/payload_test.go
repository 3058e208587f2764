package federation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// runPayload is payload.Run in virtual time: every module takes a while that the
// task decides, leaves the files that its document names, and counts itself. What
// it stages around modules is real.
func (f *federation) runPayload(ctx context.Context, task payload.Task, limits payload.Limits, dir payload.Dir, o payload.Options) payload.Outcome {
	begun := time.Now()
	out := payload.Outcome{Verdict: protocol.VerdictOK}
	for i := range task.Trays {
		for j := range task.Trays[i].Modules {
			if err := f.runModule(ctx, &task, i, j, dir, o); err != nil {
				out.Verdict, out.Evidence = verdictOf(ctx, err), err.Error()
				break
			}
		}
	}
	if out.Verdict == protocol.VerdictOK {
		out.Statistics = []protocol.Statistic{{Name: "jobs", Value: 1}, {Name: "index", Value: float64(task.ID.Job)}}
	} else if out.ExitCode == 0 {
		out.ExitCode = 1
	}
	out.Usage = protocol.Usage{WallMillis: time.Since(begun).Milliseconds(), CPUMillis: time.Since(begun).Milliseconds(), Cores: max(1, o.Cores)}
	if o.Output != nil {
		o.Output.Printf("verdict %v", out.Verdict)
		if record, err := o.Output.Seal(); err == nil {
			out.Log = record
		}
	}
	return out
}

var errPayload = errors.New("the payload fails this time")

func verdictOf(ctx context.Context, err error) protocol.Verdict {
	var staged interface{ Verdict() protocol.Verdict }
	switch {
	case errors.As(err, &staged):
		return staged.Verdict()
	case ctx.Err() != nil:
		return protocol.VerdictPreempted
	}
	return protocol.VerdictPayload
}

func (f *federation) runModule(ctx context.Context, task *payload.Task, tray, module int, dir payload.Dir, o payload.Options) error {
	if o.Around != nil {
		if err := o.Around.Before(ctx, tray, module); err != nil {
			return err
		}
	}
	m := &task.Trays[tray].Modules[module]
	if o.Output != nil {
		o.Output.Printf("module %s of %v", m.Src, task.ID)
	}
	wait := time.NewTimer(f.duration(task))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), payload.ErrFenced) {
			f.mu.Lock()
			f.fenced = append(f.fenced, f.now())
			f.mu.Unlock()
		}
		return fmt.Errorf("ended: %w", context.Cause(ctx))
	}
	if f.fails(task) {
		return errPayload
	}
	// The document names the file after the task.
	content := fmt.Sprintf("%s of job %d\n", task.Name, task.ID.Job)
	if err := os.WriteFile(filepath.Join(dir.Work(), task.Name), []byte(content), 0o600); err != nil {
		return err
	}
	if o.Around != nil {
		return o.Around.After(ctx, tray, module)
	}
	return nil
}

// duration is 1 s to 3 min, and now and then 12 min: longer than a lease.
func (f *federation) duration(task *payload.Task) time.Duration {
	if f.long > 0 {
		return f.long
	}
	h := task.Seed ^ uint64(task.ID.Job)*0x9e3779b97f4a7c15 ^ uint64(task.ID.Task)*0xc2b2ae3d27d4eb4f ^ uint64(task.Attempt)*0x165667b19e3779f9
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 32
	if h%17 == 0 {
		return 12 * time.Minute
	}
	return time.Second + time.Duration(h%180)*time.Second
}

// fails tells whether the first attempt of a task fails: every 23rd does.
func (f *federation) fails(task *payload.Task) bool {
	return task.Attempt == 1 && (uint32(task.ID.Job)+uint32(task.ID.Task))%23 == 7
}
