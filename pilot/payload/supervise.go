package payload

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// ran is how one module's processes went.
type ran struct {
	stopped    reason
	detail     string
	start      error
	exit       int
	signal     syscall.Signal
	groupKills int
	usage      protocol.Usage
}

// Times of the supervision.
const (
	firstLook     = 10 * time.Millisecond // short modules are seen at least once
	endingLook    = 20 * time.Millisecond // while processes are being ended
	leftoverGrace = 2 * time.Second       // at most, for what a module leaves behind
)

// supervise starts argv in a session of its own and returns when all that came
// of it is gone.
func (r *runner) supervise(ctx context.Context, argv, env []string, s *step) ran {
	var out ran
	began := time.Now()
	group := r.options.Groups.open(r.limits, r.logger)
	mark := newMark()
	spec := &startSpec{Argv: argv, Env: env, Dir: r.dir.Work(), Groups: group.members(), World: r.world(s)}
	spec.Limits = r.limits.processLimits(mark, spec.World != nil)
	first, err := r.start(spec)
	if err != nil {
		group.close()
		out.start = err
		return out
	}
	cards := func(*protocol.Usage) {}
	if r.options.Cards != nil {
		cards = r.options.Cards()
	}
	proc, exited, kept := first.proc, first.exited, first.keeper
	t := newTree(proc.Pid, mark, r.dir.Work(), kept != nil)

	e := ending{tree: t, group: group}
	defer e.disarm()
	interval := firstLook
	tick := time.NewTimer(interval)
	defer tick.Stop()
	nextDisk := began.Add(r.options.Poll) // what a short module leaves is measured in the end
	done := ctx.Done()
	var hurry <-chan struct{}
	last := r.lastCall(s)
	near := last.timer()
	defer near.Stop()
	var root traffic
	var still standing
	for {
		paused, changed := r.options.Pause.state()
		select {
		case <-changed:
			paused, _ = r.options.Pause.state()
		case <-exited:
			exited = nil
			root, _ = readTraffic(proc.Pid)
			t.rootEnded()
		case <-done:
			done = nil
			if exited != nil && e.why == stopNone {
				e.why, e.detail = r.stopReason(ctx)
			}
			if exited != nil {
				r.savings.ask()
				e.ask(r.drained(last, context.Cause(ctx)))
				hurry = hurried(context.Cause(ctx))
			}
		case <-hurry:
			hurry = nil
			if exited != nil {
				e.ask(r.drained(last, context.Cause(ctx)))
			}
		case <-near.C:
			if exited != nil && e.why == stopNone {
				e.why, e.detail = last.why, last.detail
				r.savings.ask()
				e.ask(last)
			}
		case <-r.savings.told:
			e.press()
		case <-e.impatient:
			e.press()
		case <-e.killing:
			e.kill()
		case <-tick.C:
			interval = min(2*interval, r.options.Poll)
		}
		now := time.Now()
		members, memory := t.look(now, r.limits.Memory)
		if exited == nil {
			if len(members) == 0 {
				break
			}
			r.checkProcesses(&e)                            // a bomb may end its own first process
			e.terminate(min(leftoverGrace, r.limits.Grace)) // unless it is being ended already
		}
		if (e.why == stopNone || e.isPatient()) && exited != nil {
			if now.After(nextDisk) {
				// A walk of a large tree may take at most a twentieth of the time.
				nextDisk = now.Add(max(4*r.options.Poll, 20*r.disk.measure()))
			}
			r.check(&e, memory)
		}
		if err := r.log.Trim(); err != nil {
			r.logger.Warn("log is not trimmed", "err", err)
		}
		still.obey(paused && !e.ending && exited != nil, now, members)
		e.again(members)
		if e.ending && !(e.isPatient() && exited != nil) {
			interval = endingLook
		}
		tick.Reset(interval)
	}
	out.stopped, out.detail, out.groupKills = e.why, e.detail, group.kills()
	if e.why == stopWalltime && still.sum > 0 {
		// That it took too long is not its fault.
		out.stopped, out.detail = stopContext, fmt.Sprintf("%s, of which it had to stand still for %v", e.detail, still.sum.Round(time.Second))
	}
	if kept != nil {
		out.endedKept(t, first, spec, root, group)
	} else {
		out.endedPlain(t, first, root, group)
	}
	out.usage = protocol.Usage{
		WallMillis: time.Since(began).Milliseconds(), CPUMillis: t.cpu, PeakMemory: t.peak,
		ReadBytes: t.moved.Read, WriteBytes: t.moved.Written,
	}
	cards(&out.usage)
	return out
}

