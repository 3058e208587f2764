package payload

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// tree finds every process that a module's first process has brought forth.
//
// The pilot is made a child subreaper, so whatever loses its parent becomes a
// child of the pilot. To which of several payloads such an orphan belongs is told
// by its session; if it made its own, by having been seen before; and else by a
// mark: the resource limit on file locks, which Linux has ignored since 2.4, which
// every child inherits, and which nothing sets by accident. What was forked before
// the mark was set is told by FLOE_SCRATCH in its environment.
//
// A module that is isolated is kept by a process that is the tree's root and no
// part of the payload: orphans are its children, and it is not counted.
type tree struct {
	root process
	kept bool
	mark uint64
	// home is the variable by which the environment of a member names its scratch directory.
	home string
	// gone says that the root is a zombie kept only for its pid.
	gone  bool
	known map[int]uint64 // pid → start time of every member ever seen

	reaped int64   // milliseconds of processor time of orphans waited for
	moved  traffic // of the same
	peak   protocol.ByteSize
	cpu    int64 // milliseconds, the largest sum ever seen
	count  int   // members at the last look, the root included
	shared time.Time
}

var (
	lastMark  atomic.Uint64
	subreaper = sync.OnceValue(func() error {
		return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	})
)

// rlimitLocks is RLIMIT_LOCKS. Source: asm-generic/resource.h.
const rlimitLocks = 10

// markBase keeps marks away from any number a person would set.
const markBase = 1 << 40

// newMark is a mark that no other module has.
func newMark() uint64 { return markBase + uint64(os.Getpid())<<20 + lastMark.Add(1) }

// processLimits are what the kernel shall keep each process of a module to: a mark,
// no dumps of crashes, which would fill the scratch disk, and how many processes its
// user may have. The pilot needs some of its own to end a payload that makes too many.
//
// Since Linux 5.14 those of an isolated payload are counted alone. Before, and for
// root, it is the pilot's count and a control group that bound them. The bound leaves
// room above the limit, so that the pilot sees a payload that breaks it.
func (l *Limits) processLimits(mark uint64, kept bool) []resourceLimit {
	out := []resourceLimit{{rlimitLocks, mark}, {unix.RLIMIT_CORE, 0}}
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &own) != nil {
		return out
	}
	most := own.Cur
	if most != unix.RLIM_INFINITY {
		most = most / 4 * 3
	}
	if kept && kernelCountsByNamespace() {
		most = min(most, uint64(2*l.Processes+keeperProcesses))
	}
	if most < own.Max {
		out = append(out, resourceLimit{unix.RLIMIT_NPROC, most})
	}
	return out
}

// keeperProcesses is what a keeper adds to those of its payload.
const keeperProcesses = 2

// newTree adopts a process just started in a scratch directory. kept says that the
// process is a keeper.
func newTree(pid int, mark uint64, scratch string, kept bool) *tree {
	t := &tree{known: make(map[int]uint64), home: "FLOE_SCRATCH=" + scratch, kept: kept, mark: mark}
	t.root, _ = readProcess(pid)
	t.root.pid = pid
	// A module may end before the first look: the program just loaded is the least it
	// used. The kernel's quick count may still be zero then.
	if t.peak = t.root.rss; t.peak == 0 && !kept {
		t.peak, _ = share(pid)
	}
	if kept {
		t.peak = 0 // its keeper tells
	}
	t.known[pid] = t.root.start
	return t
}

// listsChildren tells whether the kernel lists the children of a process.
var listsChildren = sync.OnceValue(func() bool {
	_, ok := children(os.Getpid())
	return ok
})

// walks is how often the tree is walked for one look, at most.
const walks = 16

// rootEnded says that the root is a zombie: what it has left is the pilot's by now.
func (t *tree) rootEnded() { t.gone = !t.kept }

// members returns the living processes of the tree and waits for orphans that
// have ended. The root is left out once it is gone. What ends during a walk may
// hand its children to the pilot after the pilot's children were listed, so that
// walk is not the last.
func (t *tree) members() []process {
	for range walks - 1 {
		if members, settled := t.walk(); settled {
			return members
		}
	}
	members, _ := t.walk()
	return members
}

