package payload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"floe/protocol"
)

// process is one process as /proc/PID/stat shows it. A process is named by its
// pid and its start time together: pids are reused.
type process struct {
	pid, parent    int
	group, session int
	start          uint64 // ticks since boot
	state          byte   // Z is a zombie
	ticks          int64  // user and system time, with that of children waited for
	rss            protocol.ByteSize
}

var (
	pageSize = protocol.ByteSize(os.Getpagesize())
	// The kernel shows times in USER_HZ, which is 100 on every platform Go runs on.
	millisPerTick = int64(10)
)

// readKernel reads a file of the kernel's, which tells no size: with as few calls as
// that takes, since there are many of them for each module.
func readKernel(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2<<10)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return b, nil
		default:
			if b = b[:len(b)+n]; len(b) == cap(b) {
				b = append(b, 0)[:len(b)]
			}
		}
	}
}

// readProcess reads /proc/PID/stat.
func readProcess(pid int) (process, bool) {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	return parseStat(b)
}

// parseStat reads pid (name) state ppid pgrp session …; the name may hold
// anything, also spaces and parentheses. Source: proc_pid_stat(5).
func parseStat(b []byte) (process, bool) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return process{}, false
	}
	f := strings.Fields(string(b[shut+1:]))
	if len(f) < 22 || len(f[0]) != 1 {
		return process{}, false
	}
	n := make([]int64, len(f))
	for i := 1; i < 22; i++ {
		v, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil && i != 10 { // fields that are unsigned and may not fit are not used
			v = 0
		}
		n[i] = v
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil || pid <= 0 {
		return process{}, false
	}
	return process{
		pid:     pid,
		state:   f[0][0],
		parent:  int(n[1]),
		group:   int(n[2]),
		session: int(n[3]),
		ticks:   n[11] + n[12] + n[13] + n[14],
		start:   uint64(n[19]),
		rss:     protocol.ByteSize(n[21]) * pageSize,
	}, true
}

// children lists the pids whose parent is pid, and whether the kernel has such
// lists. They may miss one while others exit; callers ask again.
func children(pid int) ([]int, bool) {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return nil, false
	}
	var out []int
	listed := false
	for _, thread := range threads {
		b, err := readKernel(tasks + "/" + thread.Name() + "/children")
		if err != nil {
			continue
		}
		listed = true
		out = append(out, pids(b)...)
	}
	return out, listed
}

// ownChildren lists the children of this process that lost their parent: the kernel
// gives them to its first thread, which Go never ends. Before Linux 3.19 it gave them
// to any.
func ownChildren() []int {
	self := os.Getpid()
	if !kernelAtLeast(3, 19) {
		all, _ := children(self)
		return all
	}
	b, _ := readKernel(fmt.Sprintf("/proc/%d/task/%d/children", self, self)) // none where there is no such list
	return pids(b)
}

func pids(list []byte) (out []int) {
	for _, field := range strings.Fields(string(list)) {
		if n, err := strconv.Atoi(field); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// everyProcess reads the whole process table: parent to children.
func everyProcess() map[int][]int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	out := make(map[int][]int)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			out[p.parent] = append(out[p.parent], pid)
		}
	}
	return out
}

// traffic is what a process, and the children it has waited for, moved with
// read and write calls, files and pipes alike.
type traffic struct{ Read, Written protocol.ByteSize }

func readTraffic(pid int) (t traffic, ok bool) {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/io")
	if err != nil {
		return t, false
	}
	return parseTraffic(b), true
}

// parseTraffic reads /proc/PID/io. Source: proc_pid_io(5).
func parseTraffic(b []byte) (t traffic) {
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "rchar":
			t.Read = protocol.ByteSize(n)
		case "wchar":
			t.Written = protocol.ByteSize(n)
		}
	}
	return t
}

// share is the memory a process has to itself plus its part of what it shares.
func share(pid int) (protocol.ByteSize, bool) {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 48)
			return protocol.ByteSize(n) << 10, err == nil
		}
	}
	return 0, false
}

// hasVariable tells whether the environment that a process was given holds an entry.
func hasVariable(pid int, entry string) bool {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for variable := range strings.SplitSeq(string(b), "\x00") {
		if variable == entry {
			return true
		}
	}
	return false
}

// mark reads the inherited mark of a process, see tree.
func mark(pid int) (uint64, bool) {
	b, err := readKernel("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max file locks"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, err := strconv.ParseUint(f[0], 10, 64)
				return n, err == nil
			}
		}
	}
	return 0, false
}

// signalAll sends s to the process groups of the processes, if these are still
// the same ones. A group is told as a whole, because the kernel lets no fork slip
// through meanwhile: a bomb that doubles faster than it is read still ends. The
// groups of a tree hold nobody else, since its root began a session.
func signalAll(members []process, s syscall.Signal) {
	told := make(map[int]bool)
	for _, p := range members {
		if told[p.group] || p.group <= 1 {
			continue
		}
		if now, ok := readProcess(p.pid); ok && now.start == p.start && now.group == p.group {
			told[p.group] = true
			_ = syscall.Kill(-p.group, s) // it may end in between, which is what was wanted
		}
	}
}
