package payload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"floe/pilot/payload/session"
	"floe/protocol"
	"floe/protocol/steering"
)

// Reasons to end a payload before its time: the causes of the context's
// cancellation (context.WithCancelCause). Any other cause counts as a drain.
var (
	ErrDrain     = errors.New("the pilot drains")
	ErrAbandoned = errors.New("the lease is no longer current")
	ErrFenced    = errors.New("no coordinator for longer than the fence")
)

// Limits are what an attempt may use. Zero sets no limit, unless said otherwise.
type Limits struct {
	// Walltime is the time for all modules together.
	Walltime time.Duration
	Memory   protocol.ByteSize
	// Disk is for the work and temporary directories together.
	Disk protocol.ByteSize
	// Processes is how many may live at once; 0 is DefaultProcesses.
	Processes int
	// Grace is the time between SIGTERM and SIGKILL; 0 is DefaultGrace.
	Grace time.Duration
	// LogKeep is how much of the log's beginning, and of its end, is kept; 0 is
	// DefaultLogKeep.
	LogKeep int64
}

// Defaults of Limits. Batch systems wait 30 s between the same two signals, so
// a payload's grace ends before the pilot's own.
const (
	DefaultProcesses = 4096
	DefaultGrace     = 20 * time.Second
)

// Options are how to run, as opposed to what and within which limits.
type Options struct {
	// Logger tells an operator; nil is silent. The payload's own words go to Output.
	Logger *slog.Logger
	// Output is the attempt's log, opened by a caller who reads its tail while
	// the payload runs; nil opens the one of Dir. Run never closes a caller's.
	Output *Log
	// Environ are the pilot's variables; nil is os.Environ().
	Environ []string
	// Extra are variables that win over all others: declared credentials.
	Extra []string
	// Cores and GPUs are what was granted. A payload sees no card that is not named.
	Cores int
	GPUs  []string
	// Cards begins to watch what the cards do, for a module; what it returns ends that,
	// and notes what is known of it. Nil does without.
	Cards func() (end func(*protocol.Usage))
	// HiddenDevices are files in /dev that an isolated payload has nothing to do with:
	// those of cards that were not granted.
	HiddenDevices []string
	// Around is called before and after trays and modules, to move their files; nil
	// for none.
	Around Around
	// Library is the command that runs the predefined modules, library.Program(); a
	// program that does not hold them leaves it empty, and refuses such modules.
	Library []string
	// Tool is a directory with the command of session.Install, for the payload's PATH;
	// empty does without. Session hears of the attempt's socket, before the first module.
	Tool    string
	Session func(*session.Session)
	// Socket is that of the attempt's directory, see Dirs; nil makes one.
	Socket *session.Socket
	// End is when the batch slot is over: no payload lives longer. Zero is not known.
	End time.Time
	// Saved receives the checkpoints of the task, one after another, while the payload
	// waits; nil refuses them. Resume is the file of one that an earlier attempt has
	// saved; empty starts anew.
	Saved  func(Checkpoint)
	Resume string
	// Groups makes control groups; nil does without.
	Groups *Groups
	// Isolation keeps payloads from each other and from the pilot; nil does without.
	Isolation *Isolation
	// Images runs the trays that name one; nil refuses them.
	Images *Images
	// Pause has the payload stand still for as long as it says; nil never does.
	Pause *Pause
	// Poll is how often limits are checked; 0 is DefaultPoll.
	Poll time.Duration
}

// DefaultPoll is how often limits are checked: a process that takes memory at
// 10 GB/s passes its limit by 2.5 GB before it is seen.
const DefaultPoll = 250 * time.Millisecond

// Around moves the files of trays and modules. module is -1 for the tray as a
// whole. An error with a method Verdict() protocol.Verdict decides the verdict
// itself; others are the framework's fault.
type Around interface {
	Before(ctx context.Context, tray, module int) error
	After(ctx context.Context, tray, module int) error
}

// Outcome is how a payload went.
type Outcome struct {
	Verdict protocol.Verdict
	// Evidence is a sentence of at most protocol.MaxEvidence bytes; empty with VerdictOK.
	Evidence   string
	ExitCode   int
	Signal     int
	Usage      protocol.Usage
	Statistics []protocol.Statistic
	Modules    []protocol.ModuleResult
	// Log is the sealed log; its file is Dir.LogPath().
	Log protocol.LogRecord
}

