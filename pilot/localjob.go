package pilot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"floe/cache"
	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/pilot/payload/session"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/steering"
)

// LocalJob is one job to run on this machine without any coordinator: for people
// who try a steering file.
type LocalJob struct {
	// Document is free of errors.
	Document *steering.Document
	// Dataset, Job, JobCount, Seed and Options are what expressions ask for.
	Dataset  protocol.DatasetID
	Job      protocol.JobIndex
	JobCount uint32
	Seed     uint64
	Options  map[string]string
	// Tasks are the only ones to run; empty runs all. What their ancestors left is
	// taken from an earlier run in Dir.
	Tasks []protocol.TaskIndex
	// Dir keeps the cache, temp files between tasks, and per task its log and report;
	// made if needed. Keep leaves the tasks' own directories, too.
	Dir  string
	Keep bool
	// Modules are the external modules of the job, fetched.
	Modules []LocalModule
	// Log takes what the payloads print while they run; nil does without.
	Log io.Writer
	// Began and Ended hear of each task; nil does without.
	Began, Ended func(*LocalTask)
	// Groups are control groups to run payloads in; nil does without.
	Groups *payload.Groups
	// Library runs the predefined modules; see payload.Options.
	Library []string
	Logger  *slog.Logger
}

// LocalTask is one task of a LocalJob.
type LocalTask struct {
	Index protocol.TaskIndex
	Name  string
	// Granted are the limits it runs under: its requirements, or that alternative
	// which this machine can meet.
	Granted protocol.Requirements
	// Dir holds the task's log, its report, and with Keep its attempt.
	Dir string
	// Report is nil until the task has ended.
	Report *protocol.Report
}

// LocalModule is an external module, and the file with its tarball.
type LocalModule struct {
	protocol.ModulePin
	File string
}

// LogPath is the file of the task's log.
func (t *LocalTask) LogPath() string { return filepath.Join(t.Dir, "log") }

// RunJob runs the tasks of one job in the order of their DAG, and stops at the
// first that is not ok. It returns the tasks that were begun. An error means that
// there is no verdict to look at: the job cannot be run here at all, or ctx ended.
func RunJob(ctx context.Context, job LocalJob) ([]*LocalTask, error) {
	r := &localRun{LocalJob: job, made: map[protocol.TaskIndex][]protocol.FileRecord{}}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	var ran []*LocalTask
	for _, index := range r.order {
		if len(job.Tasks) > 0 && !slices.Contains(job.Tasks, index) {
			if err := r.remember(index); err != nil {
				return ran, err
			}
			continue
		}
		task, err := r.task(ctx, index)
		if task != nil {
			ran = append(ran, task)
		}
		if err != nil || task.Report.Verdict != protocol.VerdictOK {
			return ran, err
		}
	}
	return ran, nil
}

// localRun is one run of a LocalJob.
type localRun struct {
	LocalJob
	expanded *steering.ExpandedJob
	plan     *steering.Plan
	order    []protocol.TaskIndex // parents first
	cache    *cache.Store
	mover    *stage.Mover
	gpus     []protocol.GPU
	meter    *hardware.Meter // of those; nil without
	tool     string          // directory of the payloads' command; empty without
	modules  protocol.Digest // of the pins
	// made is what each task has left.
	made map[protocol.TaskIndex][]protocol.FileRecord
}

