package pack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/cache"
	"floe/protocol"
	"floe/protocol/software"

	"github.com/klauspost/compress/zstd"
)

// ErrEmpty: a directory or tarball holds no file.
var ErrEmpty = errors.New("there is nothing in it")

// Directory packs a directory as tar, compressed with zstd.
func Directory(ctx context.Context, dir string, out io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	a := New(root, ".")
	if err := a.Add("."); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	if len(a.members) == 0 {
		return fmt.Errorf("pack %s: %w", dir, ErrEmpty)
	}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return err
	}
	if err := errors.Join(a.Write(ctx, z), z.Close()); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return nil
}

// Contents are what a node has of a tarball once it has unpacked it.
type Contents struct {
	// Digest and Size are those of the tarball itself.
	Digest protocol.Digest
	Size   protocol.ByteSize
	// Manifest lists the tree; Files counts what is not a directory, Unpacked the
	// bytes of all files.
	Manifest software.Manifest
	Files    uint32
	Unpacked protocol.ByteSize
}

// Inspect unpacks a tarball as a node does, below a directory that it makes and
// removes, and says what there was. A tarball that a node refuses is refused
// (cache.ErrArchive).
func Inspect(ctx context.Context, in io.Reader) (*Contents, error) {
	dir, err := os.MkdirTemp("", "floe-inspect-")
	if err != nil {
		return nil, err
	}
	defer Remove(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return inspect(ctx, in, root)
}

// Unpack is Inspect into a directory that stays.
func Unpack(ctx context.Context, in io.Reader, dir string) (*Contents, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return inspect(ctx, in, root)
}

func inspect(ctx context.Context, in io.Reader, root *os.Root) (*Contents, error) {
	hash := sha256.New()
	count := &counter{}
	whole := io.TeeReader(Until(ctx, in), io.MultiWriter(hash, count))
	if _, err := cache.Extract(whole, root); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, whole); err != nil { // bytes behind the archive are part of its digest
		return nil, err
	}
	c := &Contents{Digest: protocol.Digest(hash.Sum(nil)), Size: protocol.ByteSize(count.n)}
	var err error
	if c.Manifest, err = list(ctx, root); err != nil {
		return nil, err
	}
	if c.Files, c.Unpacked = c.Manifest.Totals(); c.Files == 0 {
		return nil, ErrEmpty
	}
	return c, nil
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// Remove removes what was unpacked, in which directories may be read-only.
func Remove(dir string) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// list lists a tree, hashing every file of it.
func list(ctx context.Context, root *os.Root) (software.Manifest, error) {
	var m software.Manifest
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := software.File{Path: name}
		switch {
		case info.IsDir():
			f.Kind = software.Folder
		case info.Mode()&fs.ModeSymlink != 0:
			f.Kind = software.Link
			if f.Target, err = root.Readlink(name); err != nil {
				return err
			}
		default:
			f.Kind = software.Plain
			if info.Mode()&0o100 != 0 {
				f.Kind = software.Program
			}
			f.Size = protocol.ByteSize(info.Size())
			if f.Digest, err = digestOf(ctx, root, name); err != nil {
				return err
			}
		}
		m.Files = append(m.Files, f)
		return nil
	})
	slices.SortFunc(m.Files, func(a, b software.File) int { return strings.Compare(a.Path, b.Path) })
	return m, err
}

func digestOf(ctx context.Context, root *os.Root, name string) (protocol.Digest, error) {
	f, _, err := OpenFile(root, name)
	if err != nil {
		return protocol.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, Until(ctx, f)); err != nil {
		return protocol.Digest{}, err
	}
	return protocol.Digest(h.Sum(nil)), nil
}
