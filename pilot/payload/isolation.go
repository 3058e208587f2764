package payload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsolationMode is what a site wants of isolation.
type IsolationMode uint8

// Modes. The zero value isolates nothing, as IsolationNone.
const (
	_ IsolationMode = iota
	// IsolationNone runs payloads as any process of the pilot's user.
	IsolationNone
	// IsolationAuto isolates where the node allows it, and says so where it does not.
	IsolationAuto
	// IsolationRequire runs nothing on a node that does not allow it.
	IsolationRequire
)

var isolationModes = map[IsolationMode]string{IsolationNone: "none", IsolationAuto: "auto", IsolationRequire: "require"}

func (m IsolationMode) String() string {
	if name, ok := isolationModes[m]; ok {
		return name
	}
	return fmt.Sprintf("IsolationMode(%d)", uint8(m))
}

// ParseIsolationMode reads auto, none or require.
func ParseIsolationMode(text string) (IsolationMode, error) {
	for mode, name := range isolationModes {
		if name == text {
			return mode, nil
		}
	}
	return 0, fmt.Errorf("isolation %q: want auto, none or require", text)
}

// Places are the parts of the node that isolation treats differently from the
// rest, which payloads see read-only.
type Places struct {
	// Hidden are files and directories that no payload sees: the pilot's ticket,
	// spool and cache, and the scratch directory that holds all attempts. An attempt's
	// own directory and the software that its task names stay visible.
	Hidden []string
	// Writable are directories that payloads may write to, beside their own.
	Writable []string
}

// Isolation gives payloads namespaces of their own: user, mount, pid and ipc. It
// may be used by many payloads at once. Nil does without.
type Isolation struct {
	hidden, writable, private []string // all resolved, all existing
}

// shared are directories of which every attempt gets its own: others of the same
// user keep sockets and credentials there.
var shared = []string{"/tmp", "/var/tmp"}

// doors are sockets through which a process of the pilot's user can have others
// started outside of its namespaces.
var doors = []string{"/run/user", "/run/docker.sock", "/run/containerd", "/run/podman", "/run/crio"}

// keeps says that this program is a starter when it is asked to, see Keep.
var keeps atomic.Bool

// ErrNoIsolation: this node does not let the pilot isolate payloads. The text
// says what was refused and, where that is known, by which setting.
var ErrNoIsolation = errors.New("payloads are not isolated")

// FindIsolation tries isolation once, with a directory below scratch. An error
// is ErrNoIsolation, or says that the places contradict each other.
func FindIsolation(scratch string, places Places) (*Isolation, error) {
	i := &Isolation{}
	for _, path := range append(slices.Clone(places.Hidden), doors...) {
		if full, ok := resolve(path); ok {
			i.hidden = append(i.hidden, full)
		}
	}
	for _, path := range places.Writable {
		full, ok := resolve(path)
		if !ok {
			return nil, fmt.Errorf("writable %s: no such directory", path)
		}
		// A payload could move what lies on the way to the hidden place.
		if at := slices.IndexFunc(i.hidden, func(hidden string) bool { return inside(hidden, []string{full}) }); at >= 0 {
			return nil, fmt.Errorf("writable %s: it holds %s, which payloads may not see", path, i.hidden[at])
		}
		i.writable = append(i.writable, full)
	}
	for _, path := range shared {
		if full, ok := resolve(path); ok && !slices.Contains(i.private, full) {
			i.private = append(i.private, full)
		}
	}
	if !keeps.Load() {
		return nil, fmt.Errorf("%w: this program cannot start itself as a payload's keeper", ErrNoIsolation)
	}
	if err := i.try(scratch); err != nil {
		return nil, fmt.Errorf("%w: %w%s", ErrNoIsolation, err, setting())
	}
	return i, nil
}

// resolve is a path without symbolic links; paths that are not there, or cannot be
// reached, are no concern of a payload's either.
func resolve(path string) (string, bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	full, err := filepath.EvalSymlinks(abs)
	return full, err == nil
}

// try builds a payload's world, with nobody in it.
func (i *Isolation) try(scratch string) error {
	return i.tryWorld(scratch, func(*world, Dir) error { return nil })
}

