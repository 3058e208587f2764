package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The starter is this program once more, started once per pilot under the name
// starterName. It is small and knows nothing of the pilot, and forks a process for
// each module (start.go), which becomes a child of the pilot. Without isolation
// that process becomes the payload. With isolation it is a keeper, the first
// process of the module's namespaces: it builds the world that the payload sees,
// gives up all power over it, forks the payload, waits for every process that loses
// its parent, and tells the pilot how the first one ended. When it ends, the kernel
// ends all that is left in its namespaces.
//
// A keeper is made of bare system calls, which the pilot has prepared (fork.go):
// it neither executes a program nor runs any other code of this one, so that it is
// there in the time that a fork takes.
//
// Pilot and starter speak over a socket: a length of 4 bytes and what the process
// does (planned.go), with the log and the writing end of a pipe; back come the process and the
// kernel's refusal, 8 bytes each. Through the pipe the new process sends
// keeperReports, and after one that says what was refused the text of it.
const (
	starterName = "floe-keeper"
	// starterSocket is the starter's end of the socket.
	starterSocket = 3
	answerBytes   = 16
)

// startSpec is what to run, and in which world; nil runs it in the node's. Without
// arguments nothing is run: the world is tried.
type startSpec struct {
	World     *world
	Argv, Env []string
	Dir       string
	// Groups are the cgroup.procs files of the groups to be in.
	Groups []string
	Limits []resourceLimit
}

// resourceLimit is soft and hard limit of a resource.
type resourceLimit struct {
	Resource int
	Value    uint64
}

// Kinds of reports.
const (
	keeperRefused    = iota + 1 // something that the world needs
	keeperNotStarted            // the payload's own program
	keeperAlive                 // the world is made
	keeperEnded                 // the payload's first process has ended
	keeperLast                  // no process is left
)

// keeperReport is how far a process has come, as it lies in its memory.
type keeperReport struct {
	Kind, Errno int64
	// Status is how the payload's first process ended, as wait4 gives it.
	Status int64
	// First is what that process used with those it has waited for, Own what the
	// keeper used, Used all that it has waited for. Moved has both, as /proc has it.
	First, Own, Used consumption
	MovedLength      int64
	Moved            [512]byte
}

// consumption is processor time in milliseconds, and the largest size of a process.
type consumption struct{ CPU, Peak int64 }

// errIsolation: the world of a payload could not be made.
var errIsolation = errors.New("isolation")

// starter is the pilot's side.
type starter struct {
	pid    atomic.Int64 // zero where there is none
	mu     sync.Mutex
	socket *net.UnixConn // nil where there is none, or none any more
}

// theStarter is this process's.
var theStarter starter

// start starts a process as it was planned, which writes to log and reports to pipe. An error of the
// starter is no fault of the payload.
func (s *starter) start(body []byte, log, pipe *os.File) (pid int, err error) {
	message := append(binary.NativeEndian.AppendUint32(nil, uint32(len(body))), body...)
	s.mu.Lock()
	defer s.mu.Unlock()
	// The kernel may have ended the starter when the node ran out of memory.
	for try := 0; ; try++ {
		if s.socket == nil {
			if err := s.begin(); err != nil {
				return 0, err
			}
		}
		answer, err := s.ask(message, log, pipe)
		if err == nil {
			pid = int(int64(binary.NativeEndian.Uint64(answer)))
			if errno := syscall.Errno(binary.NativeEndian.Uint64(answer[8:])); errno != 0 {
				return 0, os.NewSyscallError("clone", errno)
			}
			return pid, nil
		}
		_ = s.socket.Close()
		s.socket = nil
		if try > 0 {
			return 0, fmt.Errorf("starter: %w", err)
		}
	}
}

func (s *starter) ask(message []byte, log, pipe *os.File) ([]byte, error) {
	n, _, err := s.socket.WriteMsgUnix(message, unix.UnixRights(int(log.Fd()), int(pipe.Fd())), nil)
	if err == nil && n < len(message) {
		_, err = s.socket.Write(message[n:])
	}
	runtime.KeepAlive(log)
	runtime.KeepAlive(pipe)
	if err != nil {
		return nil, err
	}
	answer := make([]byte, answerBytes)
	_, err = io.ReadFull(s.socket, answer)
	return answer, err
}

