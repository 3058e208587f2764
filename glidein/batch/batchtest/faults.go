package batchtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// faults makes the tools of a fake fail in every way, at every verb. What was done
// must be found by the next pass, and nothing be believed that was not said.
func faults(t T, r *rig) {
	if r.Fake == nil {
		t.Skip("real tools are not broken on purpose")
	}
	if r.Fake.Slots > 0 {
		for range r.Fake.Slots { // what follows waits in the queue
			r.submit(r.job("exec sleep 600\n"))
		}
	}
	here := len(r.list(t.Context()))
	d := r.Dialect

	r.sub("Submit", func(t T) {
		for _, c := range []struct {
			fault Fault
			does  bool // the job is there afterwards
		}{
			{Hangs, false}, {Garbage, false}, {Empty, false}, {Down, false}, {Silent, true}, {Fails, true}, {Noise, true},
		} {
			j := r.job("exec sleep 600\n")
			file, err := r.System.WriteSubmitFile([]batch.Job{j})
			if err != nil {
				t.Fatal(err)
			}
			r.Fake.Break(t, d.Submit, c.fault)
			ctx, cancel := context.WithTimeout(t.Context(), r.patience(c.fault))
			ids, err := r.System.Submit(ctx, []batch.Job{j}, file)
			cancel()
			r.Fake.Break(t, "", "")
			switch {
			case err == nil && (!c.does || len(ids) != 1):
				t.Errorf("%s that %s: ids %q and no error", d.Submit, c.fault, ids)
			case err != nil && (c.fault == Noise || !errors.Is(err, batch.ErrTransient)):
				t.Errorf("%s that %s: %v, want ErrTransient: nobody knows what became of it", d.Submit, c.fault, err)
			}
			known := batch.Known{Launch: j.Launch}
			if len(ids) == 1 {
				known.ID = ids[0]
			}
			r.jobs = append(r.jobs, known)
			if c.does && r.System.Properties().Lists {
				here++
				if got := r.state(j.Launch, 0); got == batch.Ended {
					t.Errorf("%s that %s: the job it took is not found by its name", d.Submit, c.fault)
				}
			}
			if got := len(r.list(t.Context())); r.System.Properties().Lists && got != here {
				t.Errorf("%s that %s: %d jobs listed, want %d", d.Submit, c.fault, got, here)
			}
		}
	})
	r.sub("Status", func(t T) {
		for _, fault := range []Fault{Hangs, Garbage, Down, Cut} {
			r.Fake.Break(t, d.Status, fault)
			ctx, cancel := context.WithTimeout(t.Context(), r.patience(fault))
			entries, err := r.System.Status(ctx, r.jobs)
			cancel()
			if !errors.Is(err, batch.ErrTransient) || len(entries) != 0 {
				t.Errorf("%s that %s: %d jobs, %v; want ErrTransient: unknown is not zero", d.Status, fault, len(entries), err)
			}
		}
		for _, fault := range []Fault{Noise, Twice} {
			r.Fake.Break(t, d.Status, fault)
			seen := map[string]bool{}
			for _, e := range r.list(t.Context()) {
				at := fmt.Sprint(e.Launch, "/", e.Index)
				if seen[at] {
					t.Errorf("%s that says %s: %s is listed twice", d.Status, fault, at)
				}
				seen[at] = true
			}
			if r.System.Properties().Lists && len(seen) != here {
				t.Errorf("%s that says %s: %d jobs, want %d", d.Status, fault, len(seen), here)
			}
		}
		r.Fake.Break(t, "", "")
	})
	r.sub("Remove", func(t T) {
		for _, fault := range []Fault{Hangs, Down} {
			r.Fake.Break(t, d.Remove, fault)
			ctx, cancel := context.WithTimeout(t.Context(), r.patience(fault))
			err := r.System.Remove(ctx, r.jobs[0].ID)
			cancel()
			if !errors.Is(err, batch.ErrTransient) {
				t.Errorf("%s that %s: %v, want ErrTransient", d.Remove, fault, err)
			}
		}
		r.Fake.Break(t, "", "")
	})
	r.sub("NotInstalled", func(t T) {
		if len(d.Tools) == 0 {
			t.Skip("it is spoken to without tools")
		}
		t.Setenv("PATH", t.TempDir())
		entries, err := r.System.Status(t.Context(), r.jobs)
		if !errors.Is(err, batch.ErrTransient) || len(entries) != 0 || !strings.Contains(err.Error(), "PATH") {
			t.Errorf("status without its tool: %v, %v; want ErrTransient that speaks of PATH", entries, err)
		}
	})
}

// patience is how long a call may take: a hanging tool is given up soon.
func (r *rig) patience(f Fault) time.Duration {
	if f == Hangs {
		return 300 * time.Millisecond
	}
	return r.Wait
}

// manyJobs lists thousands of jobs, some of which are other people's.
func manyJobs(t T, r *rig) {
	if r.Fake == nil || !r.System.Properties().Lists {
		t.Skip("only a fake is filled with jobs")
	}
	const many = 5000
	if err := r.Fake.Locked(func() error {
		r.Fake.Slots = 0
		for i := range many {
			name := batch.JobName(protocol.LaunchID(fmt.Sprintf("%s%d", r.prefix, i)))
			if i%10 == 0 {
				name = fmt.Sprintf("analysis, %d|%s", i, r.prefix)
			}
			r.Fake.Submit(Job{Name: name, Dir: r.dir, Output: "/dev/null", Asked: map[string]string{}})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := r.list(t.Context())
	if want := many - many/10; len(got) != want {
		t.Fatalf("%d jobs listed, want our %d of %d", len(got), want, many)
	}
	for _, e := range got {
		if e.State != batch.Queued || e.ID == "" {
			t.Fatalf("listed: %+v, want it queued", e)
		}
	}
}
