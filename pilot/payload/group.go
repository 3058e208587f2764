package payload

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Groups makes a control group for each module where the batch system lets the
// pilot: then the kernel itself holds the memory limit, and its word on why a
// process was killed is exact. Without them the pilot polls. Nil makes none.
type Groups struct {
	dir    string // own group: new ones are made below it
	memory string // name of the limit's file
	made   atomic.Uint64
}

// FindGroups looks for a control group of this process with a memory limit that
// it may divide: version 2 where the memory controller is delegated, or version 1.
// It returns nil where there is none.
func FindGroups() *Groups { return findGroups(false) }

// DivideGroups is FindGroups for a pilot: where its own group of version 2 is
// delegated and holds nobody else, it moves into a leaf of its own, so that there
// can be groups beside it.
func DivideGroups() *Groups { return findGroups(true) }

func findGroups(mayDivide bool) *Groups {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		g := &Groups{}
		switch parts[1] {
		case "":
			g.dir, g.memory = filepath.Join("/sys/fs/cgroup", parts[2]), "memory.max"
		case "memory":
			g.dir, g.memory = filepath.Join("/sys/fs/cgroup/memory", parts[2]), "memory.limit_in_bytes"
		default:
			continue
		}
		if g.usable() {
			return g
		}
		if mayDivide && parts[1] == "" && divide(g.dir, "memory") == nil && g.usable() {
			// Without it the pilot counts processes.
			_ = os.WriteFile(filepath.Join(g.dir, "cgroup.subtree_control"), []byte("+pids"), 0o644)
			return g
		}
	}
	return nil
}

// usable tries: permissions alone do not tell whether a controller is delegated.
func (g *Groups) usable() bool {
	dir, err := g.make()
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	_, err = os.Stat(filepath.Join(dir, g.memory))
	return err == nil
}

func (g *Groups) make() (string, error) {
	dir := filepath.Join(g.dir, fmt.Sprintf("floe-%d-%d", os.Getpid(), g.made.Add(1)))
	return dir, os.Mkdir(dir, 0o755)
}

// group is the control group of one module; a nil group does nothing.
type group struct {
	dir    string
	events string
}

// open makes a group with the memory limit, or nil where that fails.
func (g *Groups) open(l Limits, logger *slog.Logger) *group {
	if g == nil || l.Memory <= 0 {
		return nil
	}
	dir, err := g.make()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, g.memory), []byte(strconv.FormatInt(int64(l.Memory), 10)), 0o644)
	}
	if err != nil {
		logger.Debug("no control group", "err", err)
		if dir != "" {
			_ = os.Remove(dir)
		}
		return nil
	}
	_ = os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.Itoa(2*l.Processes+keeperProcesses)), 0o644) // where it is delegated, too
	events := "memory.events"
	if g.memory != "memory.max" {
		events = "memory.oom_control"
	}
	return &group{dir, filepath.Join(dir, events)}
}

// members are the files that a process writes itself into.
func (g *group) members() []string {
	if g == nil {
		return nil
	}
	return []string{filepath.Join(g.dir, "cgroup.procs")}
}

// kills counts the processes the kernel killed at the group's limit.
func (g *group) kills() int {
	if g == nil {
		return 0
	}
	b, err := os.ReadFile(g.events)
	if err != nil {
		return 0
	}
	return int(counter(b, "oom_kill"))
}

// kill ends all processes of the group at once, where the kernel can.
func (g *group) kill() {
	if g != nil {
		_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0o644) // since Linux 5.14; else one by one
	}
}

// close removes the group. The kernel may hold an empty group for an instant
// after its last process was waited for.
func (g *group) close() {
	if g == nil {
		return
	}
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for range 100 {
		if err := os.Remove(g.dir); err == nil || os.IsNotExist(err) {
			return
		}
		<-retry.C
	}
}

// counter reads NAME N from a file of such lines; 0 where it is not there.
func counter(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
				return n
			}
		}
	}
	return 0
}