// world is what a module sees; nil is the node as it is.
func (r *runner) world(s *step) *world {
	isolation, read := r.options.Isolation, r.readable()
	c := s.container
	if c != nil && c.root != nil {
		isolation, read = r.options.Images.Own, append(read, c.root.Tree)
	}
	if isolation == nil {
		return nil
	}
	if c != nil && c.file != "" {
		read = append(read, c.file)
	}
	w := isolation.world(r.dir, read, r.located, r.options.HiddenDevices, int64(r.limits.Memory))
	if c != nil {
		w.Root = c.root
	}
	return &w
}

// endedPlain notes how the payload's first process ended, and what it used.
func (out *ran) endedPlain(t *tree, first *started, root traffic, group *group) {
	defer group.close()
	state, err := first.proc.Wait()
	if err != nil {
		out.start = fmt.Errorf("wait for process %d: %w", first.proc.Pid, err)
		return
	}
	out.ended(state)
	usage, _ := state.SysUsage().(*syscall.Rusage)
	t.finish(root, usage)
}

// endedKept is endedPlain for a payload that had a keeper, which tells of its end if
// it lived to do so.
func (out *ran) endedKept(t *tree, first *started, spec *startSpec, root traffic, group *group) {
	last, state, err := first.keeper.close(group.close)
	switch said := first.keeper.first; {
	case err != nil:
		out.start = fmt.Errorf("wait for process %d: %w", first.proc.Pid, err)
	case first.keeper.failure(spec) != nil:
		out.start = first.keeper.failure(spec)
	case said != nil && said.Kind == keeperEnded:
		out.wait(syscall.WaitStatus(said.Status))
	case said == nil && (state == nil || state.ExitCode() >= 0):
		out.start = fmt.Errorf("%w: the payload's keeper ended: %v", errIsolation, state)
	case state != nil:
		out.ended(state) // it was killed with its keeper
	}
	var usage *syscall.Rusage
	if state != nil {
		usage, _ = state.SysUsage().(*syscall.Rusage)
	}
	t.finishKept(root, usage, last)
}

// ended notes how a process ended, as the kernel says.
func (out *ran) ended(state *os.ProcessState) {
	if status, ok := state.Sys().(syscall.WaitStatus); ok {
		out.wait(status)
	}
}

func (out *ran) wait(status syscall.WaitStatus) {
	out.exit = status.ExitStatus()
	if status.Signaled() {
		out.exit, out.signal = 0, status.Signal()
	}
}