// runner is one call of Run.
type runner struct {
	task    Task
	limits  Limits
	dir     Dir
	options Options
	log     *Log
	logger  *slog.Logger
	started time.Time
	used    protocol.Usage
	modules []protocol.ModuleResult
	given   []given
	disk    diskWatch
	exit    int
	signal  syscall.Signal
	counter int              // modules started, to name their files
	located []string         // programs of the module, wherever they are
	session *session.Session // nil where there is no socket
	savings savings
	// oomKills is the node's count when the task began.
	oomKills int64
}

// step is one module execution.
type step struct {
	tray       *Tray
	label      string
	spec       string // what the shim is told
	number     int    // of the module among all that the task runs, from 1
	checkpoint *Saving
	restored   string     // FLOE_CHECKPOINT: what the module goes on from
	container  *container // nil runs on the node's own root
	result     string     // what the shim says
	statistics string     // FLOE_STATISTICS
}

// Run runs the task's modules one after another until one fails, and returns
// when no process of the payload is left. dir is from MakeDir and holds the staged
// inputs. Many Runs may go on at once.
//
// The process becomes a child subreaper: orphans of payloads become its children.
func Run(ctx context.Context, task Task, limits Limits, dir Dir, options Options) Outcome {
	r := &runner{task: task, limits: limits, dir: dir, options: options, logger: options.Logger, log: options.Output, started: time.Now()}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.limits.Processes == 0 {
		r.limits.Processes = DefaultProcesses
	}
	if r.limits.Grace == 0 {
		r.limits.Grace = DefaultGrace
	}
	if r.options.Poll == 0 {
		r.options.Poll = DefaultPoll
	}
	r.oomKills = oomKills()
	r.disk = diskWatch{dirs: []string{dir.Work(), dir.Temp(), dir.Home()}, log: &r.log}
	if r.log == nil {
		log, err := OpenLog(dir.LogPath(), limits.LogKeep)
		if err != nil {
			return r.outcome(protocol.VerdictNode, err.Error())
		}
		defer log.Close()
		r.log = log
	}
	if err := subreaper(); err != nil {
		r.logger.Warn("no child subreaper: orphans of payloads are found less surely", "err", err)
	}
	if r.limits.Walltime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, r.started.Add(r.limits.Walltime), errWalltime)
		defer cancel()
	}
	r.savings.told = make(chan struct{}, 1)
	defer r.converse()()
	r.unpackEarlier(ctx)
	failed, where := r.checkLibrary()
	if failed == nil {
		failed, where = r.trays(ctx)
	}
	if failed != nil {
		failed.free = freeSpace(dir.Work())
		verdict, text := judge(failed)
		r.exit, r.signal = failed.exit, failed.signal
		return r.outcome(verdict, where+text)
	}
	return r.outcome(protocol.VerdictOK, "")
}

var errWalltime = errors.New("walltime")

// trays runs all trays and returns the facts of the first failure.
func (r *runner) trays(ctx context.Context) (*facts, string) {
	for i := range r.task.Trays {
		tray := &r.task.Trays[i]
		where := fmt.Sprintf("tray %s: ", trayLabel(tray, i))
		if f := r.around(ctx, true, i, -1); f != nil {
			return f, where
		}
		labels := tray.labels()
		for j := range tray.Modules {
			module, label := &tray.Modules[j], labels[j]
			where := fmt.Sprintf("module %s: ", label)
			f := r.around(ctx, true, i, j)
			if f == nil {
				f = r.module(ctx, tray, module, label)
			}
			if f == nil {
				f = r.around(ctx, false, i, j)
			}
			if f != nil {
				return f, where
			}
		}
		if f := r.around(ctx, false, i, -1); f != nil {
			return f, where
		}
	}
	return nil, ""
}

func trayLabel(t *Tray, i int) string {
	if t.Name != "" {
		return t.Name
	}
	return fmt.Sprint(i)
}

// around lets stage work; an end of the context meanwhile is no fault of its.
func (r *runner) around(ctx context.Context, before bool, tray, module int) *facts {
	if f := r.ended(ctx); f != nil && before {
		return f
	}
	if r.options.Around == nil {
		return nil
	}
	call := r.options.Around.After
	if before {
		call = r.options.Around.Before
	}
	err := call(ctx, tray, module)
	if err == nil {
		return nil
	}
	if f := r.ended(ctx); f != nil {
		return f
	}
	return &facts{hook: err}
}

