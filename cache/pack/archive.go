package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Archive is a tarball being made of what is below a directory. Its methods must
// not be called concurrently.
type Archive struct {
	root    *os.Root
	dir     string
	members []string
	// Files and Bytes count what was written, before compression.
	Files int
	Bytes int64
}

// New begins an archive of the directory below root; its members' names begin there.
func New(root *os.Root, dir string) *Archive { return &Archive{root: root, dir: dir} }

// Add notes a member and, of a directory, all it holds. It refuses anything but
// files, directories and links that stay inside.
func (a *Archive) Add(name string) error {
	info, err := a.root.Lstat(path.Join(a.dir, name))
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
	case mode&fs.ModeSymlink != 0:
		if _, err := a.link(name); err != nil {
			return err
		}
	case mode.IsDir():
		entries, err := fs.ReadDir(a.root.FS(), path.Join(a.dir, name))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := a.Add(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%s is %s; only files, directories and links are packed", name, KindOf(mode))
	}
	if name != "." {
		a.members = append(a.members, name)
	}
	return nil
}

// Leave takes a member out again, by its path below root.
func (a *Archive) Leave(file string) {
	a.members = slices.DeleteFunc(a.members, func(name string) bool { return path.Join(a.dir, name) == file })
}

// link is the target of a link that stays inside.
func (a *Archive) link(name string) (string, error) {
	target, err := a.root.Readlink(path.Join(a.dir, name))
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return "", fmt.Errorf("%s is a link to %s, which is not packed", name, target)
	}
	return target, nil
}

// Write writes the members, uncompressed. Times, owners and all of the mode but
// whether a file may be executed are left out, so that the bytes depend on names and
// contents alone.
func (a *Archive) Write(ctx context.Context, out io.Writer) error {
	return a.Append(ctx, tar.NewWriter(out))
}

// Append is Write behind what a tarball holds already, which it closes.
func (a *Archive) Append(ctx context.Context, t *tar.Writer) error {
	slices.Sort(a.members)
	a.members = slices.Compact(a.members)
	for _, name := range a.members {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.member(ctx, t, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.Close()
}

func (a *Archive) member(ctx context.Context, t *tar.Writer, name string) error {
	full := path.Join(a.dir, name)
	info, err := a.root.Lstat(full)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(0, 0)}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
		return t.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = a.link(name); err != nil {
			return err
		}
		return t.WriteHeader(h)
	}
	f, info, err := OpenFile(a.root, full)
	if err != nil {
		return err
	}
	defer f.Close()
	if info.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t, Until(ctx, f))
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != h.Size {
		return errors.New("it changes while it is packed")
	}
	a.Files++
	a.Bytes += n
	return err
}

// OpenFile opens a file for reading and refuses whatever else the name stands for.
// It does not wait for who writes into a FIFO.
func OpenFile(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %s, want a file", name, KindOf(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// KindOf says in words what sort of file a mode is of.
func KindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a link"
	case m&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a file"
}

// Until reads r until ctx ends.
func Until(ctx context.Context, r io.Reader) io.Reader { return until{ctx, r} }

type until struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (u until) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