// start starts the first process: the payload itself, or the keeper that will.
func (r *runner) start(spec *startSpec) (*started, error) {
	if keeps.Load() {
		return startBy(spec, r.log.file)
	}
	// A program that cannot start itself as a starter isolates nothing.
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	proc, exited, err := launch(spec.Argv[0], spec.Argv, &os.ProcAttr{
		Dir: spec.Dir, Env: spec.Env, Files: []*os.File{null, r.log.file, r.log.file},
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return nil, err
	}
	for _, l := range spec.Limits {
		_ = unix.Prlimit(proc.Pid, l.Resource, &unix.Rlimit{Cur: l.Value, Max: l.Value}, nil)
	}
	pid := []byte(strconv.Itoa(proc.Pid))
	for _, group := range spec.Groups {
		_ = os.WriteFile(group, pid, 0o644) // polling still holds the limits
	}
	_ = os.WriteFile("/proc/"+string(pid)+"/oom_score_adj", oomScore, 0o644)
	return &started{proc: proc, exited: exited}, nil
}

// oomScore has the kernel, when the node runs out of memory, take the payload and
// leave the pilot to tell of it. It refuses to lower the number, never to raise it.
var oomScore = []byte("500")

// check ends the payload if it is over a limit.
func (r *runner) check(e *ending, memory protocol.ByteSize) {
	switch l := r.limits; {
	case l.Memory > 0 && memory > l.Memory:
		e.why, e.detail = stopMemory, fmt.Sprintf("used %v of memory, limit %v", memory, l.Memory)
		e.terminate(0) // every millisecond of grace is memory of others
	case r.checkProcesses(e):
	case l.Disk > 0 && r.disk.last > l.Disk:
		e.why, e.detail = stopDisk, fmt.Sprintf("used %v of scratch disk, limit %v", r.disk.last, l.Disk)
		if e.ending {
			e.terminate(0) // it had its grace
		}
		e.terminate(r.limits.Grace)
	}
}

// checkProcesses ends the payload if it has too many processes, and tells so.
func (r *runner) checkProcesses(e *ending) bool {
	if e.why != stopNone && !e.isPatient() || e.tree.count <= r.limits.Processes {
		return false
	}
	e.why, e.detail = stopProcesses, fmt.Sprintf("%d processes at once, limit %d", e.tree.count, r.limits.Processes)
	e.terminate(0)
	return true
}

// ending is how the processes of a module are brought to their end: a signal to
// all, and SIGKILL after the grace until none is left.
type ending struct {
	tree    *tree
	group   *group
	why     reason
	detail  string
	ending  bool
	told    bool // there was somebody to send the signal to
	killed  bool
	timer   *time.Timer
	killing <-chan time.Time
	// signal begins the end: SIGTERM, or what asks for a checkpoint, which SIGTERM
	// follows when impatient says so.
	signal    syscall.Signal
	deadline  time.Time // of the grace
	patience  *time.Timer
	impatient <-chan time.Time
}

// terminate begins the end; later calls can only shorten it.
func (e *ending) terminate(grace time.Duration) {
	if e.ending && grace > 0 || e.killed {
		return
	}
	e.signal = syscall.SIGTERM
	e.begin(grace)
}

// begin sends the signal, unless that was done, and gives the grace from now.
func (e *ending) begin(grace time.Duration) {
	first := !e.ending
	e.ending = true
	if grace <= 0 {
		e.kill()
		return
	}
	if first {
		e.tell(e.tree.members())
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.timer, e.deadline = time.NewTimer(grace), time.Now().Add(grace)
	e.killing = e.timer.C
}

// tell sends the signal once: a keeper may not have started its payload yet.
func (e *ending) tell(members []process) {
	e.told = len(members) > 0
	signalAll(members, e.signal)
	signalAll(members, syscall.SIGCONT) // a stopped process would not see it
}

func (e *ending) kill() {
	e.killed, e.killing = true, nil
	e.group.kill()
	// Most of a payload is in its first group, whose number its first process holds
	// until it is waited for. That group goes before anything is looked at.
	_ = syscall.Kill(-e.tree.root.pid, syscall.SIGKILL)
	e.again(e.tree.members())
}

// again kills what still lives: a process may have forked since the last time. It
// tells what did not live yet.
func (e *ending) again(members []process) {
	switch {
	case e.killed:
		signalAll(members, syscall.SIGKILL)
	case e.ending && !e.told:
		e.tell(members)
	}
}

func (e *ending) disarm() {
	for _, t := range []*time.Timer{e.timer, e.patience} {
		if t != nil {
			t.Stop()
		}
	}
}