// tryWorld is try of a world that change has changed.
func (i *Isolation) tryWorld(scratch string, change func(*world, Dir) error) error {
	base, err := os.MkdirTemp(scratch, "isolation-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	dir, err := MakeDir(filepath.Join(base, "attempt"))
	if err != nil {
		return err
	}
	log, err := OpenLog(dir.LogPath(), 0)
	if err != nil {
		return err
	}
	defer log.Close()
	w := i.world(dir, nil, nil, nil, 0)
	if err := change(&w, dir); err != nil {
		return err
	}
	spec := &startSpec{World: &w}
	s, err := startBy(spec, log.file)
	if err != nil {
		return err
	}
	said, state, err := s.keeper.close(func() {})
	switch {
	case err != nil:
		return err
	case said == nil:
		return fmt.Errorf("keeper: %v", state)
	}
	return s.keeper.failure(spec)
}

// world is what an attempt is shown: software are roots it may read wherever they
// are, programs files, and devices are hidden.
func (i *Isolation) world(dir Dir, software, programs, devices []string, memory int64) world {
	w := world{Hidden: slices.Concat(i.hidden, devices), Private: i.private, Temp: dir.Temp(), Shared: memory}
	add := func(path string, writable, file bool) {
		if full, ok := resolve(path); ok && !slices.ContainsFunc(w.Shown, func(s shown) bool { return s.Path == full }) {
			w.Shown = append(w.Shown, shown{Path: full, Writable: writable, File: file})
		}
	}
	add(string(dir), true, false)
	for _, path := range i.writable {
		add(path, true, false)
	}
	for _, path := range software {
		if full, ok := resolve(path); ok && inside(full, slices.Concat(i.hidden, i.private)) {
			info, err := os.Stat(full)
			add(full, false, err == nil && !info.IsDir())
		}
	}
	for _, path := range programs {
		// What is hidden stays so, unless it is in one of the directories above.
		full, ok := resolve(path)
		if ok && inside(full, i.private) && !inside(full, i.hidden) && !slices.ContainsFunc(w.Shown, func(s shown) bool { return inside(full, []string{s.Path}) }) {
			add(full, false, true)
		}
	}
	return w
}

// hides tells whether a path that is there for the pilot is not for a payload.
func (i *Isolation) hides(path string, dir Dir, software []string) bool {
	if i == nil {
		return false
	}
	full, ok := resolve(path)
	if !ok || !inside(full, i.hidden) {
		return false
	}
	for _, root := range slices.Concat([]string{string(dir)}, i.writable, software) {
		if seen, ok := resolve(root); ok && inside(full, []string{seen}) {
			return false
		}
	}
	return true
}

// software are all roots and directories of software that a task names.
func (t *Task) software() (roots []string) {
	add := func(e Environment) {
		roots = append(roots, slices.Concat(e.Software, e.Python, e.Libraries)...)
	}
	for i := range t.Trays {
		add(t.Trays[i].Environment)
		for j := range t.Trays[i].Modules {
			add(t.Trays[i].Modules[j].Environment)
		}
	}
	slices.Sort(roots)
	return slices.Compact(roots)
}

// setting is what an administrator of the node would have to change, as far as
// the kernel tells; it begins with a semicolon, or is empty.
func setting() string {
	for _, s := range []struct{ file, value, name string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns"},
	} {
		if b, err := os.ReadFile(s.file); err == nil && strings.TrimSpace(string(b)) == s.value {
			return fmt.Sprintf("; %s is %s", s.name, s.value)
		}
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv", "/.singularity.d"} {
		if _, err := os.Stat(mark); err == nil {
			return "; the pilot runs inside a container (" + mark + ")"
		}
	}
	return ""
}

// Conceal keeps other processes of the same user from reading the pilot's memory
// and environment. It is what remains where payloads are not isolated; a pilot
// that isolates must not call it, for then it could not set up namespaces.
func Conceal() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("conceal the pilot's memory: %w", err)
	}
	return nil
}

// isMissing tells that a path is not there, or that nobody of this user reaches it.
func isMissing(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOTDIR)
}

// kernelCountsByNamespace tells whether the kernel counts a user's processes in each
// namespace alone.
func kernelCountsByNamespace() bool { return kernelAtLeast(5, 14) }

// kernelAtLeast tells whether this is that version of Linux, or a later one.
func kernelAtLeast(major, minor int) bool {
	v := kernelVersion()
	return v[0] > major || v[0] == major && v[1] >= minor
}

// kernelVersion is zero where the kernel does not say.
var kernelVersion = sync.OnceValue(func() (v [2]int) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return v
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &v[0], &v[1]); n != 2 {
		return [2]int{}
	}
	return v
})