// ended is the facts of a context that has ended, or nil.
func (r *runner) ended(ctx context.Context) *facts {
	if ctx.Err() == nil {
		return nil
	}
	f := &facts{}
	f.kept, f.saved = r.savings.kept()
	f.stopped, f.detail = r.stopReason(ctx)
	return f
}

func (r *runner) stopReason(ctx context.Context) (reason, string) {
	cause := context.Cause(ctx)
	if errors.Is(cause, errWalltime) {
		return stopWalltime, fmt.Sprintf("ran longer than the walltime limit of %v", r.limits.Walltime)
	}
	return stopContext, cause.Error()
}

// module runs one module and returns the facts if it failed.
func (r *runner) module(ctx context.Context, tray *Tray, m *Module, label string) *facts {
	r.counter++
	base := filepath.Join(string(r.dir), fmt.Sprintf("module-%d", r.counter))
	s := &step{tray: tray, label: label, number: r.counter, checkpoint: m.Checkpoint, spec: base + ".json", result: base + ".result", statistics: base + ".statistics"}
	var spared time.Duration
	spared, s.restored = r.restore(s)
	e := tray.Environment.within(m.Environment)
	if steering.IsPredefined(m.Class, m.Src) {
		e.Shell, e.Image = "", nil // the library needs no environment, and no environment needs it
	}
	env := r.environment(e, s)
	if m.Class != "" && env["PYTHONIOENCODING"] == "" {
		// Before 3.7, and in 2.7, printing fails for all but ASCII where the locale is C.
		env["PYTHONIOENCODING"] = "utf-8:backslashreplace"
	}
	f := &facts{built: len(e.Software) > 0 || e.Shell != "" || e.Image != nil}
	r.log.Printf("tray %s iteration %d module %s: %s", trayLabel(tray, 0), tray.Iteration, label, what(m))

	argv, err := r.prepare(m, e, env, s)
	if err != nil {
		f.prepare = err
		r.log.Printf("%v", err)
		return f
	}
	for _, file := range []string{s.result, s.statistics} {
		if r.counter > 1 {
			_ = os.RemoveAll(file) // what an earlier module has put there is none of this one's
		}
	}
	f.fromBuilt = inside(argv[0], slices.Concat(e.Software, e.Python)) || e.Shell != "" || s.container != nil && s.container.root != nil
	r.savings.begin(s, spared)
	told := r.speaker(s)
	variables := env.list()
	if s.container != nil {
		variables = s.container.env
	}
	run := r.supervise(ctx, argv, variables, s)
	statistics := told()
	r.saveDeclared(s, &run)
	r.account(tray, label, run)
	f.stopped, f.detail, f.start, f.killedByGroup = run.stopped, run.detail, run.start, run.groupKills
	f.exit, f.signal = run.exit, run.signal
	f.outside = s.container != nil && !s.container.started()
	f.kept, f.saved = r.savings.kept()
	f.again = m.Checkpoint != nil && m.Checkpoint.Exit > 0 && f.exit == m.Checkpoint.Exit &&
		(f.stopped != stopNone || run.usage.WallMillis >= againAfter.Milliseconds())
	f.killedByNode = f.killed() && oomKills() > r.oomKills
	if f.start != nil {
		r.log.Printf("cannot start: %v", f.start)
		return f
	}
	r.log.Printf("module %s: %s after %v, processor %v, memory %v%s", label, f.ending(),
		time.Duration(run.usage.WallMillis)*time.Millisecond, time.Duration(run.usage.CPUMillis)*time.Millisecond, run.usage.PeakMemory, ofCards(&run.usage))
	if f.exit == 0 && f.signal == 0 {
		// It finished, even if the pilot had just asked it to end.
		f.stopped, f.killedByGroup = stopNone, 0
	}
	path := s.statistics
	if m.Class != "" {
		path, f.said, f.blames = readResult(r.dir, m, s)
	}
	if f.exit == 0 && f.signal == 0 && f.said == "" {
		left, err := readStatistics(r.dir, path)
		if err == nil {
			statistics, err = join(statistics, left)
		}
		if err == nil {
			r.given = append(r.given, given{tray.Name, tray.Iteration, label, statistics})
			return nil
		}
		f.statist = err
	}
	f.log = r.log.lastLines(3)
	return f
}

