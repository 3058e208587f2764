package payload

import (
	"syscall"
	"unsafe" // for linkname, and for what system calls point to

	"golang.org/x/sys/unix"
)

// call is one system call of a plan.
type call struct {
	number  uintptr
	args    [6]uintptr
	into    int     // the descriptor that the result becomes; 0 leaves it
	ignored uint64  // refusals that do not matter, a bit each
	what    uintptr // for the reader of a refusal, with its length
	length  uintptr
}

// birth is all that a new process needs. It is complete before the fork, since the
// child may neither allocate nor call anything that might.
type birth struct {
	flags   uintptr // of clone
	calls   []call  // by the new process
	payload []call  // by the payload's first process, where that is another one
	program uintptr // zero runs nothing
	argv    uintptr
	env     uintptr
	report  uintptr // where reports go
	io      uintptr // /proc/self/io of a keeper
	kept    bool
	parent  uintptr // the pilot, as a process without namespaces of its own sees it

	said   keeperReport
	status int32
	rusage syscall.Rusage
	pause  syscall.Timespec
	tries  int
	pid    uintptr
	errno  syscall.Errno
}

// Go's own fork runs no code of ours between clone and exec, so these three are
// what package syscall does around its fork. The runtime keeps them for others.
//
//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// fork starts the process as a sibling of this one: a child of the pilot.
//
//go:noinline
//go:norace
//go:nocheckptr
func (b *birth) fork() (pid int, errno syscall.Errno) {
	beforeFork()
	b.pid, _, b.errno = syscall.RawSyscall6(unix.SYS_CLONE, b.flags|uintptr(unix.SIGCHLD)|unix.CLONE_PARENT, 0, 0, 0, 0, 0)
	if b.errno != 0 || b.pid != 0 {
		afterFork()
		return int(b.pid), b.errno
	}
	afterForkInChild()
	b.live()
	return 0, 0 // it never comes here
}

// live is the life of the new process.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *birth) live() {
	b.play(b.calls)
	if !b.kept {
		// A pilot that has ended meanwhile could not have this process end with it.
		if parent, _, _ := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); parent != b.parent {
			b.exit()
		}
		b.become()
	}
	if b.program != 0 {
		if b.say(keeperAlive); b.errno != 0 { // as above
			b.exit()
		}
		b.pid, _, b.errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		switch {
		case b.errno != 0:
			b.refuse(keeperNotStarted, nil)
		case b.pid == 0:
			b.play(b.payload)
			b.become()
		}
		b.wait()
	}
	b.say(keeperLast)
	b.exit()
}

// wait waits for every process that loses its parent, until none is left.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *birth) wait() {
	for {
		got, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&b.status)), unix.WALL, uintptr(unsafe.Pointer(&b.rusage)), 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return
		case got == b.pid:
			b.said.Status, b.said.First = int64(b.status), b.consumed()
			b.say(keeperEnded)
		}
	}
}

// become is the payload's first process, up to its program. A program that was just
// staged is busy while a process forked elsewhere in the pilot still holds the
// descriptor it was written through.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *birth) become() {
	for {
		_, _, b.errno = syscall.RawSyscall(unix.SYS_EXECVE, b.program, b.argv, b.env)
		if b.errno != unix.ETXTBSY || b.tries == 0 {
			break
		}
		b.tries--
		syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&b.pause)), 0, 0)
	}
	b.refuse(keeperNotStarted, nil)
}

// play makes the calls of a plan; the first that is refused is its end.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *birth) play(calls []call) {
	for i := range calls {
		c := &calls[i]
		r, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if errno == 0 && c.into != 0 {
			_, _, errno = syscall.RawSyscall(unix.SYS_DUP3, r, uintptr(c.into), unix.O_CLOEXEC)
			syscall.RawSyscall(unix.SYS_CLOSE, r, 0, 0)
		}
		if errno != 0 && (errno > 63 || c.ignored&(1<<errno) == 0) {
			b.errno = errno
			b.refuse(keeperRefused, c)
		}
	}
}

// refuse tells what was refused, and is the end.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *birth) refuse(kind int64, c *call) {
	b.said.Errno = int64(b.errno)
	b.say(kind)
	if c != nil {
		syscall.RawSyscall(unix.SYS_WRITE, b.report, c.what, c.length)
	}
	b.exit()
}

// say makes a report.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *birth) say(kind int64) {
	b.said.Kind = kind
	if b.io != 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, b.io, uintptr(unsafe.Pointer(&b.said.Moved)), uintptr(len(b.said.Moved)), 0, 0, 0)
		if errno == 0 {
			b.said.MovedLength = int64(n)
		}
	}
	syscall.RawSyscall(unix.SYS_GETRUSAGE, uintptr(unix.RUSAGE_SELF), uintptr(unsafe.Pointer(&b.rusage)), 0)
	b.said.Own = b.consumed()
	syscall.RawSyscall(unix.SYS_GETRUSAGE, ^uintptr(0), uintptr(unsafe.Pointer(&b.rusage)), 0) // RUSAGE_CHILDREN
	b.said.Used = b.consumed()
	_, _, b.errno = syscall.RawSyscall(unix.SYS_WRITE, b.report, uintptr(unsafe.Pointer(&b.said)), unsafe.Sizeof(b.said))
}

// consumed is what the last resource usage says.
//
//go:nosplit
//go:norace
func (b *birth) consumed() consumption {
	u := &b.rusage
	return consumption{
		CPU:  (u.Utime.Sec+u.Stime.Sec)*1000 + (u.Utime.Usec+u.Stime.Usec)/1000,
		Peak: u.Maxrss << 10,
	}
}

// exit ends the process; what it was for has been reported.
//
//go:nosplit
//go:norace
func (b *birth) exit() {
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
