package batchtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein/batch"
	"floe/protocol"
)

// Target is a system under test.
type Target struct {
	// System speaks to it. The fields of its own words follow.
	System   batch.System
	Queue    string
	BadQueue string // one that is refused at once; empty when none is
	// NeverID is an id of the right form that no job has.
	NeverID batch.JobID
	// Slots are how many jobs of one core run at once; 0 when there is no queue.
	Slots int
	// SharedDirectory: jobs see the directory of the pass, and their output appears
	// there while they run.
	SharedDirectory bool
	// Shared is where jobs and the test see the same files; empty is a temporary directory.
	Shared string
	// Fake and Dialect are set when it is one.
	Fake    *Fake
	Dialect Dialect
	// Abrupt is why a removed job is not sent SIGTERM; empty when it is.
	Abrupt string
	// Wait is how long a job of a moment may take, from submission to end.
	Wait time.Duration
}

// part is one promise of the contract.
type part struct {
	name, promise string
	do            func(T, *rig)
	fake          bool // tried on fakes only
}

// parts are the contract, in the order of the life of a site.
var parts = []part{
	{"LifeOfAJob", "a job runs in its directory with its files, and what it prints is there when it has ended", lifeOfAJob, false},
	{"NamesThatNeedQuoting", "a directory may have any name", namesThatNeedQuoting, false},
	{"RunningJobIsRemoved", "a job that runs is listed so, gets SIGTERM when it is removed, and is gone", runningJobIsRemoved, false},
	{"QueuedJobIsRemoved", "a job that waits is listed so, and never runs once it is removed", queuedJobIsRemoved, false},
	{"Array", "jobs of an array run their own scripts, and are listed and removed one by one", array, false},
	{"UnknownJob", "what is no job's id is unknown, and never a word of a command", unknownJob, false},
	{"Refused", "a queue that does not exist is refused, and nothing is left behind", refused, false},
	{"NothingThere", "an empty system lists no jobs", nothingThere, false},
	{"Queues", "a system that can list its queues says what a job may have in them", queuesAreListed, false},
	{"Faults", "nothing is believed that broken tools did not say, and what they did is found", faults, true},
	{"ManyJobs", "thousands of jobs are listed, and nobody else's", manyJobs, true},
}

// Run is the contract of a batch system, one part of t for each promise. setup
// makes a new target for each; a real one may be the same each time: only jobs of
// this run are looked at.
func Run[S Parent[S]](t S, setup func(t S) Target) {
	for _, p := range parts {
		t.Run(p.name, func(t S) { p.do(t, newRig(t, setup(t))) })
	}
}

// rig is one target with a directory that its jobs may write to.
type rig struct {
	Target
	t      T
	sub    func(name string, part func(t T)) // a part of t
	dir    string                            // of the pass
	shared string                            // anybody may write there
	next   int
	prefix string // of this part's launch leases
	jobs   []batch.Known
}

func newRig[S Parent[S]](t S, target Target) *rig {
	// Where jobs run as somebody else, nothing below the test's own directory is for them.
	shared, err := os.MkdirTemp(target.Shared, "floe-batchtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shared) })
	r := &rig{Target: target, t: t, dir: t.TempDir(), shared: shared}
	r.sub = func(name string, part func(T)) { t.Run(name, func(t S) { part(t) }) }
	r.prefix = strings.ToLower(protocol.RandomText(8))
	if r.Wait == 0 {
		r.Wait = time.Minute
	}
	if err := os.Chmod(r.shared, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.Fake != nil {
			return // it ends its jobs itself
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, e := range r.list(ctx) {
			if err := r.System.Remove(ctx, e.ID); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
				t.Logf("remove %s: %v", e.ID, err)
			}
		}
	})
	return r
}

// job prepares a pilot job as the pass does.
func (r *rig) job(script string) batch.Job {
	r.t.Helper()
	r.next++
	launch := protocol.LaunchID(fmt.Sprintf("%s%d", r.prefix, r.next))
	j := batch.Job{
		Launch: launch, Directory: filepath.Join(r.dir, batch.JobName(launch)), Cores: 1, Queue: r.Queue,
		Memory: 64 * protocol.MB, Walltime: 10 * time.Minute,
	}
	r.place(&j, script)
	return j
}