// prepare makes the module's command line and the files it needs.
func (r *runner) prepare(m *Module, e Environment, env environ, s *step) ([]string, error) {
	if err := r.writeConfigs(m); err != nil {
		return nil, err
	}
	r.located = nil
	shell, err := r.shell(e, env)
	if err != nil {
		return nil, err
	}
	argv, err := r.command(m, e, env, s)
	if err != nil {
		return nil, err
	}
	argv = append(shell, argv...)
	if e.Image != nil {
		return r.contain(e.Image, argv, env, s)
	}
	return argv, nil
}

func what(m *Module) string {
	switch {
	case m.Class != "" && m.Src != "":
		return "class " + m.Class + " from " + m.Src
	case m.Class != "":
		return "class " + m.Class
	}
	return m.Src
}

// inside tells whether path is below one of the roots.
func inside(path string, roots []string) bool {
	for _, root := range roots {
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// account adds a module's usage to the task's.
func (r *runner) account(tray *Tray, label string, run ran) {
	u := run.usage
	r.used.CPUMillis += u.CPUMillis
	r.used.ReadBytes += u.ReadBytes
	r.used.WriteBytes += u.WriteBytes
	r.used.PeakMemory = max(r.used.PeakMemory, u.PeakMemory)
	r.used.JoinGPU(&u)
	result := protocol.ModuleResult{Tray: tray.Name, Iteration: tray.Iteration, Module: label, ExitCode: run.exit, Usage: u}
	if run.signal != 0 {
		result.ExitCode = 128 + int(run.signal)
	}
	if len(r.modules) < protocol.MaxModules {
		r.modules = append(r.modules, result)
		return
	}
	// Beyond what a report holds, the last entry stands for all that follow.
	last := &r.modules[len(r.modules)-1]
	last.Tray, last.Iteration, last.Module, last.ExitCode = tray.Name, tray.Iteration, label, result.ExitCode
	last.Usage.WallMillis += u.WallMillis
	last.Usage.CPUMillis += u.CPUMillis
	last.Usage.ReadBytes += u.ReadBytes
	last.Usage.WriteBytes += u.WriteBytes
	last.Usage.PeakMemory = max(last.Usage.PeakMemory, u.PeakMemory)
	last.Usage.JoinGPU(&u)
}

// ofCards says for the log what is known of the cards.
func ofCards(u *protocol.Usage) (text string) {
	if u.GPUMillis != nil {
		text += fmt.Sprintf(", cards busy %v", time.Duration(*u.GPUMillis)*time.Millisecond)
	}
	if u.PeakGPUMemory != nil {
		text += fmt.Sprintf(", their memory %v", *u.PeakGPUMemory)
	}
	return text
}

// outcome closes the books.
func (r *runner) outcome(v protocol.Verdict, evidence string) Outcome {
	statistics, err := merge(r.given)
	if err != nil && v == protocol.VerdictOK {
		v, evidence = protocol.VerdictPayload, err.Error()
	}
	if v != protocol.VerdictOK {
		statistics = nil
	}
	r.disk.measure()
	r.used.WallMillis = time.Since(r.started).Milliseconds()
	r.used.PeakDisk = r.disk.peak
	r.used.KeptMillis = r.savings.resumed.Milliseconds()
	r.used.Cores, r.used.GPUs = max(1, r.options.Cores), len(r.options.GPUs)
	out := Outcome{
		Verdict: v, Evidence: clip(evidence), ExitCode: r.exit, Signal: int(r.signal),
		Usage: r.used, Statistics: statistics, Modules: r.modules,
	}
	if r.log == nil {
		return out
	}
	r.log.Printf("verdict %v %s (rules %d)", v, out.Evidence, RulesVersion())
	record, err := r.log.Seal()
	if err != nil {
		r.logger.Warn("log is not sealed", "err", err)
	}
	out.Log = record
	return out
}

// oomKills counts the kernel's kills for lack of memory on this node since boot.
func oomKills() int64 {
	b, err := readKernel("/proc/vmstat")
	if err != nil {
		return 0
	}
	return counter(b, "oom_kill")
}

func freeSpace(dir string) protocol.ByteSize {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return protocol.MaxByteSize // unknown is not full
	}
	return protocol.ByteSize(s.Bavail) * protocol.ByteSize(s.Bsize)
}