func (r *localRun) open(ctx context.Context) error {
	var problems steering.Problems
	if r.plan, problems = steering.Compile(r.Document, steering.CompileInput{
		Dataset: r.Dataset, Seed: r.Seed, JobCount: r.JobCount, Options: r.Options,
	}); problems.HasErrors() {
		return problems
	}
	if r.expanded, problems = steering.ExpandJob(r.Document, steering.ExpandInput{
		Dataset: r.Dataset, Job: r.Job, JobCount: r.JobCount, Seed: r.Seed, Options: r.Options,
		System: systemParameters(), Environ: environParameters(),
	}); problems.HasErrors() {
		return problems
	}
	for _, index := range r.Tasks {
		if int(index) >= len(r.plan.Tasks) {
			return fmt.Errorf("task %d: the document has %d", index, len(r.plan.Tasks))
		}
	}
	r.order = inOrder(r.plan)
	var err error
	if r.Dir, err = filepath.Abs(r.Dir); err != nil {
		return err
	}
	blobs := blobDir(filepath.Join(r.Dir, "blobs"))
	if err := os.MkdirAll(string(blobs), 0o700); err != nil {
		return err
	}
	if err := r.keepModules(ctx, blobs); err != nil {
		return err
	}
	if r.cache, err = cache.Open(cache.Config{Dir: filepath.Join(r.Dir, "cache"), Logger: r.Logger}); err != nil {
		return err
	}
	r.tool = filepath.Join(r.Dir, "bin")
	if err := errors.Join(os.RemoveAll(r.tool), session.Install(r.tool)); err != nil {
		r.Logger.Warn("payloads have no command to speak by", "err", err)
		r.tool = ""
	}
	r.mover = &stage.Mover{Blobs: blobs, Cache: r.cache, Temp: r.Dir, Logger: r.Logger}
	if slices.ContainsFunc(r.expanded.Tasks, func(t steering.ExpandedTask) bool { return t.Requirements.GPUs > 0 }) {
		found, _ := hardware.Measure(ctx, hardware.Options{Scratch: r.Dir})
		r.gpus, r.meter = found.GPUs, hardware.NewMeter(hardware.Options{}, r.Logger)
	}
	return nil
}

