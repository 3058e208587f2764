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
	// Cache, Blobs and Scratch are where the cache, temp files and the tasks' own
	// directories are instead of in Dir; made if needed.
	Cache, Blobs, Scratch string
	// Cores and Memory are what tasks that do not wait for each other share; without
	// Cores they run one after another. Memory 0 is taken to be enough.
	Cores  int
	Memory protocol.ByteSize
	// NoCards keeps tasks from the cards of this machine.
	NoCards bool
	// End is when the batch slot is over: no payload lives longer. Zero is not known.
	End time.Time
	// Resume takes tasks that an earlier run in Dir has done as done.
	Resume bool
	// System is what $system names beside what the pilot finds itself.
	System map[string]string
	// Modules are the external modules of the job, fetched.
	Modules []LocalModule
	// Log takes what the payloads print while they run; nil does without.
	Log io.Writer
	// Began and Ended hear of each task, one at a time; nil does without.
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

// localRun is one run of a LocalJob.
type localRun struct {
	LocalJob
	expanded *steering.ExpandedJob
	plan     *steering.Plan
	order    []protocol.TaskIndex // parents first
	cache    *cache.Store
	mover    *stage.Mover
	packing  *packing
	meter    *hardware.Meter // of its cards; nil without
	tool     string          // directory of the payloads' command; empty without
	modules  protocol.Digest // of the pins
	images   *payload.Images // nil runs none
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
		System: systemParameters(r.System), Environ: environParameters(),
	}); problems.HasErrors() {
		return problems
	}
	for _, index := range r.Tasks {
		if int(index) >= len(r.plan.Tasks) {
			return fmt.Errorf("task %d: the document has %d", index, len(r.plan.Tasks))
		}
	}
	r.order = inOrder(r.plan)
	for _, place := range []struct {
		dir  *string
		name string
	}{{&r.Dir, "."}, {&r.Cache, "cache"}, {&r.Blobs, "blobs"}, {&r.Scratch, ""}} {
		if *place.dir == "" && place.name != "" {
			*place.dir = filepath.Join(r.Dir, place.name)
		}
		if *place.dir == "" {
			continue
		}
		var err error
		if *place.dir, err = filepath.Abs(*place.dir); err == nil {
			err = os.MkdirAll(*place.dir, 0o700)
		}
		if err != nil {
			return err
		}
	}
	if err := r.keepModules(ctx, blobDir(r.Blobs)); err != nil {
		return err
	}
	var err error
	if r.cache, err = cache.Open(cache.Config{Dir: r.Cache, Logger: r.Logger}); err != nil {
		return err
	}
	own := r.Scratch
	if own == "" {
		own = r.Dir
	}
	r.tool = filepath.Join(own, "bin")
	if err := errors.Join(os.RemoveAll(r.tool), session.Install(r.tool)); err != nil {
		r.Logger.Warn("payloads have no command to speak by", "err", err)
		r.tool = ""
	}
	r.mover = &stage.Mover{Blobs: blobDir(r.Blobs), Cache: r.cache, Temp: own, Logger: r.Logger}
	all := protocol.Resources{Cores: r.Cores, Memory: r.Memory, Disk: protocol.MaxByteSize}
	if all.Memory == 0 {
		all.Memory = protocol.MaxByteSize
	}
	if !r.NoCards && slices.ContainsFunc(r.expanded.Tasks, func(t steering.ExpandedTask) bool { return t.Requirements.GPUs > 0 }) {
		found, _ := hardware.Measure(ctx, hardware.Options{Scratch: own})
		all.GPUs, r.meter = found.GPUs, hardware.NewMeter(hardware.Options{}, r.Logger)
	}
	r.packing = newPacking(all, r.End)
	if r.Log != nil {
		r.Log = &oneAtATime{out: r.Log}
	}
	r.findImages(ctx, own)
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

// remember takes the outputs of a task from an earlier run, and says whether there
// was one in which it went well.
func (r *localRun) remember(task protocol.TaskIndex) (bool, error) {
	path := filepath.Join(r.dir(task), "report")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // who needs its files will say so
	}
	var report protocol.Report
	if err == nil {
		err = protocol.Unmarshal(b, &report)
	}
	if err != nil {
		return false, fmt.Errorf("earlier run: %s: %w", path, err)
	}
	if report.Verdict != protocol.VerdictOK {
		return false, nil
	}
	r.made[task] = report.Outputs
	return true, nil
}

// lease is what a coordinator would grant for a task.
func (r *localRun) lease(index protocol.TaskIndex) *protocol.Lease {
	expanded := &r.expanded.Tasks[index]
	return &protocol.Lease{
		// Unique as a coordinator's would be: it is part of the names of outputs.
		ID:   protocol.LeaseID{Index: rand.Uint64()>>1 + 1},
		Task: protocol.TaskID{Dataset: r.Dataset, Job: r.Job, Task: index}, TaskName: expanded.Name, Attempt: 1,
		Seed: r.Seed, JobCount: r.JobCount, Options: r.Options, Granted: r.grant(expanded.Requirements),
		Inputs: r.inputs(index), Modules: r.modules, Version: protocol.LanguageVersion,
	}
}

// grant chooses the shape of a task that this machine has the cards for.
func (r *localRun) grant(asked protocol.Requirements) protocol.Requirements {
	granted := asked
	if asked.GPUs > len(r.packing.all.GPUs) {
		for _, other := range asked.Alternatives {
			if other.GPUs <= len(r.packing.all.GPUs) {
				granted = other
				break
			}
		}
	}
	granted.Alternatives = nil
	return granted
}

// task runs one task as a pilot would, on its share of this machine.
func (r *localRun) task(ctx context.Context, t *LocalTask, lease *protocol.Lease, share share) error {
	attempt := filepath.Join(t.Dir, "attempt")
	if r.Scratch != "" {
		attempt = filepath.Join(r.Scratch, "task-"+strconv.FormatUint(uint64(t.Index), 10))
	}
	if err := errors.Join(payload.Dir(attempt).Remove(), os.MkdirAll(t.Dir, 0o700)); err != nil {
		return err
	}
	tail := &follower{out: r.Log}
	a := &Attempt{
		Lease: lease, Dir: attempt, Mover: r.mover, Cache: r.cache, Cores: share.cores, GPUs: share.gpus, Meter: r.meter, End: r.End,
		Groups: r.Groups, Images: r.images, Library: r.Library, Tool: r.tool, Logger: r.Logger, Log: tail.follow, System: systemParameters(r.System),
	}
	report := a.Run(ctx, func(context.Context, protocol.Digest) (*steering.Document, error) { return r.Document, nil })
	t.Report = report
	err := r.settle(ctx, a, t)
	if err == nil && ctx.Err() != nil && report.Verdict != protocol.VerdictOK {
		err = context.Cause(ctx)
	}
	return err
}

// settle publishes what a task left, or drops it, and writes down how it went.
func (r *localRun) settle(ctx context.Context, a *Attempt, t *LocalTask) error {
	ctx = context.WithoutCancel(ctx)
	var all []error
	if t.Report.Verdict == protocol.VerdictOK {
		for _, o := range t.Report.Outputs {
			all = append(all, r.mover.Publish(ctx, o))
		}
	} else {
		all = append(all, r.mover.Discard(ctx, t.Report.Outputs))
		t.Report.Outputs = nil
	}
	t.Report.Log = a.outcome.Log
	if err := os.Remove(t.LogPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		all = append(all, err)
	}
	if a.dir != "" {
		if err := keepFile(a.LogPath(), t.LogPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
