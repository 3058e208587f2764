package cache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"sync/atomic"

	"floe/protocol"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"
)

// extraction is one archive being unpacked. One goroutine reads members and makes
// files, others write and hash what they hold.
type extraction struct {
	root   *os.Root
	limits ExtractLimits
	// listed makes a read-only tree and its manifest.
	listed bool
	// room is told how many bytes the tree takes so far, before they are written.
	room func(protocol.ByteSize) error

	got  Extracted
	disk protocol.ByteSize
	dirs map[string]bool // known to be directories, and no links
	made []*ManifestFile // all members, in the order of the archive
	open []*openDir      // directories at hand, the last used last
	read countedReader

	chunks chan []byte // spare ones
	work   chan *filling
}

// openDir is a directory in which files are being made.
type openDir struct {
	name string
	root *os.Root
}

// filling is a file that is being written.
type filling struct {
	file   *os.File
	entry  *ManifestFile
	chunks chan []byte
}

// The memory of an extraction: 16 MB in chunks.
const (
	fillChunk  = 256 << 10
	fillChunks = 64
	// openDirs is how many directories are kept at hand; archives are mostly sorted.
	openDirs = 32
)

func newExtraction(root *os.Root) *extraction {
	return &extraction{root: root, limits: ExtractLimits{Files: maxArchiveFiles, Bytes: maxArchiveBytes}, dirs: map[string]bool{".": true}, room: func(protocol.ByteSize) error { return nil }}
}

// countedReader counts what was read of an archive.
type countedReader struct {
	in io.Reader
	n  atomic.Int64 // decoders read ahead, in goroutines of their own
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// run unpacks all of an archive. Whatever it returns, nothing is being written any
// more.
func (x *extraction) run(ctx context.Context, r io.Reader) (Extracted, error) {
	x.read.in = r
	in, err := openArchive(&x.read, x.listed)
	if err != nil {
		return x.got, err
	}
	defer in.Close()
	x.list(".", fs.ModeDir|0o500)
	x.chunks, x.work = make(chan []byte, fillChunks), make(chan *filling, fillChunks)
	for range fillChunks {
		x.chunks <- nil // made when they are needed
	}
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for f := range x.work {
				if err := x.fill(ctx, f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(x.work)
		err := x.members(ctx, tar.NewReader(in))
		if err == nil {
			err = drain(in, x.limits.Bytes)
		}
		return err
	})
	err = g.Wait()
	for f := range x.work {
		f.file.Close() // nobody was left to write it
	}
	for _, d := range x.open {
		d.root.Close()
	}
	if err == nil && x.listed {
		err = x.seal()
	}
	return x.got, err
}

func (x *extraction) members(ctx context.Context, t *tar.Reader) error {
	for members := 1; ; members++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if members > x.limits.Files {
			return fmt.Errorf("%w: more than %d files", ErrArchive, x.limits.Files)
		}
		name, err := innerName(h.Name)
		if err != nil {
			return err
		}
		if err := x.size(h); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "." {
			continue
		}
		if err := x.member(ctx, t, h, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if h.Typeflag != tar.TypeDir {
			x.got.Files++
		}
	}
}

// size adds up what the members take, before any of it is written.
func (x *extraction) size(h *tar.Header) error {
	if h.Size < 0 || protocol.ByteSize(h.Size) > x.limits.Bytes-x.got.Bytes {
		return fmt.Errorf("%w: more than %v", ErrArchive, x.limits.Bytes)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%w: a sparse file; pack it without --sparse", ErrArchive)
		}
	}
	x.got.Bytes += protocol.ByteSize(h.Size)
	x.disk += inBlocks(max(protocol.ByteSize(h.Size), 1))
	return x.room(x.disk)
}

// ratio refuses an archive that grows as no software does.
func (x *extraction) ratio(written protocol.ByteSize) error {
	if written > freeOfRatio && written/maxArchiveRatio > protocol.ByteSize(x.read.n.Load()) {
		return fmt.Errorf("%w: it grows more than %d times", ErrArchive, maxArchiveRatio)
	}
	return nil
}

// mkdir makes a directory and those above it. None may be a link: by its name alone
// a link further down would then seem to stay inside, and lead elsewhere.
func (x *extraction) mkdir(name string) error {
	if x.dirs[name] {
		return nil
	}
	if err := x.mkdir(path.Dir(name)); err != nil {
		return err
	}
	err := x.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = x.root.Lstat(name); err == nil && !info.IsDir() {
			err = fmt.Errorf("%w: behind %s, which is no directory", ErrArchive, name)
		}
	}
	if err == nil {
		x.list(name, fs.ModeDir|0o500)
		x.dirs[name] = true
	}
	return err
}

