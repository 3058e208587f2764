package payload

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
}

// shown is a directory, or a file, that is seen wherever it is.
type shown struct {
	Path           string
	Writable, File bool
}

// layer is one mount: a later one lies over an earlier one's part.
type layer struct {
	path     string
	source   int // descriptor of what is seen there; −1 is nothing
	writable bool
	file     bool
	mounted  bool
}

// make builds the world in a mount namespace that this process owns.
func (w *world) make() error {
	// What the node mounts later, as CVMFS does, shall still appear.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("own mounts: %w", err)
	}
	layers, err := w.layers()
	if err != nil {
		return err
	}
	if err := everythingReadOnly(); err != nil {
		return fmt.Errorf("make the node read-only: %w", err)
	}
	if err := w.system(); err != nil {
		return err
	}
	for i := range layers {
		l := &layers[i]
		err := l.mount()
		if l.source >= 0 {
			_ = unix.Close(l.source)
		}
		if err != nil {
			return err
		}
	}
	for _, l := range layers {
		if l.source < 0 && l.mounted {
			// The mount points of what is shown in it are made by now.
			if err := readOnly(l.path); err != nil {
				return fmt.Errorf("hide %s: %w", l.path, err)
			}
		}
	}
	return nil
}

// layers opens all that stays in sight before anything is laid over it, parents
// before what lies in them.
func (w *world) layers() ([]layer, error) {
	var out []layer
	for _, path := range w.Hidden {
		out = append(out, layer{path: path, source: -1})
	}
	add := func(path, source string, writable, file bool) error {
		fd, err := unix.Open(source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("show %s: %w", source, err)
		}
		out = append(out, layer{path: path, source: fd, writable: writable, file: file})
		return nil
	}
	for _, path := range w.Private {
		if err := add(path, w.Temp, true, false); err != nil {
			return nil, err
		}
	}
	for _, s := range w.Shown {
		if err := add(s.Path, s.Path, s.Writable, s.File); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(out, func(a, b layer) int { return cmp.Compare(a.path, b.path) })
	return out, nil
}

// mount lays a layer over what is there.
func (l *layer) mount() error {
	if l.source < 0 {
		return l.hide()
	}
	if err := l.point(); err != nil {
		return fmt.Errorf("show %s: %w", l.path, err)
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(l.source), l.path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show %s: %w", l.path, err)
	}
	if !l.writable {
		return nil
	}
	if err := change(l.path, false); err != nil {
		return fmt.Errorf("make %s writable: %w", l.path, err)
	}
	return nil
}

// point makes what the layer is mounted on, where a layer below has hidden it.
func (l *layer) point() error {
	if _, err := os.Lstat(l.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !l.file {
		return os.MkdirAll(l.path, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(l.path, nil, 0o600)
}

// hide puts an empty directory, or an empty file, in a place. What is not there,
// because a layer below has hidden it already, is hidden.
func (l *layer) hide() error {
	info, err := os.Lstat(l.path)
	if err == nil {
		if info.IsDir() {
			err = unix.Mount("floe", l.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m")
		} else {
			err = unix.Mount(os.DevNull, l.path, "", unix.MS_BIND, "")
		}
	}
	if err != nil && !isMissing(err) {
		return fmt.Errorf("hide %s: %w", l.path, err)
	}
	l.mounted = err == nil
	return nil
}

// system gives the payload its own processes, shared memory and message queues.
func (w *world) system() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if os.Getuid() == 0 {
		// To the kernel this is still the user who may set these.
		for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
			err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
			if err == nil {
				err = readOnly(path)
			}
			if err != nil && !isMissing(err) {
				return fmt.Errorf("make %s read-only: %w", path, err)
			}
		}
	}
	options := "mode=1777"
	if w.Shared > 0 {
		options += ",size=" + strconv.FormatInt(w.Shared, 10)
	}
	for _, m := range []struct{ path, kind, options string }{{"/dev/shm", "tmpfs", options}, {"/dev/mqueue", "mqueue", ""}} {
		if info, err := os.Lstat(m.path); err != nil || !info.IsDir() {
			continue
		}
		if err := unix.Mount(m.kind, m.path, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}

// everythingReadOnly makes all mounts read-only: in one call since Linux 5.12, one
// after another before.
func everythingReadOnly() error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &attr)
	if !errors.Is(err, unix.ENOSYS) {
		return err
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
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil && !isMissing(err) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func readOnly(path string) error { return change(path, true) }

// change makes one mount read-only or writable and leaves its other flags, which
// the kernel does not let an unprivileged user clear.
func change(path string, readOnly bool) error {
	var attr unix.MountAttr
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	} else {
		attr.Attr_clr = unix.MOUNT_ATTR_RDONLY
	}
	err := unix.MountSetattr(unix.AT_FDCWD, path, 0, &attr)
	if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return err
	}
	flags := statFlags(s.Flags)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
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
