package fetch

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"floe/protocol"
)

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: no URL", ErrRefused)
	}
	return u, nil
}

// pack makes the tarball of a module. The same files give the same bytes.
func (s *Session) pack(ctx context.Context, from origin, inside string, m *Module) error {
	dir, err := s.tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if m.Path, err = from.pick(ctx, inside, root); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, "module-")
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	out := &counted{session: s, w: io.MultiWriter(f, hash), left: int64(s.fetcher.limits.Module)}
	if err := writeTar(ctx, out, root); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	m.File, m.Digest, m.Size = f.Name(), protocol.Digest(hash.Sum(nil)), protocol.ByteSize(out.written)
	return nil
}

// counted refuses to write more than a module may have.
type counted struct {
	session       *Session
	w             io.Writer
	left, written int64
}

func (c *counted) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, fmt.Errorf("%w: a module may have %v; name the file or folder that is needed behind a #", ErrTooLarge, protocol.ByteSize(c.written+int64(len(p))+c.left))
	}
	if err := c.session.spend(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.written += int64(n)
	return n, err
}

// writeTar writes the files below a directory, in the order of their names, without
// times and owners.
func writeTar(ctx context.Context, w io.Writer, root *os.Root) error {
	t := tar.NewWriter(w)
	var names []string
	err := fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	files := 0
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		wrote, err := addTar(t, root, name)
		if err != nil {
			return err
		}
		if wrote {
			files++
		}
	}
	if files == 0 {
		return fmt.Errorf("%w: no file in it", ErrNotThere)
	}
	return t.Close()
}

// addTar adds one name; folders are made of the names of what they hold.
func addTar(t *tar.Writer, root *os.Root, name string) (bool, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return false, err
	}
	header := &tar.Header{Name: name, Format: tar.FormatPAX, Mode: 0o644}
	switch {
	case info.IsDir():
		return false, nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(name)
		if err != nil {
			return false, err
		}
		if to := path.Join(path.Dir(name), target); path.IsAbs(target) || to == ".." || strings.HasPrefix(to, "../") {
			return false, fmt.Errorf("%w: the link %s leads out of the module, to %.80q", ErrRefused, name, target)
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, target
		return true, t.WriteHeader(header)
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: %s is no file, folder or link", ErrRefused, name)
	}
	if info.Mode()&0o100 != 0 {
		header.Mode = 0o755
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(header); err != nil {
		return false, err
	}
	f, err := root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return true, err
}

// copyInto copies a file or folder of one directory into another one, which is
// empty. It returns the name of a file, empty for a folder.
func copyInto(ctx context.Context, from *os.Root, inside string, into *os.Root) (string, error) {
	if inside == "" {
		inside = "."
	}
	info, err := from.Stat(inside)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: no %s in it%s", ErrNotThere, inside, besides(from, inside))
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if !info.IsDir() {
		name := path.Base(inside)
		return name, copyFile(from, inside, into, name)
	}
	return "", fs.WalkDir(from.FS(), inside, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		below := strings.TrimPrefix(strings.TrimPrefix(name, inside), "/")
		if inside == "." {
			below = name
		}
		switch {
		case below == "" || below == ".":
			return nil
		case entry.IsDir():
			return into.Mkdir(below, 0o700)
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := from.Readlink(name)
			if err != nil {
				return err
			}
			return into.Symlink(target, below)
		}
		return copyFile(from, name, into, below)
	})
}

func copyFile(from *os.Root, name string, into *os.Root, as string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%w: %s is no file", ErrRefused, name))
	}
	out, err := into.OpenFile(as, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600|info.Mode()&0o100)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// besides lists what is there instead of a name, for the error.
func besides(root *os.Root, name string) string {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		entries, err := fs.ReadDir(root.FS(), dir)
		if err == nil {
			names := make([]string, 0, len(entries))
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return there(dir, names)
		}
		if dir == "." {
			return ""
		}
	}
}

// there says what a folder holds.
func there(dir string, names []string) string {
	const most = 12
	slices.Sort(names)
	more := ""
	if len(names) > most {
		names, more = names[:most], ", …"
	}
	where := "it holds "
	if dir != "." && dir != "" {
		where = dir + " holds "
	}
	return "; " + where + strings.Join(names, ", ") + more
}
