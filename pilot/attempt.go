package pilot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
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

// Attempt is one lease being run: its software, its inputs, its payload, its
// outputs. The pilot runs many; floe run runs one without any coordinator.
type Attempt struct {
	Lease *protocol.Lease
	// Dir is the attempt's own directory, made by Run and removed by Clean. Dirs uses
	// directories again; nil does not.
	Dir   string
	Dirs  *payload.Dirs
	Mover *stage.Mover
	Cache *cache.Store
	Cores int
	GPUs  []string
	// Meter watches the cards; nil does without.
	Meter *hardware.Meter
	// Obstacle is why the attempt cannot run here at all; nil where it can.
	Obstacle error
	Groups   *payload.Groups
	// MaxOutput is how much the site lets one attempt bring out; 0 sets no bound.
	MaxOutput protocol.ByteSize
	// Pause has the payload stand still; nil never does.
	Pause *payload.Pause
	// Isolation keeps the payload from others; nil does without.
	Isolation *payload.Isolation
	// Images runs trays that name an image; nil refuses them.
	Images *payload.Images
	// Library runs the predefined modules, Tool holds the payload's command; see
	// payload.Options.
	Library []string
	Tool    string
	Logger  *slog.Logger
	// Payload runs the trays; nil is payload.Run.
	Payload Payload
	// Phase and Log hear of progress; nil does without.
	Phase func(protocol.Phase)
	Log   func(*payload.Log)
	// Session hears of the payload's socket; nil does without.
	Session func(*session.Session)
	// Stored hears of checkpoints that are stored; nil does without.
	Stored func(protocol.FileRecord)
	// End is when the payload must be gone because the batch slot is over; zero is not
	// known. Gone is closed when nobody waits for the attempt any more; nil is never.
	End  time.Time
	Gone <-chan struct{}
	// System is what $system names on this node.
	System map[string]string
	// Catalog has published software; nil does without.
	Catalog *Catalog

	ctx     context.Context //nolint:containedctx // of the attempt, not of a call: its cause says who ended it
	dir     payload.Dir
	socket  *session.Socket
	outcome payload.Outcome
	inUse   []*cache.Entry
	// containers are the images found so far, by name and checksum.
	containers map[string]*payload.Image
	budget     *stage.Budget // of outputs; nil is without bound
	task       *steering.ExpandedTask
	pins       *protocol.ModulePins // of external modules
	report     *protocol.Report
	savings    *savings // nil before the payload runs
	staged     time.Duration
	copied     time.Duration
}

// Document gives the steering document of a digest.
type Document func(ctx context.Context, d protocol.Digest) (*steering.Document, error)

// Run runs the attempt to its end and reports how it went. The report lacks
// pilot and log, which the caller adds.
func (a *Attempt) Run(ctx context.Context, document Document) *protocol.Report {
	a.ctx = ctx
	a.report = &protocol.Report{
		Lease: a.Lease.ID, Task: a.Lease.Task, Passkey: a.Lease.Passkey, StartedUnix: time.Now().Unix(),
	}
	if host, err := os.Hostname(); err == nil {
		a.report.Host = host
	}
	started := time.Now()
	err := a.run(ctx, document)
	if err != nil {
		a.report.Verdict, a.report.Evidence = verdictOf(ctx, err), evidence(err)
		var bad *badInput
		if errors.As(err, &bad) && a.report.Verdict == protocol.VerdictData {
			a.report.BadInput = bad.name
		}
	}
	a.keepCheckpoint()
	u := &a.report.Usage
	u.WallMillis = time.Since(started).Milliseconds()
	u.StageMillis, u.CopyMillis = a.staged.Milliseconds(), a.copied.Milliseconds()
	u.Cores, u.GPUs = a.Cores, len(a.GPUs)
	a.report.EndedUnix = time.Now().Unix()
	return a.report
}

func (a *Attempt) phase(p protocol.Phase) {
	if a.Phase != nil {
		a.Phase(p)
	}
}