// keepModules puts external modules where coordinators would have them.
func (r *localRun) keepModules(ctx context.Context, blobs blobDir) error {
	if len(r.Modules) == 0 {
		return nil
	}
	pins := make([]protocol.ModulePin, len(r.Modules))
	for i, m := range r.Modules {
		pins[i] = m.ModulePin
		f, err := os.Open(m.File)
		if err != nil {
			return err
		}
		err = blobs.PutBlob(ctx, m.Digest, m.Size, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	b, err := protocol.EncodeModulePins(pins)
	if err != nil {
		return err
	}
	r.modules = protocol.DigestOf(b)
	return blobs.PutBlob(ctx, r.modules, protocol.ByteSize(len(b)), bytes.NewReader(b))
}

// inOrder lists tasks so that parents come first, else in the order of the document.
func inOrder(plan *steering.Plan) []protocol.TaskIndex {
	order := make([]protocol.TaskIndex, 0, len(plan.Tasks))
	done := make([]bool, len(plan.Tasks))
	var visit func(protocol.TaskIndex)
	visit = func(i protocol.TaskIndex) {
		if done[i] {
			return
		}
		done[i] = true // a document without errors has no circles
		for _, parent := range plan.Tasks[i].Parents {
			visit(parent)
		}
		order = append(order, i)
	}
	for i := range plan.Tasks {
		visit(protocol.TaskIndex(i))
	}
	return order
}

// inputs are the files that a task's ancestors left, in the order of the DAG.
func (r *localRun) inputs(task protocol.TaskIndex) (files []protocol.FileRecord) {
	ancestor := map[protocol.TaskIndex]bool{task: true}
	for _, i := range slices.Backward(r.order) {
		if ancestor[i] {
			for _, parent := range r.plan.Tasks[i].Parents {
				ancestor[parent] = true
			}
		}
	}
	for _, i := range r.order {
		if ancestor[i] && i != task {
			files = append(files, r.made[i]...)
		}
	}
	return files
}

func (r *localRun) dir(task protocol.TaskIndex) string {
	return filepath.Join(r.Dir, "job-"+strconv.FormatUint(uint64(r.Job), 10), "task-"+strconv.FormatUint(uint64(task), 10))
}

// remember takes the outputs of a task from an earlier run, if there was one.
func (r *localRun) remember(task protocol.TaskIndex) error {
	path := filepath.Join(r.dir(task), "report")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // who needs its files will say so
	}
	var report protocol.Report
	if err == nil {
		err = protocol.Unmarshal(b, &report)
	}
	if err != nil {
		return fmt.Errorf("earlier run: %s: %w", path, err)
	}
	if report.Verdict == protocol.VerdictOK {
		r.made[task] = report.Outputs
	}
	return nil
}

// task runs one task as a pilot would.
func (r *localRun) task(ctx context.Context, index protocol.TaskIndex) (*LocalTask, error) {
	expanded := &r.expanded.Tasks[index]
	t := &LocalTask{Index: index, Name: expanded.Name, Dir: r.dir(index)}
	packing, granted := r.grant(expanded.Requirements)
	t.Granted = granted
	lease := &protocol.Lease{
		// Unique as a coordinator's would be: it is part of the names of outputs.
		ID:   protocol.LeaseID{Index: rand.Uint64()>>1 + 1},
		Task: protocol.TaskID{Dataset: r.Dataset, Job: r.Job, Task: index}, TaskName: expanded.Name, Attempt: 1,
		Seed: r.Seed, JobCount: r.JobCount, Options: r.Options, Granted: granted,
		Inputs: r.inputs(index), Modules: r.modules, Version: protocol.LanguageVersion,
	}
	share := packing.take(lease)
	if len(share.gpus) < granted.GPUs {
		r.Logger.Warn("this machine has too few cards; the task runs with those there are", "task", t.Name, "gpus", len(share.gpus))
	}
	attempt := filepath.Join(t.Dir, "attempt")
	if err := errors.Join(payload.Dir(attempt).Remove(), os.MkdirAll(t.Dir, 0o700)); err != nil {
		return nil, err
	}
	if r.Began != nil {
		r.Began(t)
	}
	tail := &follower{out: r.Log}
	a := &Attempt{
		Lease: lease, Dir: attempt, Mover: r.mover, Cache: r.cache, Cores: share.cores, GPUs: share.gpus, Meter: r.meter,
		Groups: r.Groups, Library: r.Library, Tool: r.tool, Logger: r.Logger, Log: tail.follow, System: systemParameters(),
	}
	t.Report = a.Run(ctx, func(context.Context, protocol.Digest) (*steering.Document, error) { return r.Document, nil })
	err := r.settle(ctx, a, t)
	if r.Ended != nil {
		r.Ended(t)
	}
	if err == nil && ctx.Err() != nil && t.Report.Verdict != protocol.VerdictOK {
		err = context.Cause(ctx)
	}
	return t, err
}

// grant chooses the shape of a task that this machine has the cards for.
func (r *localRun) grant(asked protocol.Requirements) (*packing, protocol.Requirements) {
	p := newPacking(protocol.Resources{GPUs: r.gpus}, time.Time{})
	granted := asked
	if asked.GPUs > len(r.gpus) {
		for _, other := range asked.Alternatives {
			if other.GPUs <= len(r.gpus) {
				granted = other
				break
			}
		}
	}
	granted.Alternatives = nil
	return p, granted
}

// settle publishes what a task left, or drops it, and writes down how it went.
func (r *localRun) settle(ctx context.Context, a *Attempt, t *LocalTask) error {
	ctx = context.WithoutCancel(ctx)
	var all []error
	if t.Report.Verdict == protocol.VerdictOK {
		for _, o := range t.Report.Outputs {
			all = append(all, r.mover.Publish(ctx, o))
		}
		r.made[t.Index] = t.Report.Outputs
	} else {
		all = append(all, r.mover.Discard(ctx, t.Report.Outputs))
		t.Report.Outputs = nil
	}
	t.Report.Log = a.outcome.Log
	if err := os.Remove(t.LogPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		all = append(all, err)
	}
	if a.dir != "" {
		if err := os.Link(a.LogPath(), t.LogPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	b, err := protocol.Marshal(t.Report)
	if err == nil {
		err = os.WriteFile(filepath.Join(t.Dir, "report"), b, 0o600)
	}
	all = append(all, err)
	if r.Keep {
		a.release()
	} else {
		all = append(all, a.Clean())
	}
	return errors.Join(all...)
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
