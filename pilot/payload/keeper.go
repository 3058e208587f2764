package payload

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"floe/protocol"
)

// A keeper is the first process of an isolated module's namespaces: this program
// once more, started under the name keeperName. It builds the world that the
// payload sees, gives up all power over it, starts the payload, waits for every
// process that loses its parent, and tells the pilot how the first one ended.
// When it ends, the kernel ends all that is left in its namespaces.
//
// Pilot and keeper speak over two pipes, in JSON:
//
//	3  pilot → keeper   one keeperSpec; the end of the pipe ends the keeper
//	4  keeper → pilot   a keeperReport when the payload is started or something was
//	                    refused, one when its first process has ended, one at the end
//
// The payload inherits neither.
const keeperName = "floe-keeper"

const (
	specDescriptor   = 3
	reportDescriptor = 4
)

// keeperSpec is what to run, in which world. Without arguments nothing is run:
// the world is tried.
type keeperSpec struct {
	World     world
	Argv, Env []string
	Dir       string
}

// keeperReport is how far the payload has come.
type keeperReport struct {
	// Failed says what was refused, and Errno how, where the kernel did; Start says
	// that it was the payload's own start.
	Failed string
	Errno  syscall.Errno
	Start  bool
	// Started and Ended are of the payload's first process.
	Started, Ended bool
	Exit           int
	Signal         syscall.Signal
	// First is the memory of the payload right after its start.
	First protocol.ByteSize
	// Own is what the keeper used, Used all that it has waited for, Moved both.
	Own, Used consumption
	Moved     traffic
}

// consumption is processor time in milliseconds, and the largest size of a process.
type consumption struct {
	CPU  int64
	Peak protocol.ByteSize
}

// err is what the keeper says went wrong in building the payload's world.
func (r *keeperReport) err() error {
	switch {
	case r.Failed == "":
		return nil
	case r.Errno != 0 && r.Start:
		return &os.PathError{Op: "fork/exec", Path: r.Failed, Err: r.Errno}
	case r.Errno != 0:
		return fmt.Errorf("%w: %s: %w", errIsolation, r.Failed, r.Errno)
	}
	return fmt.Errorf("%w: %s", errIsolation, r.Failed)
}

// errIsolation: the world of a payload could not be made.
var errIsolation = errors.New("isolation")

// keeper is the pilot's side.
type keeper struct {
	spec *os.File
	// first is the report that closed ended, last what is known in the end; each may
	// be read once its channel is closed.
	first, last *keeperReport
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

// namespaces are those of an isolated module.
const namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC

// Capabilities of the keeper, within its own namespaces. Source: linux/capability.h.
const (
	capSetPCap  = 8
	capSysAdmin = 21
)

// startKeeper starts a keeper that waits for what to do.
func startKeeper(log *os.File) (*started, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	specRead, spec, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer specRead.Close()
	reports, reportWrite, err := os.Pipe()
	if err != nil {
		_ = spec.Close()
		return nil, err
	}
	defer reportWrite.Close()
	user := []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	group := []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	proc, gone, err := launch("/proc/self/exe", []string{keeperName}, &os.ProcAttr{
		// A payload can read its keeper's environment.
		Dir: "/", Env: []string{"GOMAXPROCS=2"}, Files: []*os.File{null, log, log, specRead, reportWrite},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces,
			UidMappings: user, GidMappings: group,
			// Without these, all power is lost when a user other than root executes a program.
			AmbientCaps: []uintptr{capSetPCap, capSysAdmin},
		},
	})
	if err != nil {
		_, _ = spec.Close(), reports.Close()
		return nil, fmt.Errorf("%w: %w", errIsolation, err)
	}
	k := &keeper{spec: spec, ended: make(chan struct{}), done: make(chan struct{})}
	go k.listen(reports, gone)
	return &started{proc, k.ended, k}, nil
}

// send says what to do. A keeper that is gone says so by its end.
func (k *keeper) send(spec *keeperSpec) {
	_ = json.NewEncoder(k.spec).Encode(spec)
}

// listen reads the keeper's reports to their end, which is the keeper's.
func (k *keeper) listen(reports *os.File, gone <-chan struct{}) {
	defer close(k.done)
	defer reports.Close()
	decoder := json.NewDecoder(reports)
	for {
		r := new(keeperReport)
		if decoder.Decode(r) != nil {
			break
		}
		k.last = r
		if k.first == nil && (r.Ended || r.Failed != "" || !r.Started) {
			k.first = r
			close(k.ended)
		}
	}
	<-gone
	if k.first == nil {
		k.first = k.last // it was started, at most
		close(k.ended)
	}
}

// close ends the keeper, and with it what is left, and returns its last report:
// nil if it never made one.
func (k *keeper) close() *keeperReport {
	_ = k.spec.Close()
	<-k.done
	return k.last
}
