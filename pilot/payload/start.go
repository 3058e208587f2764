package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Keep makes the process a starter of payloads, and does not return, if it was
// started as one. A program that runs payloads calls it before anything else:
// without, payloads cannot be isolated.
func Keep() {
	if len(os.Args) == 0 || os.Args[0] != starterName {
		keeps.Store(true)
		return
	}
	h := &starting{}
	// Payloads that are not isolated shall not read what others were started with.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	// What is in use is copied at each fork.
	debug.SetGCPercent(starterGC)
	debug.FreeOSMemory()
	for h.next() == nil {
	}
	os.Exit(0)
}

// starterGC keeps the starter's heap below a megabyte.
const starterGC = 15

// starting is the starter's side.
type starting struct {
	memory planMemory
	birth  birth
}

// filesLimit is the limit that this program was started with: Go's runtime has
// raised its own, and package os gives the old one to what it starts.
var filesLimit = sync.OnceValue(func() uint64 {
	out, err := exec.Command("/bin/sh", "-c", "ulimit -Sn").Output()
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0 // unlimited, as this program's own
	}
	return n
})

// next starts a process. An error is the end: the pilot's, or of their speaking
// with each other.
func (h *starting) next() error {
	length, control := make([]byte, 4), make([]byte, unix.CmsgSpace(2*4))
	n, controls, _, _, err := unix.Recvmsg(starterSocket, length, control, unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil || n < len(length) {
		return io.EOF
	}
	files, err := received(control[:controls])
	if err != nil {
		return err
	}
	defer func() {
		for _, fd := range files {
			_ = unix.Close(fd)
		}
	}()
	body, err := h.memory.of(int(binary.NativeEndian.Uint32(length)))
	if err != nil {
		return err
	}
	for at := 0; at < len(body); {
		n, err := unix.Read(starterSocket, body[at:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			return io.EOF
		default:
			at += n
		}
	}
	pid, errno := 0, syscall.EINVAL
	if len(files) == 2 && h.birth.load(body, files[0], files[1]) {
		pid, errno = h.birth.fork()
	}
	answer := binary.NativeEndian.AppendUint64(nil, uint64(int64(pid)))
	_, err = unix.Write(starterSocket, binary.NativeEndian.AppendUint64(answer, uint64(errno)))
	return err
}

// received are the descriptors that came with a message.
func received(control []byte) (files []int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, err
}

// namespaces are those of an isolated module.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC

// reportDescriptor and ioDescriptor are the new process's.
const (
	reportDescriptor = 198
	ioDescriptor     = 199
)

// plan adds the calls of a process and of its payload.
func (spec *startSpec) plan(h *planHeader, first, payload *plan) (err error) {
	first.add("reports", unix.SYS_DUP3, refersToReport, reportDescriptor, unix.O_CLOEXEC)
	first.add("log", unix.SYS_DUP3, refersToLog, 1, 0)
	first.add("log", unix.SYS_DUP3, refersToLog, 2, 0)
	first.add("", unix.SYS_CLOSE, starterSocket)
	first.add("session", unix.SYS_SETSID)
	first.prctl("end with the pilot", unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
	for _, group := range spec.Groups {
		first.write("control group", group, "0", ^uint64(0)) // polling still holds the limits
	}
	first.prctl("", unix.PR_SET_DUMPABLE, 1, 0) // else the files of this process are not its own
	first.write("", "/proc/self/oom_score_adj", string(oomScore), ^uint64(0))
	if files := filesLimit(); files > 0 {
		first.add("", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, address(first, &unix.Rlimit{Cur: files, Max: hardFiles()}), 0).ignored = ^uint64(0)
	}
	for _, l := range spec.Limits {
		first.limit(l)
	}
	last := first // where the payload's own calls are
	if spec.World != nil {
		last, h.io, h.flags = payload, ioDescriptor, namespaces
		mapUser(first)
		err = spec.World.make(first)
		first.open("count what is read", "/proc/self/io", unix.O_RDONLY, ioDescriptor)
		giveUpPower(first)
		payload.add("session", unix.SYS_SETSID)
	}
	if len(spec.Argv) > 0 {
		last.add("work directory", unix.SYS_CHDIR, last.text(spec.Dir))
		h.argv, h.env = last.strings(spec.Argv), last.strings(spec.Env)
	}
	return err
}

// hardFiles is how many files a process may open at most.
func hardFiles() uint64 {
	var l unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Max
}

// mapUser makes the process the same user in its own namespace as outside.
func mapUser(s *plan) {
	s.write("groups", "/proc/self/setgroups", "deny", ignoring(unix.ENOENT))
	s.write("user", "/proc/self/uid_map", fmt.Sprintf("%d %d 1\n", os.Getuid(), os.Getuid()), 0)
	s.write("group", "/proc/self/gid_map", fmt.Sprintf("%d %d 1\n", os.Getgid(), os.Getgid()), 0)
}

// Bits that keep a process from gaining capabilities by being root, for good.
// Source: linux/securebits.h: NOROOT, NO_SETUID_FIXUP, KEEP_CAPS and
// NO_CAP_AMBIENT_RAISE, each with its lock.
const secureBits = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7

// lastCapability is beyond what any kernel knows.
const lastCapability = 63

// giveUpPower leaves the process, and what it forks, without capabilities over the
// namespaces: nothing that was hidden can be uncovered.
func giveUpPower(s *plan) {
	for c := uintptr(0); c <= lastCapability; c++ {
		s.prctl("drop capabilities", unix.PR_CAPBSET_DROP, c, 0).ignored = ignoring(unix.EINVAL) // the kernel knows no more
	}
	s.prctl("secure bits", unix.PR_SET_SECUREBITS, secureBits, 0)
	s.prctl("ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	s.add("capabilities", unix.SYS_CAPSET, address(s, &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}), address(s, &[2]unix.CapUserData{}))
	s.prctl("no new privileges", unix.PR_SET_NO_NEW_PRIVS, 1, 0)
	s.prctl("conceal the keeper", unix.PR_SET_DUMPABLE, 0, 0)
}