func (a *Attempt) run(ctx context.Context, document Document) error {
	a.phase(protocol.PhaseStaging)
	var err error
	if a.dir, a.socket, err = a.Dirs.Make(a.Dir, a.Lease.Task.Dataset); err != nil {
		return fmt.Errorf("%w: %w", stage.ErrNode, err)
	}
	if a.Obstacle != nil {
		return a.Obstacle
	}
	begun := time.Now()
	doc, err := document(ctx, a.Lease.Steering)
	if err != nil {
		return fmt.Errorf("%w: steering document: %w", errFramework, err)
	}
	in := steering.ExpandInput{
		Dataset: a.Lease.Task.Dataset, Job: a.Lease.Task.Job, JobCount: a.Lease.JobCount, Seed: a.Lease.Seed,
		Options: a.Lease.Options, System: a.system(), Environ: environParameters(),
	}
	// By name: coordinators number the tasks behind their parents, a document need not.
	index, ok := doc.TaskIndex(a.Lease.TaskName)
	if !ok {
		return fmt.Errorf("%w: it has no task %q", errDocument, a.Lease.TaskName)
	}
	task, problems := steering.ExpandTask(doc, in, protocol.TaskIndex(index))
	if problems.HasErrors() {
		return fmt.Errorf("%w: %w", errDocument, problems)
	}
	a.task = task
	if err := a.fetchPins(ctx); err != nil {
		return err
	}
	switch site, own := a.MaxOutput, task.MaxOutput; {
	case own > 0 && (site == 0 || own <= site):
		a.budget = &stage.Budget{Limit: own, Whose: "the task (max_output)"}
	case site > 0:
		a.budget = &stage.Budget{Limit: site, Whose: "this site (max_output)"}
	}
	// For classes that name header parameters in the defaults of their own.
	input, err := a.prepare(ctx, payload.Texts(steering.ExpandHeader(doc, in)))
	resume := ""
	if err == nil {
		resume = a.fetchEarlier(ctx)
	}
	a.staged = time.Since(begun)
	if err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	a.phase(protocol.PhaseRunning)
	a.execute(ctx, input, resume)
	a.report.Verdict, a.report.Evidence = a.outcome.Verdict, a.outcome.Evidence
	a.report.ExitCode, a.report.Signal = a.outcome.ExitCode, a.outcome.Signal
	a.report.Usage, a.report.Statistics, a.report.Modules = a.outcome.Usage, a.outcome.Statistics, a.outcome.Modules
	if err := a.sound(); err != nil {
		return err
	}
	if a.outcome.Verdict != protocol.VerdictOK {
		return nil
	}
	a.phase(protocol.PhaseCopying)
	begun = time.Now()
	err = a.store(ctx, a.task.Data)
	a.copied += time.Since(begun)
	return err
}

// system is what $system names: of the node, and how many seconds the task has.
func (a *Attempt) system() map[string]string {
	all := maps.Clone(a.System)
	left := a.Lease.Granted.Walltime.Duration()
	if !a.End.IsZero() {
		if slot := time.Until(a.End); left == 0 || slot < left || a.Lease.Granted.Elastic {
			left = max(slot, time.Second)
		}
	}
	if left > 0 && all != nil {
		all["remaining_walltime"] = strconv.FormatInt(int64(left/time.Second), 10)
	}
	return all
}

// prepare brings software and task-level files to the node, and translates the
// task for the payload runner.
func (a *Attempt) prepare(ctx context.Context, header map[string]string) (payload.Task, error) {
	l := a.Lease
	task := payload.Task{ID: l.Task, Lease: l.ID, Attempt: l.Attempt, Name: l.TaskName, Jobs: l.JobCount, Seed: l.Seed, Steering: header, System: a.system()}
	if err := a.fetchResources(ctx, a.task.Resources, a.task.Projects, a.task.Classes); err != nil {
		return task, err
	}
	err := a.placeModules(ctx)
	if err != nil {
		return task, err
	}
	task.Trays, err = payload.Trays(a.task, func(p []steering.ExpandedProject, c []steering.ExpandedClass, r []steering.ExpandedResource) ([]string, error) {
		return a.software(ctx, p, c, r)
	})
	if err != nil {
		return task, err
	}
	for i := range task.Trays {
		if task.Trays[i].Image, err = a.container(ctx, &a.task.Trays[i]); err != nil {
			return task, err
		}
	}
	return task, a.fetch(ctx, a.task.Data)
}

// execute runs the payload under the limits that were granted.
func (a *Attempt) execute(ctx context.Context, task payload.Task, resume string) {
	granted := &a.Lease.Granted
	limits := payload.Limits{Walltime: granted.Walltime.Duration(), Memory: granted.Memory, Disk: granted.Disk}
	if granted.Elastic && !a.End.IsZero() {
		limits.Walltime = 0 // it has what is left of the slot
	}
	a.savings = newSavings(a)
	options := payload.Options{Pause: a.Pause, End: a.End, Saved: a.savings.take, Resume: resume, Logger: a.Logger, Cores: a.Cores, GPUs: a.GPUs, Library: a.Library, Tool: a.Tool, Session: a.Session, Socket: a.socket, Groups: a.Groups, Isolation: a.Isolation, Images: a.Images, Around: (*around)(a)}
	if a.Meter != nil && len(a.GPUs) > 0 {
		options.Cards = func() func(*protocol.Usage) { return a.Meter.Watch(a.GPUs) }
	}
	if a.Isolation != nil {
		options.HiddenDevices = hardware.HiddenDevices("/", a.GPUs)
	}
	if log, err := payload.OpenLog(a.dir.LogPath(), payload.DefaultLogKeep); err == nil {
		defer log.Close()
		options.Output = log
		if a.Log != nil {
			a.Log(log)
			defer a.Log(nil)
		}
	}
	run := a.Payload
	if run == nil {
		run = payload.Run
	}
	a.outcome = run(ctx, task, limits, a.dir, options)
	a.savings.finish(a.outcome.Verdict.KeepsCheckpoint() && !errors.Is(context.Cause(ctx), payload.ErrAbandoned))
}

// Clean removes the attempt's directory and ends the use of its software.
func (a *Attempt) Clean() error {
	a.release()
	if a.dir == "" {
		return os.RemoveAll(a.Dir)
	}
	return a.Dirs.Remove(a.dir, a.socket, a.Lease.Task.Dataset)
}

// release ends the use of the attempt's software.
func (a *Attempt) release() {
	for _, e := range a.inUse {
		e.Release()
	}
	a.inUse = nil
}

// LogPath is the file of the attempt's log.
func (a *Attempt) LogPath() string { return a.dir.LogPath() }
