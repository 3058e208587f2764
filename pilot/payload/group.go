package payload

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Groups makes control groups for each module where the batch system lets the
// pilot: then the kernel itself holds the limits, and its word on why a process was
// killed is exact. Without them the pilot polls. Nil makes none.
type Groups struct {
	// memory and pids are own groups, below which new ones are made: of version 2 the
	// same, of version 1 one each. An empty one is not to be had.
	memory, pids string
	two          bool // version 2
	made         atomic.Uint64

	mu     sync.Mutex
	reuses bool     // guarded by mu
	free   []*group // guarded by mu; empty ones that count processes only
}

// FindGroups looks for control groups of this process that it may divide: version 2
// where the memory controller is delegated, or those for memory and processes of
// version 1. It returns nil where there are none.
func FindGroups() *Groups { return findGroups(false) }

// DivideGroups is FindGroups for a pilot: where its own group of version 2 is
// delegated and holds nobody else, it moves into a leaf of its own, so that there
// can be groups beside it.
func DivideGroups() *Groups { return findGroups(true) }

// groupRoot is where control groups are mounted.
const groupRoot = "/sys/fs/cgroup"

func findGroups(mayDivide bool) *Groups {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	paths := make(map[string]string) // by controller; empty is version 2
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				paths[controller] = parts[2]
			}
		}
	}
	if path, ok := paths[""]; ok {
		if g := unified(filepath.Join(groupRoot, path), mayDivide); g != nil {
			return g
		}
	}
	g := &Groups{}
	own := func(controller, limit string) string {
		path, ok := paths[controller]
		dir := filepath.Join(groupRoot, controller, path)
		if !ok || !g.holds(dir, limit) {
			return ""
		}
		return dir
	}
	g.memory, g.pids = own("memory", memoryLimits[false]), own("pids", pidsLimit)
	if g.memory == "" && g.pids == "" {
		return nil
	}
	return g
}

// unified are groups of version 2 below dir, or nil.
func unified(dir string, mayDivide bool) *Groups {
	g := &Groups{memory: dir, two: true}
	if !g.holds(dir, memoryLimits[true]) {
		if !mayDivide || divide(dir, "memory") != nil || !g.holds(dir, memoryLimits[true]) {
			return nil
		}
		// Without it the pilot counts processes.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+pids"), 0o644)
	}
	if g.holds(dir, pidsLimit) {
		g.pids = dir
	}
	return g
}

// Files of limits. Source: the kernel's cgroup-v1/memory.rst, pids.rst and cgroup-v2.rst.
var memoryLimits = map[bool]string{true: "memory.max", false: "memory.limit_in_bytes"}

const pidsLimit = "pids.max"

// holds tries: permissions alone do not tell whether a controller is delegated.
func (g *Groups) holds(dir, limit string) bool {
	made, err := g.make(dir)
	if err != nil {
		return false
	}
	defer os.Remove(made)
	_, err = os.Stat(filepath.Join(made, limit))
	return err == nil
}

func (g *Groups) make(dir string) (string, error) {
	dir = filepath.Join(dir, fmt.Sprintf("floe-%d-%d", os.Getpid(), g.made.Add(1)))
	return dir, os.Mkdir(dir, 0o755)
}

// group is the control groups of one module; a nil group does nothing.
type group struct {
	of             *Groups
	dirs           []string // one, or one for each controller
	memory, events string   // where memory is counted; empty where it is not
	two            bool
}

// open makes the groups that hold the limits, or nil where that fails.
func (g *Groups) open(l Limits, logger *slog.Logger) *group {
	if g == nil {
		return nil
	}
	if old := g.reuse(l); old != nil {
		return old
	}
	out := &group{of: g, two: g.two}
	// limited makes a group with a limit; what is in one for both has it already.
	limited := func(parent, file string, limit int64) string {
		if parent == "" || limit <= 0 {
			return ""
		}
		var dir string
		var err error
		if g.two && len(out.dirs) > 0 {
			dir = out.dirs[0]
		} else if dir, err = g.make(parent); err == nil {
			out.dirs = append(out.dirs, dir)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(limit, 10)), 0o644)
		}
		if err != nil {
			logger.Debug("no control group", "err", err)
			return ""
		}
		return dir
	}
	if out.memory = limited(g.memory, memoryLimits[g.two], int64(l.Memory)); out.memory != "" {
		out.events = filepath.Join(out.memory, "memory.oom_control")
		if g.two {
			out.events = filepath.Join(out.memory, "memory.events")
		}
	}
	// Room above the limit lets the pilot see a payload that breaks it.
	limited(g.pids, pidsLimit, mostProcesses(l))
	if len(out.dirs) == 0 {
		return nil
	}
	return out
}

// members are the files that a process writes itself into.
func (g *group) members() (files []string) {
	if g != nil {
		for _, dir := range g.dirs {
			files = append(files, filepath.Join(dir, "cgroup.procs"))
		}
	}
	return files
}

// kills counts the processes the kernel killed at the group's limit.
func (g *group) kills() int {
	if g == nil || g.events == "" {
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
	if g != nil && g.two {
		_ = os.WriteFile(filepath.Join(g.dirs[0], "cgroup.kill"), []byte("1"), 0o644) // since Linux 5.14; else one by one
	}
}

// mostProcesses is the limit of a group.
func mostProcesses(l Limits) int64 { return int64(2*l.Processes + keeperProcesses) }

// maxFreeGroups is how many groups wait to be used again.
const maxFreeGroups = 64

// reuse takes a group that another module has left, and sets its limit, or returns nil.
// Only processes are counted in it: what files of another left in memory would count as
// this one's.
func (g *Groups) reuse(l Limits) *group {
	if g.memory != "" && l.Memory > 0 || g.pids == "" || l.Processes <= 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.free) == 0 {
		return nil
	}
	old := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	if err := os.WriteFile(filepath.Join(old.dirs[0], pidsLimit), []byte(strconv.FormatInt(mostProcesses(l), 10)), 0o644); err != nil {
		old.remove() // empty as it is, that takes no time
		return nil
	}
	return old
}

// keep takes back a group of which nobody is left, if it may be used again.
func (g *Groups) keep(old *group) bool {
	if old.memory != "" || len(old.dirs) != 1 {
		return false
	}
	members, err := os.ReadFile(filepath.Join(old.dirs[0], "cgroup.procs"))
	if err != nil || len(members) > 0 {
		return false
	}
	var st unix.Stat_t
	if unix.Stat(old.dirs[0], &st) != nil || st.Nlink != 2 { // it has groups of its own
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.reuses || len(g.free) >= maxFreeGroups {
		return false
	}
	g.free = append(g.free, old)
	return true
}

// Reuse lets modules use the groups again that others have left, until Close: to make
// and remove one costs much of what a short module does.
func (g *Groups) Reuse() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reuses = true
}

// Close removes the groups that wait to be used again; others go with their modules.
func (g *Groups) Close() {
	if g == nil {
		return
	}
	g.mu.Lock()
	free := g.free
	g.free, g.reuses = nil, false
	g.mu.Unlock()
	for _, old := range free {
		old.remove()
	}
}

// close gives the groups back, or removes them.
func (g *group) close() {
	if g != nil && !g.of.keep(g) {
		g.remove()
	}
}

// remove removes the groups. The kernel may hold an empty one for an instant after its
// last process was waited for.
func (g *group) remove() {
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for _, dir := range g.dirs {
		for range 100 {
			if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
				break
			}
			<-retry.C
		}
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
