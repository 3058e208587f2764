package payload

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// root is a root file system that a payload sees in place of the node's: the tree of
// an image, read-only, and what is bound into it. Mount points that the image does not
// have are made in a file system in memory, which holds the image's entries beside
// them; the image itself is not touched.
type root struct {
	// Tree is the image as the world shows it, At an empty directory of the attempt's.
	Tree, At string
	Bound    []bound
}

// bound is a file or directory of the world that is seen in the image.
type bound struct {
	Source, Target string
	File           bool
	// Whole is with what is mounted below.
	Whole bool
}

// rootSize bounds the file system of mount points: directories, links, empty files.
const rootSize = "size=16m"

// enter adds the calls that make the root the process's own. They follow those of the
// world, which it is taken from.
func (r *root) enter(s *plan) error {
	targets := slices.Clone(r.Bound)
	slices.SortStableFunc(targets, func(a, b bound) int { return cmp.Compare(a.Target, b.Target) })
	s.mount("image", "floe", r.At, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,"+rootSize)
	if err := r.fill(s, "/", targets); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if setsAttributes() {
		attributes(s, "make the image read-only", r.At, unix.AT_RECURSIVE, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	} else {
		s.mount("make the image read-only", "", r.At, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
	}
	for i, b := range targets {
		at := slices.IndexFunc(targets[:i], func(over bound) bool { return inside(b.Target, []string{over.Target}) })
		if at >= 0 {
			// Where it lies in what was bound before, its place is there: the world has made it.
			if over := targets[at]; over.Source == over.Target && over.Source != b.Source && b.Source == b.Target {
				continue // it is seen by that already
			}
		}
		flags := uintptr(unix.MS_BIND)
		if b.Whole {
			flags |= unix.MS_REC
		}
		s.mount("show "+b.Target+" in the image", b.Source, r.At+b.Target, "", flags, "")
	}
	s.add("image", unix.SYS_CHDIR, s.text(r.At))
	here := s.text(".")
	s.add("make the image the root", unix.SYS_PIVOT_ROOT, here, here)
	s.add("leave the node's root", unix.SYS_UMOUNT2, here, unix.MNT_DETACH)
	s.add("image", unix.SYS_CHDIR, s.text("/"))
	return nil
}

// fill shows a directory of the image, dir, at its place in the root, with the mount
// points of the targets that lie in it.
func (r *root) fill(s *plan, dir string, targets []bound) error {
	var entries []fs.DirEntry
	// A link on the way to a mount point gives way to it: it may lead out of the image.
	info, err := os.Lstat(filepath.Join(r.Tree, dir))
	if dir == "/" || err == nil && info.IsDir() {
		entries, err = os.ReadDir(filepath.Join(r.Tree, dir))
	}
	if err != nil && (dir == "/" || !isMissing(err)) {
		return err
	}
	below := make(map[string][]bound)
	var names []string // of what targets need, in their order
	for _, t := range targets {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(t.Target, dir), "/"), "/")
		if len(below[name]) == 0 {
			names = append(names, name)
		}
		below[name] = append(below[name], t)
	}
	for _, e := range entries {
		if below[e.Name()] == nil {
			if err := r.show(s, filepath.Join(dir, e.Name()), e.Type()); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		path, inIt := filepath.Join(dir, name), below[name]
		switch {
		case inIt[0].Target == path:
			r.point(s, path, inIt[0].File)
		case r.holds(inIt):
			if err := r.show(s, path, fs.ModeDir); err != nil {
				return err
			}
		default:
			r.point(s, path, false)
			if err := r.fill(s, path, inIt); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds tells whether the image has all mount points itself.
func (r *root) holds(targets []bound) bool {
	return !slices.ContainsFunc(targets, func(t bound) bool {
		path := r.Tree
		parts := strings.Split(strings.TrimPrefix(t.Target, "/"), "/")
		for i, part := range parts {
			path += "/" + part
			info, err := os.Lstat(path)
			if err != nil || info.IsDir() == (t.File && i == len(parts)-1) || !info.IsDir() && !info.Mode().IsRegular() {
				return true
			}
		}
		return false
	})
}

// point makes a mount point.
func (r *root) point(s *plan, path string, file bool) {
	if what := "show " + path + " in the image"; file {
		s.add(what, unix.SYS_MKNODAT, here, s.text(r.At+path), unix.S_IFREG|0o644, 0)
	} else {
		s.add(what, unix.SYS_MKDIRAT, here, s.text(r.At+path), 0o755)
	}
}

// show shows an entry of the image. What is neither file, directory nor link has no
// meaning outside of the machine that it was made on.
func (r *root) show(s *plan, path string, kind fs.FileMode) error {
	what, in := "show "+path+" of the image", filepath.Join(r.Tree, path)
	switch {
	case kind&fs.ModeSymlink != 0:
		target, err := os.Readlink(in)
		if err != nil {
			return err
		}
		s.add(what, unix.SYS_SYMLINKAT, s.text(target), here, s.text(r.At+path))
	case kind.IsDir(), kind.IsRegular():
		r.point(s, path, !kind.IsDir())
		s.mount(what, in, r.At+path, "", unix.MS_BIND|unix.MS_REC, "")
	}
	return nil
}