func (r *rig) place(j *batch.Job, script string) {
	r.t.Helper()
	if err := os.MkdirAll(j.Directory, 0o700); err != nil {
		r.t.Fatal(err)
	}
	j.Script = filepath.Join(j.Directory, "pilot.sh")
	if err := os.WriteFile(j.Script, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		r.t.Fatal(err)
	}
	ticket := filepath.Join(j.Directory, "ticket")
	if err := os.WriteFile(ticket, []byte("ticket of "+string(j.Launch)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	j.Files = []string{"ticket"}
}

// in is a file that jobs write and the test reads, as a word of sh.
func (r *rig) in(name string) string { return batch.Quote(filepath.Join(r.shared, name)) }

func (r *rig) read(name string) string {
	b, err := os.ReadFile(filepath.Join(r.shared, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (r *rig) trySubmit(jobs ...batch.Job) ([]batch.JobID, error) {
	r.t.Helper()
	file, err := r.System.WriteSubmitFile(jobs)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range jobs {
		r.jobs = append(r.jobs, batch.Known{Launch: jobs[0].Launch, Index: i})
	}
	return r.System.Submit(r.t.Context(), jobs, file)
}

func (r *rig) submit(jobs ...batch.Job) []batch.JobID {
	r.t.Helper()
	ids, err := r.trySubmit(jobs...)
	if err != nil {
		r.t.Fatalf("submit: %v", err)
	}
	if len(ids) != len(jobs) || slices.Contains(ids, "") || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(jobs) {
		r.t.Fatalf("submit of %d jobs gave the ids %q, want as many that differ", len(jobs), ids)
	}
	for i, id := range ids {
		r.jobs[len(r.jobs)-len(ids)+i].ID = id
	}
	return ids
}

// list are the jobs of this part that have not ended.
func (r *rig) list(ctx context.Context) []batch.Entry {
	r.t.Helper()
	all, err := r.System.Status(ctx, r.jobs)
	if err != nil {
		r.t.Fatalf("status: %v", err)
	}
	var mine []batch.Entry
	for _, e := range all {
		if strings.HasPrefix(string(e.Launch), r.prefix) && e.State != batch.Ended {
			mine = append(mine, e)
		}
	}
	return mine
}

func (r *rig) state(launch protocol.LaunchID, index int) batch.State {
	r.t.Helper()
	for _, e := range r.list(r.t.Context()) {
		if e.Launch == launch && e.Index == index {
			return e.State
		}
	}
	return batch.Ended
}

// await polls: the system is real, or at least its processes are. A fake starts
// jobs only when it is asked something.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), r.Wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
			if r.Fake != nil {
				r.list(ctx)
			}
		case <-ctx.Done():
			r.t.Fatalf("%s: not within %v; listed are %+v", what, r.Wait, r.list(r.t.Context()))
		}
	}
}

func lifeOfAJob(t T, r *rig) {
	j := r.job("cat ticket >" + r.in("ticket") + "\necho from the job\necho complaint >&2\nexit 3\n")
	id := r.submit(j)[0]
	if e := r.list(t.Context()); len(e) > 1 || len(e) == 1 && (e[0].ID != id || e[0].Launch != j.Launch) {
		t.Errorf("listed: %+v, want %s of launch %s", e, id, j.Launch)
	}
	r.await("the job's end", func() bool { return r.state(j.Launch, 0) == batch.Ended })
	if got := r.read("ticket"); got != "ticket of "+string(j.Launch) {
		t.Errorf("the job read the ticket %q", got)
	}
	if err := r.System.Clean(t.Context(), id, j.Directory); err != nil {
		t.Errorf("clean: %v", err)
	}
	out, err := os.ReadFile(filepath.Join(j.Directory, batch.Output))
	if err != nil || !strings.Contains(string(out), "from the job") || !strings.Contains(string(out), "complaint") {
		t.Errorf("output = %q, %v; want what the job printed", out, err)
	}
	if err := r.System.Remove(t.Context(), id); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
		t.Errorf("remove of a job that has ended: %v", err)
	}
}

func namesThatNeedQuoting(t T, r *rig) {
	j := r.job("")
	j.Directory = filepath.Join(r.dir, `it's a "dir" $HOME #1`)
	r.place(&j, "pwd >"+r.in("where")+"; cat ./ticket >"+r.in("ticket")+"\n")
	r.submit(j)
	r.await("the job's end", func() bool { return r.state(j.Launch, 0) == batch.Ended })
	if got := r.read("ticket"); got != "ticket of "+string(j.Launch) {
		t.Errorf("the job read the ticket %q", got)
	}
	if got := r.read("where"); r.SharedDirectory && got != j.Directory {
		t.Errorf("the job ran in %q, want %q", got, j.Directory)
	}
}

// sleeper is a script that says that it runs, and that it was asked to end. It ends
// by itself when it is forgotten.
func (r *rig) sleeper(name string) string {
	return "trap 'echo yes >" + filepath.Join(r.shared, name+"-asked") + "; exit 0' TERM\n" +
		"echo yes >" + r.in(name+"-runs") + "\nfor i in $(seq 300); do sleep 1; done\n"
}

func runningJobIsRemoved(t T, r *rig) {
	j := r.job(r.sleeper("it"))
	id := r.submit(j)[0]
	r.await("the job", func() bool { return r.read("it-runs") != "" })
	r.await("the job in the list, running", func() bool { return r.state(j.Launch, 0) == batch.Running })
	if err := r.System.Remove(t.Context(), id); err != nil {
		t.Fatalf("remove: %v", err)
	}
	r.await("the end of the removed job", func() bool { return r.state(j.Launch, 0) == batch.Ended })
	if r.Abrupt != "" {
		t.Log("not looked at whether it got SIGTERM:", r.Abrupt)
	} else if got := r.read("it-asked"); got != "yes" {
		t.Error("the job was not sent SIGTERM before it was ended")
	}
	if err := r.System.Remove(t.Context(), id); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
		t.Errorf("second remove: %v", err)
	}
}

