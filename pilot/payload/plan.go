package payload

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe" // what system calls point to

	"golang.org/x/sys/unix"
)

// plan gathers the system calls of a process that is yet to be made. What they point to
// lies in a pool, of which an argument says the place; see planned.go.
type plan struct {
	calls []call
	pool  *pool
	err   error // the first text that holds a zero byte
}

// pool is what the calls of a process point to.
type pool struct{ bytes []byte }

// put adds bytes where a word may lie, and returns a reference to them.
func (p *pool) put(b []byte) uintptr {
	for len(p.bytes)%wordBytes != 0 {
		p.bytes = append(p.bytes, 0)
	}
	at := uintptr(len(p.bytes))
	p.bytes = append(p.bytes, b...)
	return refersToPool | at
}

// ignoring is a set of refusals.
func ignoring(errnos ...syscall.Errno) (set uint64) {
	for _, e := range errnos {
		set |= 1 << e
	}
	return set
}

// missing are the refusals of a path that is not there, or out of reach.
var missing = ignoring(unix.ENOENT, unix.EACCES, unix.ENOTDIR)

// add adds a call, with what is said where it is refused.
func (s *plan) add(what string, number uintptr, args ...uintptr) *call {
	c := call{number: number, length: uintptr(len(what))}
	if len(what) > 0 {
		c.what = s.pool.put([]byte(what))
	}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
	return &s.calls[len(s.calls)-1]
}

// text is a C string.
func (s *plan) text(t string) uintptr {
	if strings.IndexByte(t, 0) >= 0 && s.err == nil {
		s.err = fmt.Errorf("%q: %w", t, syscall.EINVAL)
	}
	return s.pool.put(append([]byte(t), 0))
}

// address is where a value lies, which the kernel reads.
func address[T any](s *plan, p *T) uintptr {
	return s.pool.put(unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p)))
}

// here is the working directory, for calls that take a directory and a path.
const here = ^uintptr(99) // AT_FDCWD, −100

// open opens a path as a descriptor of a number that is chosen.
func (s *plan) open(what, path string, flags int, into int) *call {
	c := s.add(what, unix.SYS_OPENAT, here, s.text(path), uintptr(flags|unix.O_CLOEXEC), 0)
	c.into = into
	return c
}

// write writes a text into a file that is there.
func (s *plan) write(what, path, text string, ignored uint64) {
	s.open(what, path, unix.O_WRONLY, scratchDescriptor).ignored = ignored
	s.add(what, unix.SYS_WRITE, scratchDescriptor, s.text(text), uintptr(len(text))).ignored = ignored | ignoring(unix.EBADF)
	s.add(what, unix.SYS_CLOSE, scratchDescriptor).ignored = ignoring(unix.EBADF)
}

func (s *plan) prctl(what string, option int, a, b uintptr) *call {
	return s.add(what, unix.SYS_PRCTL, uintptr(option), a, b, 0, 0)
}

// mount is mount(2).
func (s *plan) mount(what, source, target, kind string, flags uintptr, options string) *call {
	return s.add(what, unix.SYS_MOUNT, s.text(source), s.text(target), s.text(kind), flags, s.text(options))
}

// limit bounds a resource of the process.
func (s *plan) limit(l resourceLimit) {
	s.add("limit", unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), address(s, &unix.Rlimit{Cur: l.Value, Max: l.Value}), 0).ignored = ignoring(unix.EPERM, unix.EINVAL)
}

// strings is a list of C strings, with nil behind them.
func (s *plan) strings(texts []string) uintptr {
	list := make([]uintptr, len(texts)+1)
	for i, t := range texts {
		list[i] = s.text(t)
	}
	return s.pool.put(bytesOf(list))
}