// walk finds the members once, and tells whether none ended meanwhile.
func (t *tree) walk() (out []process, settled bool) {
	settled = true
	self := os.Getpid()
	var listed []int
	next := func(pid int) []int { c, _ := children(pid); return c }
	if !listsChildren() {
		all := everyProcess()
		listed = all[self]
		next = func(pid int) []int { return all[pid] }
	} else if !t.kept { // else orphans are its keeper's
		listed = ownChildren()
	}
	queue := []int{t.root.pid}
	starter := theStarter.pid.Load()
	for _, pid := range listed {
		if pid != int(starter) && t.owns(pid) {
			queue = append(queue, pid)
		}
	}
	// Members whose new parent is neither of us: where the pilot is no subreaper.
	for pid := range t.known {
		queue = append(queue, pid)
	}
	seen := make(map[int]bool)
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		p, ok := readProcess(pid)
		if start, before := t.known[pid]; !ok || before && p.start != start {
			delete(t.known, pid)
			settled = settled && pid == t.root.pid
			continue
		}
		t.known[pid] = p.start
		queue = append(queue, next(pid)...)
		switch {
		case pid == t.root.pid:
			ended := p.state == 'Z'
			settled = settled && ended == t.gone
			if t.gone = t.gone || ended; !t.gone && !t.kept {
				out = append(out, p)
			}
		case p.state == 'Z' && p.parent == self:
			settled = settled && !t.reap(p)
		default:
			out = append(out, p)
		}
	}
	return out, settled
}

// owns tells whether a child of the pilot came from this tree.
func (t *tree) owns(pid int) bool {
	p, ok := readProcess(pid)
	if !ok {
		return false
	}
	if start, before := t.known[pid]; before && start == p.start {
		return true
	}
	if p.session == t.root.pid {
		return true
	}
	if m, ok := mark(pid); ok && m >= markBase {
		return m == t.mark
	}
	return hasVariable(pid, t.home)
}

// reap waits for an orphan that ended as a child of the pilot and keeps what
// it used. It tells whether the orphan is gone for good.
func (t *tree) reap(p process) bool {
	m, _ := readTraffic(p.pid)
	var usage syscall.Rusage
	if pid, err := syscall.Wait4(p.pid, nil, syscall.WNOHANG, &usage); err != nil || pid != p.pid {
		return false
	}
	t.reaped += millis(&usage)
	t.moved.Read += m.Read
	t.moved.Written += m.Written
	delete(t.known, p.pid)
	return true
}

func millis(u *syscall.Rusage) int64 {
	return (u.Utime.Nano() + u.Stime.Nano()) / int64(time.Millisecond)
}

// shareInterval is how often shared memory is told apart, which makes the
// kernel walk page tables.
const shareInterval = time.Second

// look takes stock of the tree and returns its living members and the memory
// they hold; limit decides when a closer look at shared pages is due.
func (t *tree) look(now time.Time, limit protocol.ByteSize) ([]process, protocol.ByteSize) {
	members := t.members()
	t.count = len(members)
	var memory protocol.ByteSize
	cpu := t.reaped
	for _, p := range members {
		memory += p.rss
		cpu += p.ticks * millisPerTick
	}
	t.cpu = max(t.cpu, cpu)
	if len(members) > 1 && memory > t.peak {
		over := limit > 0 && memory > limit
		if !over && now.Sub(t.shared) < shareInterval {
			return members, memory
		}
		t.shared = now
		memory = 0
		for _, p := range members {
			if s, ok := share(p.pid); ok {
				memory += s
			} else {
				memory += p.rss
			}
		}
	}
	t.peak = max(t.peak, memory)
	return members, memory
}

// finish adds what only the end tells: the root's account of itself and of the
// children it waited for, read while it is a zombie and when it is waited for.
func (t *tree) finish(root traffic, usage *syscall.Rusage) {
	t.moved.Read += root.Read
	t.moved.Written += root.Written
	if usage == nil {
		return
	}
	t.cpu = max(t.cpu, t.reaped+millis(usage))
	// The kernel counts what a process was before its program into its largest size:
	// the starter, which is small, or the pilot, of which a smaller number says nothing.
	var own syscall.Rusage
	if keeps.Load() || syscall.Getrusage(syscall.RUSAGE_SELF, &own) == nil && usage.Maxrss > own.Maxrss {
		t.peak = max(t.peak, kilobytes(usage.Maxrss))
	}
}

// finishKept is finish for a module that had a keeper: last is its last report,
// nil for none, and usage that of a keeper that ended before its time, which has
// waited for all others.
func (t *tree) finishKept(root traffic, usage *syscall.Rusage, last *keeperReport) {
	if last == nil {
		last = &keeperReport{}
	}
	moved := last.moved()
	t.moved.Read += max(root.Read, moved.Read)
	t.moved.Written += max(root.Written, moved.Written)
	t.peak = max(t.peak, protocol.ByteSize(last.Used.Peak), protocol.ByteSize(last.First.Peak))
	t.cpu = max(t.cpu, last.Used.CPU)
	if usage != nil {
		t.cpu = max(t.cpu, millis(usage)-last.Own.CPU)
	}
}

// kilobytes is a size as getrusage gives it.
func kilobytes(n int64) protocol.ByteSize { return protocol.ByteSize(n) << 10 }
