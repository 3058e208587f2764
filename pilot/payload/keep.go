package payload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keep makes the process a keeper, and does not return, if it was started as one.
// A program that isolates payloads calls it before anything else.
func Keep() {
	if len(os.Args) == 0 || os.Args[0] != keeperName {
		keeps.Store(true)
		return
	}
	k := &keeping{spec: os.NewFile(specDescriptor, "spec"), reports: json.NewEncoder(os.NewFile(reportDescriptor, "reports"))}
	if err := k.run(); err != nil {
		k.say(func(r *keeperReport) {
			// The kernel's word is kept apart from ours, so that the pilot can judge it.
			r.Failed = err.Error()
			var errno syscall.Errno
			if errors.As(err, &errno) {
				r.Errno = errno
				r.Failed = trimErrno(r.Failed, errno)
			}
			var start *startError
			if errors.As(err, &start) {
				r.Failed, r.Start = start.program, true
			}
		})
	}
	os.Exit(0)
}

// keeping is the keeper's side.
type keeping struct {
	spec    *os.File
	reports *json.Encoder
	io      *os.File // /proc/self/io, opened while that is allowed
	report  keeperReport
}

// startError says that the payload's program could not be started.
type startError struct {
	program string
	err     error
}

func (e *startError) Error() string { return "start " + e.program + ": " + e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

func trimErrno(text string, errno syscall.Errno) string {
	suffix := ": " + errno.Error()
	if n := len(text) - len(suffix); n > 0 && text[n:] == suffix {
		return text[:n]
	}
	return text
}

// run is the life of a keeper.
func (k *keeping) run() error {
	// The first process of a pid namespace is told of a signal only if it asks for it,
	// but for those of the pilot, which are meant for the payload.
	signal.Notify(make(chan os.Signal, 1))
	syscall.CloseOnExec(specDescriptor)
	syscall.CloseOnExec(reportDescriptor)
	// Power is given up by threads: the one that does so starts the payload.
	runtime.LockOSThread()
	var spec keeperSpec
	if err := json.NewDecoder(k.spec).Decode(&spec); err != nil {
		return err
	}
	if err := spec.World.make(); err != nil {
		return err
	}
	var err error
	if k.io, err = os.Open("/proc/self/io"); err != nil {
		return err
	}
	if err := giveUpPower(); err != nil {
		return err
	}
	if len(spec.Argv) == 0 {
		k.say(func(*keeperReport) {})
		return nil
	}
	pid, err := startPayload(&spec)
	if err != nil {
		return &startError{spec.Argv[0], err}
	}
	k.say(func(r *keeperReport) {
		r.Started = true
		if p, ok := readProcess(pid); ok && p.rss > 0 {
			r.First = p.rss
		} else {
			r.First, _ = share(pid)
		}
	})
	finish := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, k.spec)
		close(finish)
	}()
	ended := make(chan syscall.WaitStatus, 1)
	go wait(pid, ended)
	for {
		select {
		case status := <-ended:
			k.say(func(r *keeperReport) {
				r.Ended, r.Exit = true, status.ExitStatus()
				if status.Signaled() {
					r.Exit, r.Signal = 0, status.Signal()
				}
			})
		case <-finish:
			k.say(func(*keeperReport) {})
			return nil
		}
	}
}

// wait waits for every process that loses its parent, and tells of the end of one.
func wait(pid int, ended chan<- syscall.WaitStatus) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return // no process is left
		case got == pid:
			ended <- status
		}
	}
}

// say reports what has become of the payload since the last report.
func (k *keeping) say(change func(*keeperReport)) {
	r := &k.report
	change(r)
	r.Own, r.Used = usage(syscall.RUSAGE_SELF), usage(syscall.RUSAGE_CHILDREN)
	if k.io != nil {
		b := make([]byte, 1<<10)
		if n, err := k.io.ReadAt(b, 0); n > 0 && (err == nil || err == io.EOF) {
			r.Moved = parseTraffic(b[:n])
		}
	}
	_ = k.reports.Encode(r) // the pilot may be gone, and then so is this process
}

func usage(who int) (c consumption) {
	var u syscall.Rusage
	if syscall.Getrusage(who, &u) == nil {
		c.CPU, c.Peak = millis(&u), kilobytes(u.Maxrss)
	}
	return c
}

// Bits that keep a process from gaining capabilities by being root, for good.
// Source: linux/securebits.h: NOROOT, NO_SETUID_FIXUP, KEEP_CAPS and
// NO_CAP_AMBIENT_RAISE, each with its lock.
const secureBits = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7

// giveUpPower leaves this thread, and what it starts, without capabilities over
// the namespaces: nothing that was hidden can be uncovered. Other threads of the
// keeper keep theirs; no payload can make them do anything.
func giveUpPower() error {
	prctl := func(what string, option int, a, b uintptr) error {
		if err := unix.Prctl(option, a, b, 0, 0); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	for c := uintptr(0); c < 64; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, syscall.EINVAL) {
			break // the kernel knows no more
		} else if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return errors.Join(
		prctl("secure bits", unix.PR_SET_SECUREBITS, secureBits, 0),
		prctl("ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0),
		unix.Capset(&header, &none[0]),
		prctl("no new privileges", unix.PR_SET_NO_NEW_PRIVS, 1, 0),
		prctl("conceal the keeper", unix.PR_SET_DUMPABLE, 0, 0),
	)
}

// startPayload starts the payload's first process in a session of its own.
func startPayload(spec *keeperSpec) (pid int, err error) {
	attr := &syscall.ProcAttr{Dir: spec.Dir, Env: spec.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
	err = patiently(func() error {
		pid, err = syscall.ForkExec(spec.Argv[0], spec.Argv, attr)
		return err
	})
	return pid, err
}

// patiently starts a program that may be busy: one that was just staged is while a
// process forked elsewhere in the pilot still holds the descriptor it was written
// through.
func patiently(start func() error) error {
	err := start()
	for tries := 0; errors.Is(err, syscall.ETXTBSY) && tries < 50; tries++ {
		<-time.After(firstLook)
		err = start()
	}
	return err
}
