package payload

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe" // for a size

	"golang.org/x/sys/unix"
)

// world is the file system that one payload sees, laid over that of the node:
// everything is read-only, but what is said here. Paths have no symbolic links.
type world struct {
	Hidden []string
	Shown  []shown
	// Private are directories in whose place the payload sees Temp.
	Private []string
	Temp    string
	// Shared is how much /dev/shm may hold, in bytes; 0 is half of the memory.
	Shared int64
	// Root is seen in place of the node's root; nil is that.
	Root *root
}

// shown is a directory, or a file, that is seen wherever it is.
type shown struct {
	Path           string
	Writable, File bool
}

// layer is one mount: a later one lies over an earlier one's part.
type layer struct {
	path, source string // an empty source hides
	writable     bool
	file         bool
}

// make adds the calls that build the world in a mount namespace of the process's own.
func (w *world) make(s *plan) error {
	// What the node mounts later, as CVMFS does, shall still appear.
	s.mount("own mounts", "", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	all := w.layers()
	for i, l := range all {
		if l.source != "" { // opened before anything is laid over it
			s.open("show "+l.source, l.source, unix.O_PATH, firstLayer+i)
		}
	}
	if err := everythingReadOnly(s); err != nil {
		return fmt.Errorf("make the node read-only: %w", err)
	}
	w.system(s)
	var laid layers
	var covered []string
	for i, l := range all {
		over := laid.over(l.path)
		if l.source == "" {
			// What lies in a hidden place, or in the place of a private one, is hidden already.
			if (over == nil || over.source == over.path) && l.hide(s) {
				laid, covered = append(laid, l), append(covered, l.path)
			}
			continue
		}
		l.point(s, over)
		s.mount("show "+l.path, "/proc/self/fd/"+strconv.Itoa(firstLayer+i), l.path, "", unix.MS_BIND|unix.MS_REC, "")
		s.add("", unix.SYS_CLOSE, uintptr(firstLayer+i))
		if l.writable {
			if err := change(s, "make "+l.path+" writable", l.path, false, 0); err != nil {
				return err
			}
		}
		laid = append(laid, l)
	}
	for _, path := range covered {
		// The mount points of what is shown in it are made by now.
		if err := change(s, "hide "+path, path, true, hiddenFlags); err != nil {
			return err
		}
	}
	if w.Root != nil {
		return w.Root.enter(s)
	}
	return nil
}

// firstLayer and what follows are descriptors of what stays in sight, and
// scratchDescriptor one of many uses: above those that this program has open.
const (
	scratchDescriptor = 200
	firstLayer        = 201
)

type layers []layer

// layers are all that lies over the node's own files, parents before what lies in
// them.
func (w *world) layers() (out layers) {
	for _, path := range w.Hidden {
		out = append(out, layer{path: path})
	}
	for _, path := range w.Private {
		out = append(out, layer{path: path, source: w.Temp, writable: true})
	}
	for _, s := range w.Shown {
		out = append(out, layer{path: s.Path, source: s.Path, writable: s.Writable, file: s.File})
	}
	slices.SortStableFunc(out, func(a, b layer) int { return cmp.Compare(a.path, b.path) })
	return out
}

// over is the innermost of the layers that holds a path, or nil.
func (l layers) over(path string) *layer {
	for i := len(l) - 1; i >= 0; i-- {
		if inside(path, []string{l[i].path}) {
			return &l[i]
		}
	}
	return nil
}

// point makes what the layer is mounted on, where the layer that it lies in has
// covered it.
func (l *layer) point(s *plan, over *layer) {
	if over == nil || over.source == over.path || over.path == l.path {
		return
	}
	rel, _ := filepath.Rel(over.path, l.path) // over holds it
	at, parts := over.path, strings.Split(rel, "/")
	for i, part := range parts {
		at += "/" + part
		what := "show " + l.path
		if l.file && i == len(parts)-1 {
			s.add(what, unix.SYS_MKNODAT, here, s.text(at), unix.S_IFREG|0o600, 0).ignored = ignoring(unix.EEXIST)
		} else {
			s.add(what, unix.SYS_MKDIRAT, here, s.text(at), 0o700).ignored = ignoring(unix.EEXIST)
		}
	}
}

// hiddenFlags are those of what lies in a hidden place.
const hiddenFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// hide puts an empty directory, or an empty file, in a place, if it is there.
func (l *layer) hide(s *plan) bool {
	info, err := os.Lstat(l.path)
	switch {
	case err != nil && isMissing(err):
		return false
	case err == nil && !info.IsDir():
		s.mount("hide "+l.path, os.DevNull, l.path, "", unix.MS_BIND, "").ignored = missing
	default:
		s.mount("hide "+l.path, "floe", l.path, "tmpfs", hiddenFlags, "mode=0755,size=1m").ignored = missing
	}
	return true
}

// system gives the payload its own processes, shared memory and message queues.
func (w *world) system(s *plan) {
	s.mount("mount /proc", "proc", "/proc", "proc", hiddenFlags, "")
	if os.Getuid() == 0 {
		// To the kernel this is still the user who may set these.
		for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
			if _, err := os.Lstat(path); err == nil {
				what := "make " + path + " read-only"
				s.mount(what, path, path, "", unix.MS_BIND|unix.MS_REC, "").ignored = missing
				_ = change(s, what, path, true, hiddenFlags)
			}
		}
	}
	options := "mode=1777"
	if w.Shared > 0 {
		options += ",size=" + strconv.FormatInt(w.Shared, 10)
	}
	for _, m := range []struct{ path, kind, options string }{{"/dev/shm", "tmpfs", options}, {"/dev/mqueue", "mqueue", ""}} {
		if info, err := os.Lstat(m.path); err == nil && info.IsDir() {
			s.mount("mount "+m.path, m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options)
		}
	}
}