func queuedJobIsRemoved(t T, r *rig) {
	if r.Slots == 0 {
		t.Skip("nothing waits in this system")
	}
	for i := range r.Slots {
		r.submit(r.job(r.sleeper(fmt.Sprint(i))))
	}
	r.await("all slots in use", func() bool { return r.read(fmt.Sprint(r.Slots-1)+"-runs") != "" })
	j := r.job(r.sleeper("late"))
	id := r.submit(j)[0]
	r.await("the job that waits", func() bool { return r.state(j.Launch, 0) == batch.Queued })
	if err := r.System.Remove(t.Context(), id); err != nil {
		t.Fatalf("remove: %v", err)
	}
	r.await("the end of the removed job", func() bool { return r.state(j.Launch, 0) == batch.Ended })
	if r.read("late-runs") != "" {
		t.Error("the removed job ran")
	}
}

func array(t T, r *rig) {
	if r.System.Properties().MaxArray < 2 {
		t.Skip("no arrays in this system")
	}
	jobs := []batch.Job{r.job(r.sleeper("a")), r.job("cat ticket >" + r.in("b") + "; echo second\n"), r.job(r.sleeper("c"))}
	ids := r.submit(jobs...)
	leader := jobs[0].Launch
	r.await("the first of the array", func() bool { return r.read("a-runs") != "" })
	if err := r.System.Remove(t.Context(), ids[0]); err != nil {
		t.Fatalf("remove of the first: %v", err)
	}
	r.await("the second of the array", func() bool { return r.read("b") != "" })
	if got, want := r.read("b"), "ticket of "+string(jobs[1].Launch); got != want {
		t.Errorf("the second job read %q, want %q", got, want)
	}
	r.await("the third of the array", func() bool { return r.read("c-runs") != "" })
	r.await("the list of what is left", func() bool {
		e := r.list(t.Context())
		return len(e) == 1 && e[0].Launch == leader && e[0].Index == 2 && e[0].ID == ids[2] && e[0].State == batch.Running
	})
	if r.SharedDirectory {
		out, err := os.ReadFile(filepath.Join(jobs[1].Directory, batch.Output))
		if err != nil || !strings.Contains(string(out), "second") {
			t.Errorf("output of the second = %q, %v", out, err)
		}
	}
}

func unknownJob(t T, r *rig) {
	if err := r.System.Remove(t.Context(), r.NeverID); err != nil && !errors.Is(err, batch.ErrUnknownJob) {
		t.Errorf("remove of a job that never was: %v, want ErrUnknownJob, or nil where the system cannot tell", err)
	}
	for _, id := range []batch.JobID{"", "-1", "--all", "*", "1 2", "x;y", "../1"} {
		if err := r.System.Remove(t.Context(), id); !errors.Is(err, batch.ErrUnknownJob) {
			t.Errorf("remove of %q: %v, want ErrUnknownJob: it is no id", id, err)
		}
	}
}

func refused(t T, r *rig) {
	if r.BadQueue == "" {
		t.Skip("no queue is refused at once")
	}
	j := r.job("exit 0\n")
	j.Queue = r.BadQueue
	if ids, err := r.trySubmit(j); !errors.Is(err, batch.ErrRefused) || len(ids) != 0 {
		t.Errorf("submit to queue %s = %q, %v; want ErrRefused", j.Queue, ids, err)
	}
	if e := r.list(t.Context()); len(e) != 0 {
		t.Errorf("listed after a refusal: %+v", e)
	}
}

func nothingThere(t T, r *rig) {
	if e := r.list(t.Context()); len(e) != 0 {
		t.Errorf("an empty system lists %+v", e)
	}
}

// queuesAreListed is for systems that can say which queues they have.
func queuesAreListed(t T, r *rig) {
	lister, ok := r.System.(batch.Lister)
	if !ok || r.Fake != nil {
		t.Skip("its queues are not listed")
	}
	queues, err := lister.Queues(t.Context())
	if err != nil {
		t.Fatalf("queues: %v", err)
	}
	for _, q := range queues {
		if r.Queue != "" && q.Name != r.Queue {
			continue
		}
		if q.Closed != "" || q.Cores < 1 {
			t.Errorf("queue %+v, want it open, with cores", q)
		}
		return
	}
	t.Errorf("queues %+v, want %q among them", queues, r.Queue)
}
