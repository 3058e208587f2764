package payload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
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
	defer group.close()
	proc, exited, err := r.start(argv, env)
	if err != nil {
		out.start = err
		return out
	}
	t := newTree(proc.Pid, r.dir.Work())
	group.add(proc.Pid)
	// The kernel, when the node runs out of memory, shall take the payload and
	// leave the pilot to tell of it. It refuses to lower the number, never to raise it.
	_ = os.WriteFile("/proc/"+strconv.Itoa(proc.Pid)+"/oom_score_adj", []byte("500"), 0o644)

	e := ending{tree: t, group: group}
	defer e.disarm()
	interval := firstLook
	tick := time.NewTimer(interval)
	defer tick.Stop()
	nextDisk := began
	done := ctx.Done()
	var root traffic
	for {
		select {
		case <-exited:
			exited = nil
			root, _ = readTraffic(proc.Pid)
		case <-done:
			done = nil
			if exited != nil && e.why == stopNone {
				e.why, e.detail = r.stopReason(ctx)
				e.terminate(r.limits.Grace)
			}
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
			e.terminate(min(leftoverGrace, r.limits.Grace)) // unless it is being ended already
		}
		if e.why == stopNone && exited != nil {
			if now.After(nextDisk) {
				// A walk of a large tree may take at most a twentieth of the time.
				nextDisk = now.Add(max(4*r.options.Poll, 20*r.disk.measure()))
			}
			r.check(&e, memory)
		}
		if err := r.log.Trim(); err != nil {
			r.logger.Warn("log is not trimmed", "err", err)
		}
		e.again(members)
		if e.ending {
			interval = endingLook
		}
		tick.Reset(interval)
	}
	state, err := proc.Wait()
	if err != nil {
		out.start = fmt.Errorf("wait for process %d: %w", proc.Pid, err)
		return out
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok {
		out.exit = status.ExitStatus()
		if status.Signaled() {
			out.exit, out.signal = 0, status.Signal()
		}
	}
	usage, _ := state.SysUsage().(*syscall.Rusage)
	t.finish(root, usage)
	out.stopped, out.detail, out.groupKills = e.why, e.detail, group.kills()
	out.usage = protocol.Usage{
		WallMillis: time.Since(began).Milliseconds(), CPUMillis: t.cpu, PeakMemory: t.peak,
		ReadBytes: t.moved.read, WriteBytes: t.moved.written,
	}
	return out
}

// start starts the first process and returns a channel that closes when it has
// ended; it stays a zombie, so that its pid names nothing else.
func (r *runner) start(argv, env []string) (*os.Process, <-chan struct{}, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	type started struct {
		proc *os.Process
		err  error
	}
	first, exited := make(chan started, 1), make(chan struct{})
	go func() {
		// The kernel sends Pdeathsig when the thread that started the process ends,
		// so that thread is kept until the process has ended itself.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		attr := &os.ProcAttr{
			Dir: r.dir.Work(), Env: env, Files: []*os.File{null, r.log.file, r.log.file},
			Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		}
		proc, err := os.StartProcess(argv[0], argv, attr)
		// A program just staged is busy while a process forked elsewhere in the pilot
		// still holds the descriptor it was written through.
		for tries := 0; errors.Is(err, syscall.ETXTBSY) && tries < 50; tries++ {
			<-time.After(firstLook)
			proc, err = os.StartProcess(argv[0], argv, attr)
		}
		first <- started{proc, err}
		if err != nil {
			return
		}
		for {
			err := unix.Waitid(unix.P_PID, proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if err != unix.EINTR {
				break
			}
		}
		close(exited)
	}()
	s := <-first
	return s.proc, exited, s.err
}

// check ends the payload if it is over a limit.
func (r *runner) check(e *ending, memory protocol.ByteSize) {
	switch l := r.limits; {
	case l.Memory > 0 && memory > l.Memory:
		e.why, e.detail = stopMemory, fmt.Sprintf("used %v of memory, limit %v", memory, l.Memory)
		e.terminate(0) // every millisecond of grace is memory of others
	case e.tree.count > l.Processes:
		e.why, e.detail = stopProcesses, fmt.Sprintf("%d processes at once, limit %d", e.tree.count, l.Processes)
		e.terminate(0)
	case l.Disk > 0 && r.disk.last > l.Disk:
		e.why, e.detail = stopDisk, fmt.Sprintf("used %v of scratch disk, limit %v", r.disk.last, l.Disk)
		e.terminate(r.limits.Grace)
	}
}

// ending is how the processes of a module are brought to their end: SIGTERM to
// all, and SIGKILL after the grace until none is left.
type ending struct {
	tree    *tree
	group   *group
	why     reason
	detail  string
	ending  bool
	killed  bool
	timer   *time.Timer
	killing <-chan time.Time
}

// terminate begins the end; later calls can only shorten it.
func (e *ending) terminate(grace time.Duration) {
	if e.ending {
		return
	}
	e.ending = true
	if grace <= 0 {
		e.kill()
		return
	}
	members := e.tree.members()
	signalAll(members, syscall.SIGTERM)
	signalAll(members, syscall.SIGCONT) // a stopped process would not see it
	e.timer = time.NewTimer(grace)
	e.killing = e.timer.C
}

func (e *ending) kill() {
	e.killed, e.killing = true, nil
	e.group.kill()
	// Most of a payload is in its first group, whose number its first process holds
	// until it is waited for. That group goes before anything is looked at.
	_ = syscall.Kill(-e.tree.root.pid, syscall.SIGKILL)
	e.again(e.tree.members())
}

// again kills what still lives: a process may have forked since the last time.
func (e *ending) again(members []process) {
	if e.killed {
		signalAll(members, syscall.SIGKILL)
	}
}

func (e *ending) disarm() {
	if e.timer != nil {
		e.timer.Stop()
	}
}
