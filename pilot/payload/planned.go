package payload

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe" // for memory as it is

	"golang.org/x/sys/unix"
)

// What a process does is planned by the pilot and sent to the starter, which is the
// same program: a header, the calls, those of the payload, and the pool of what they
// point to, each as it lies in memory. The starter reads all that to one place and turns
// references into addresses; it makes nothing of its own, so that there is little to
// copy when it forks.
type planHeader struct {
	calls, payload, pool uintptr // how many, and bytes
	argv, env            uintptr // references to lists of references, which end with zero
	flags, report, io    uintptr
	parent               uintptr
	tries                int
	pause                syscall.Timespec
	kept                 bool
}

// The first byte of an argument that is not what it says, but stands for something.
// Neither a number nor a negative one begins so.
const (
	kindOfReference = uintptr(0xff) << (8 * (wordBytes - 1))
	refersToPool    = uintptr(0x4f) << (8 * (wordBytes - 1)) // the address of what is that far into the pool
	refersToLog     = uintptr(0x4e) << (8 * (wordBytes - 1)) // the descriptor of the log
	refersToReport  = uintptr(0x4d) << (8 * (wordBytes - 1)) // and of the pipe for reports

	wordBytes = int(unsafe.Sizeof(uintptr(0)))
)

// bytesOf is a list as it lies in memory.
func bytesOf[T any](list []T) []byte {
	if len(list) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&list[0])), len(list)*int(unsafe.Sizeof(list[0])))
}

// planned is what a process does, as it is sent. An error is errIsolation, or, as that of
// package os, says that an argument or a variable is none.
func (spec *startSpec) planned() ([]byte, error) {
	pool := &pool{}
	first, payload := &plan{pool: pool}, &plan{pool: pool}
	h := []planHeader{{
		report: reportDescriptor, kept: spec.World != nil, parent: uintptr(os.Getpid()), tries: busyTries, pause: syscall.NsecToTimespec(firstLook.Nanoseconds()),
	}}
	if err := spec.plan(&h[0], first, payload); err != nil {
		return nil, fmt.Errorf("%w: %w", errIsolation, err)
	}
	if err := errors.Join(first.err, payload.err); err != nil {
		return nil, &os.PathError{Op: "fork/exec", Path: strings.Join(spec.Argv[:min(1, len(spec.Argv))], ""), Err: err}
	}
	h[0].calls, h[0].payload, h[0].pool = uintptr(len(first.calls)), uintptr(len(payload.calls)), uintptr(len(pool.bytes))
	out := make([]byte, 0, int(unsafe.Sizeof(h[0]))+(len(first.calls)+len(payload.calls))*int(unsafe.Sizeof(call{}))+len(pool.bytes))
	for _, part := range [][]byte{bytesOf(h), bytesOf(first.calls), bytesOf(payload.calls), pool.bytes} {
		out = append(out, part...)
	}
	return out, nil
}

// planMemory is where the starter has what was sent.
type planMemory struct{ bytes []byte }

// of returns room for so many bytes.
func (m *planMemory) of(n int) ([]byte, error) {
	if n > len(m.bytes) {
		const step = 1 << 18
		more, err := unix.Mmap(-1, 0, (n+step-1)/step*step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return nil, err
		}
		if m.bytes != nil {
			_ = unix.Munmap(m.bytes)
		}
		m.bytes = more
	}
	return m.bytes[:n], nil
}

// load makes a birth of what was sent, in its own place. It fails where the sizes do
// not fit.
func (b *birth) load(sent []byte, log, report int) bool {
	if len(sent) < int(unsafe.Sizeof(planHeader{})) {
		return false
	}
	h := (*planHeader)(unsafe.Pointer(&sent[0]))
	size, from := unsafe.Sizeof(call{}), unsafe.Sizeof(*h)
	room := uintptr(len(sent))
	if h.calls == 0 || h.pool == 0 || h.calls > room || h.payload > room || from+(h.calls+h.payload)*size+h.pool != room {
		return false
	}
	all := unsafe.Slice((*call)(unsafe.Pointer(&sent[from])), h.calls+h.payload)
	pool := sent[from+(h.calls+h.payload)*size:]
	base := uintptr(unsafe.Pointer(&pool[0]))
	resolve := func(a *uintptr) {
		switch *a & kindOfReference {
		case refersToPool:
			*a = base + *a&^kindOfReference
		case refersToLog:
			*a = uintptr(log)
		case refersToReport:
			*a = uintptr(report)
		}
	}
	for i := range all {
		c := &all[i]
		resolve(&c.what)
		for k := range c.args {
			resolve(&c.args[k])
		}
	}
	*b = birth{
		flags: h.flags, calls: all[:h.calls], payload: all[h.calls:], report: h.report, io: h.io, kept: h.kept, parent: h.parent, tries: h.tries, pause: h.pause,
	}
	if h.argv == 0 {
		return true
	}
	for _, list := range []*uintptr{&h.argv, &h.env} {
		at := *list &^ kindOfReference
		if at%uintptr(wordBytes) != 0 || at >= h.pool {
			return false
		}
		words := unsafe.Slice((*uintptr)(unsafe.Pointer(&pool[at])), (h.pool-at)/uintptr(wordBytes))
		for i := 0; i < len(words) && words[i] != 0; i++ {
			resolve(&words[i])
		}
		if list == &h.argv {
			b.program = words[0]
		}
		resolve(list)
	}
	b.argv, b.env = h.argv, h.env
	return true
}