// begin starts the starter, which ends with this process.
func (s *starter) begin() error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "starter"), os.NewFile(uintptr(ends[1]), "pilot")
	defer ours.Close()
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	proc, gone, err := launch("/proc/self/exe", []string{starterName}, &os.ProcAttr{
		// A payload that is not isolated can read its environment.
		Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []*os.File{null, null, null, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return err
	}
	s.pid.Store(int64(proc.Pid))
	go func() {
		<-gone
		s.pid.CompareAndSwap(int64(proc.Pid), 0) // its number may be another's from now on
		_, _ = proc.Wait()                       // its end is seen at the socket
	}()
	socket, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	s.socket = socket.(*net.UnixConn)
	return nil
}

// keeper is the pilot's side of a process that reports.
type keeper struct {
	proc *os.Process
	// first is the report that closed ended, last what is known in the end; each may
	// be read once its channel is closed.
	first, last *keeperReport
	refused     string // what was, if first says so
	ended, done chan struct{}
}

// started is a module's first process as the pilot knows it: the payload's own,
// or its keeper.
type started struct {
	proc *os.Process
	// exited closes when the payload's first process has ended.
	exited <-chan struct{}
	keeper *keeper // nil without isolation
}

// startBy starts a process through the starter.
func startBy(spec *startSpec, log *os.File) (*started, error) {
	body, err := spec.planned()
	if err != nil {
		return nil, err
	}
	reports, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	pid, err := theStarter.start(body, log, pipe)
	_ = pipe.Close()
	var proc *os.Process
	if err == nil {
		proc, err = os.FindProcess(pid)
	}
	if err != nil {
		_ = reports.Close()
		return nil, fmt.Errorf("%w: %w", errIsolation, err)
	}
	k := &keeper{proc: proc, ended: make(chan struct{}), done: make(chan struct{})}
	if spec.World != nil {
		go k.listen(reports)
		return &started{proc, k.ended, k}, nil
	}
	// The program closes the pipe when it begins; who could not begin says why.
	k.listen(reports)
	if k.first != nil {
		_, _ = proc.Wait() // it ended itself
		return nil, k.failure(spec)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		awaitEnd(pid)
	}()
	return &started{proc: proc, exited: exited}, nil
}

// listen reads the reports until no process of the payload is left: to the last
// one, or to the end of the pipe, which is that of the process, or of its being part
// of this program.
func (k *keeper) listen(reports *os.File) {
	defer close(k.done)
	defer reports.Close()
	b := make([]byte, binary.Size(keeperReport{}))
	for k.last == nil || k.last.Kind != keeperLast {
		if _, err := io.ReadFull(reports, b); err != nil {
			break
		}
		r := new(keeperReport)
		if _, err := binary.Decode(b, binary.NativeEndian, r); err != nil {
			break // the size is its own
		}
		k.last = r
		if r.Kind == keeperRefused {
			text, _ := io.ReadAll(io.LimitReader(reports, 4<<10))
			k.refused = string(text)
		}
		if k.first == nil && r.Kind != keeperAlive {
			k.first = r
			close(k.ended)
		}
	}
	if k.first == nil {
		if k.last != nil {
			k.first = k.last // it was alive, at most
		}
		close(k.ended)
	}
}

// close waits until no process of the payload is left, and returns the last report:
// nil if there never was one. A keeper that came to its own end may take a while to
// be gone: the kernel has its namespaces to clear away. Nobody waits for that; then is
// done afterwards.
func (k *keeper) close(then func()) (last *keeperReport, state *os.ProcessState, err error) {
	<-k.done
	if k.last != nil && k.last.Kind == keeperLast {
		go func() {
			_, _ = k.proc.Wait() // it has told all
			then()
		}()
		return k.last, nil, nil
	}
	defer then()
	state, err = k.proc.Wait()
	return k.last, state, err
}

// failure is what the reports say was refused: nil where the payload was started.
func (k *keeper) failure(spec *startSpec) error {
	switch r := k.first; {
	case r == nil:
		return nil
	case r.Kind == keeperNotStarted:
		return &os.PathError{Op: "fork/exec", Path: spec.Argv[0], Err: syscall.Errno(r.Errno)}
	case r.Kind == keeperRefused:
		err := fmt.Errorf("%s: %w", k.refused, syscall.Errno(r.Errno))
		if spec.World != nil {
			err = fmt.Errorf("%w: %w", errIsolation, err)
		}
		return err
	}
	return nil
}

// moved is what /proc said of a report's process and those it has waited for.
func (r *keeperReport) moved() traffic {
	return parseTraffic(r.Moved[:max(0, min(r.MovedLength, int64(len(r.Moved))))])
}

// awaitEnd waits until a child has ended and leaves it a zombie, so that its number
// names nothing else.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// launch starts a process and returns a channel that closes when it has ended; it
// stays a zombie.
func launch(program string, argv []string, attr *os.ProcAttr) (*os.Process, <-chan struct{}, error) {
	type result struct {
		proc *os.Process
		err  error
	}
	first, exited := make(chan result, 1), make(chan struct{})
	go func() {
		// The kernel sends Pdeathsig when the thread that started the process ends,
		// so that thread is kept until the process has ended itself.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var proc *os.Process
		err := patiently(func() (err error) {
			proc, err = os.StartProcess(program, argv, attr)
			return err
		})
		first <- result{proc, err}
		if err != nil {
			return
		}
		awaitEnd(proc.Pid)
		close(exited)
	}()
	s := <-first
	return s.proc, exited, s.err
}

// patiently starts a program that may be busy: one that was just staged is while a
// process forked elsewhere in the pilot still holds the descriptor it was written
// through.
func patiently(start func() error) error {
	err := start()
	for tries := 0; errors.Is(err, syscall.ETXTBSY) && tries < busyTries; tries++ {
		<-time.After(firstLook)
		err = start()
	}
	return err
}

// busyTries is how often a busy program is tried again.
const busyTries = 50