// list notes a member for the manifest.
func (x *extraction) list(name string, mode fs.FileMode) *ManifestFile {
	f := &ManifestFile{Path: []byte(name), Mode: uint32(mode)}
	if x.listed {
		x.made = append(x.made, f)
	}
	return f
}

// in returns a directory, opened.
func (x *extraction) in(name string) (*os.Root, error) {
	if name == "." {
		return x.root, nil
	}
	for i := len(x.open) - 1; i >= 0; i-- {
		if d := x.open[i]; d.name == name {
			x.open = append(append(x.open[:i], x.open[i+1:]...), d)
			return d.root, nil
		}
	}
	root, err := x.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if len(x.open) == openDirs {
		x.open[0].root.Close()
		x.open = append(x.open[:0], x.open[1:]...)
	}
	x.open = append(x.open, &openDir{name, root})
	return root, nil
}

func (x *extraction) member(ctx context.Context, t *tar.Reader, h *tar.Header, name string) error {
	if err := x.mkdir(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.mkdir(name)
	case tar.TypeReg:
		return x.file(ctx, t, h, name)
	case tar.TypeSymlink:
		target := path.Join(path.Dir(name), h.Linkname)
		if path.IsAbs(h.Linkname) || target == ".." || strings.HasPrefix(target, "../") {
			return fmt.Errorf("%w: link to %q leads outside", ErrArchive, h.Linkname)
		}
		x.list(name, fs.ModeSymlink|0o777).Link = []byte(h.Linkname)
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("%w: member of type %q; only files, directories and symbolic links are taken", ErrArchive, h.Typeflag)
}

// file makes a file and hands over what it holds.
func (x *extraction) file(ctx context.Context, t *tar.Reader, h *tar.Header, name string) error {
	// Only whether it may be executed is kept; set-uid and the like are dropped.
	mode := fs.FileMode(0o600) | fs.FileMode(h.Mode)&0o100
	if x.listed {
		mode &^= 0o200
	}
	dir, err := x.in(path.Dir(name))
	if err != nil {
		return err
	}
	file, err := dir.OpenFile(path.Base(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	f := &filling{file: file, entry: x.list(name, mode), chunks: make(chan []byte, 4)}
	f.entry.Size = protocol.ByteSize(h.Size)
	select {
	case x.work <- f:
	case <-ctx.Done():
		file.Close()
		return ctx.Err()
	}
	defer close(f.chunks)
	for left, before := h.Size, int64(x.got.Bytes)-h.Size; left > 0; {
		var b []byte
		select {
		case b = <-x.chunks:
		case <-ctx.Done():
			return ctx.Err()
		}
		if b == nil {
			b = make([]byte, fillChunk)
		}
		n, err := io.ReadFull(t, b[:min(left, fillChunk)])
		left -= int64(n)
		if err != nil {
			x.chunks <- b
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if err := x.ratio(protocol.ByteSize(before + h.Size - left)); err != nil {
			return err
		}
		select {
		case f.chunks <- b[:n]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// fill writes a file.
func (x *extraction) fill(ctx context.Context, f *filling) error {
	defer f.file.Close()
	var sum xxhash.Digest
	sum.Reset()
	var size protocol.ByteSize
	for {
		select {
		case b, more := <-f.chunks:
			if !more {
				if size != f.entry.Size {
					return ctx.Err() // its reader failed, and says why
				}
				f.entry.Sum = sum.Sum64()
				return f.file.Close()
			}
			if x.listed {
				_, _ = sum.Write(b) // it takes everything
			}
			n, err := f.file.Write(b)
			x.chunks <- b[:cap(b)]
			if err != nil {
				return err
			}
			size += protocol.ByteSize(n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// seal takes the right to write from the directories, the deepest first.
func (x *extraction) seal() error {
	for i := len(x.made) - 1; i >= 0; i-- {
		if f := x.made[i]; fs.FileMode(f.Mode).IsDir() {
			if err := x.root.Chmod(string(f.Path), 0o500); err != nil {
				return err
			}
		}
	}
	return nil
}

// files are the members, as a manifest lists them.
func (x *extraction) files() []ManifestFile {
	files := make([]ManifestFile, len(x.made))
	for i, f := range x.made {
		files[i] = *f
	}
	return sorted(files)
}