// setsAttributes tells whether the kernel changes mounts without remounting them,
// since Linux 5.12.
var setsAttributes = sync.OnceValue(func() bool {
	return !errors.Is(unix.MountSetattr(-1, "", 0, &unix.MountAttr{}), unix.ENOSYS)
})

// attributes is mount_setattr(2).
func attributes(s *plan, what, path string, flags uintptr, attr unix.MountAttr) *call {
	return s.add(what, unix.SYS_MOUNT_SETATTR, here, s.text(path), flags, address(s, &attr), unsafe.Sizeof(attr))
}

// everythingReadOnly makes all mounts read-only: in one call, or one after another.
func everythingReadOnly(s *plan) error {
	if setsAttributes() {
		attributes(s, "make the node read-only", "/", unix.AT_RECURSIVE, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		return nil
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		path, flags, kind, ok := parseMount(line)
		if !ok || kind == "autofs" {
			continue // what an automounter mounts is its own; asking for it could hang
		}
		s.mount("make "+path+" read-only", "", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, "").ignored = missing
	}
	return nil
}

// change makes one mount read-only or writable and leaves its other flags, which
// the kernel does not let an unprivileged user clear: those that are known, or those
// of the path as it is seen now.
func change(s *plan, what, path string, readOnly bool, known uintptr) error {
	var attr unix.MountAttr
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	} else {
		attr.Attr_clr = unix.MOUNT_ATTR_RDONLY
	}
	if setsAttributes() {
		attributes(s, what, path, 0, attr).ignored = missing
		return nil
	}
	flags := known
	if flags == 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		flags = statFlags(st.Flags)
	}
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	s.mount(what, "", path, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "").ignored = missing
	return nil
}

// statFlags are the flags of a mount as statfs gives them, without read-only.
// Source: statfs(2); but for relatime they are those of mount(2).
func statFlags(f int64) (flags uintptr) {
	flags = uintptr(f) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if f&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	return flags
}

// mountFlags are the options of a mount that an unprivileged user must keep.
var mountFlags = map[string]uintptr{
	"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
}

// parseMount reads mount point, flags and type of a line of mountinfo:
//
//	36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/x rw
//
// Source: proc_pid_mountinfo(5).
func parseMount(line string) (path string, flags uintptr, kind string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	f, types := strings.Fields(before), strings.Fields(after)
	if !found || len(f) < 6 || len(types) == 0 {
		return "", 0, "", false
	}
	for option := range strings.SplitSeq(f[5], ",") {
		flags |= mountFlags[option]
	}
	path, ok = unescape(f[4])
	return path, flags, types[0], ok
}

// unescape reads a path in which white space and backslashes are three octal digits.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(s, `\`)
		b.WriteString(plain)
		if !found {
			return b.String(), b.Len() > 0 && b.String()[0] == '/'
		}
		if len(rest) < 3 {
			return "", false
		}
		n, err := strconv.ParseUint(rest[:3], 8, 8)
		if err != nil || n == 0 {
			return "", false
		}
		b.WriteByte(byte(n))
		s = rest[3:]
	}
}
