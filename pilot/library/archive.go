package library

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
	"strings"
	"time"

	"floe/cache"
	"floe/pilot/stage"
)

type pack struct {
	Archive   string
	Files     []string
	Directory string
}

// suffixes say how a tarball is compressed.
var suffixes = []struct {
	suffix string
	kind   stage.Compression
}{
	{".tar", ""},
	{".tar.gz", "gzip"},
	{".tgz", "gzip"},
	{".tar.zst", "zstd"},
	{".tar.bz2", "bz2"},
	{".tar.xz", "lzma"},
}

func compressionOf(archive string) (stage.Compression, bool) {
	for _, s := range suffixes {
		if strings.HasSuffix(archive, s.suffix) {
			return s.kind, true
		}
	}
	return "", false
}

func (s *step) pack(ctx context.Context, v pack) error {
	archive, err := s.within(v.Archive)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	kind, ok := compressionOf(archive)
	if !ok {
		return fmt.Errorf("archive %s: want a name that ends with .tar, .tar.gz, .tgz, .tar.zst, .tar.bz2 or .tar.xz", archive)
	}
	dir, err := s.within(v.Directory)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	names, err := s.match(dir, v.Files, false)
	if err != nil {
		return err
	}
	p := packing{step: s, dir: dir}
	for _, name := range names {
		if err := p.add(name); err != nil {
			return err
		}
	}
	// The archive of an earlier run does not go into the next one.
	p.members = slices.DeleteFunc(p.members, func(name string) bool { return path.Join(dir, name) == archive })
	slices.Sort(p.members)
	p.members = slices.Compact(p.members)
	err = s.create(archive, func(w io.Writer) error {
		return piped(func(out io.Writer) error { return p.write(ctx, out) },
			func(in io.Reader) error { return kind.Pack(ctx, w, in) })
	})
	if err == nil {
		s.say("packed %d files into %s, %d bytes before compression", s.files, archive, s.bytes)
	}
	return err
}

// piped lets one function read what the other writes.
func piped(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		done <- err
	}()
	err := read(r)
	r.CloseWithError(err)
	wrote := <-done
	if err == nil {
		err = wrote
	} // else what the writer says is known to the reader, or follows from it
	return err
}

// packing is a tarball being made of what is below dir.
type packing struct {
	*step
	dir     string
	members []string
}

// add notes a member and, of a directory, all it holds.
func (p *packing) add(name string) error {
	info, err := p.root.Lstat(path.Join(p.dir, name))
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
	case mode&fs.ModeSymlink != 0:
		if _, err := p.link(name); err != nil {
			return err
		}
	case mode.IsDir():
		entries, err := fs.ReadDir(p.root.FS(), path.Join(p.dir, name))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := p.add(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%s is %s; only files, directories and links are packed", name, kindOf(mode))
	}
	if name != "." {
		p.members = append(p.members, name)
	}
	return nil
}

// link is the target of a link that stays inside.
func (p *packing) link(name string) (string, error) {
	target, err := p.root.Readlink(path.Join(p.dir, name))
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return "", fmt.Errorf("%s is a link to %s, which is not packed", name, target)
	}
	return target, nil
}

// write writes the members. Times, owners and all of the mode but whether a file
// may be executed are left out, so that the bytes depend on names and contents alone.
func (p *packing) write(ctx context.Context, out io.Writer) error {
	return p.writeTo(ctx, tar.NewWriter(out))
}

// writeTo writes the members behind what a tarball holds already.
func (p *packing) writeTo(ctx context.Context, t *tar.Writer) error {
	for _, name := range p.members {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.member(ctx, t, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.Close()
}

func (p *packing) member(ctx context.Context, t *tar.Writer, name string) error {
	full := path.Join(p.dir, name)
	info, err := p.root.Lstat(full)
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
		if h.Linkname, err = p.link(name); err != nil {
			return err
		}
		return t.WriteHeader(h)
	}
	f, info, err := p.open(full)
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
	n, err := io.Copy(t, copier{ctx, f})
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != h.Size {
		return errors.New("it changes while it is packed")
	}
	p.files++
	p.bytes += n
	return err
}

type unpack struct{ Archive, Directory string }

func (s *step) unpack(ctx context.Context, v unpack) error {
	archive, err := s.within(v.Archive)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	dir, err := s.within(v.Directory)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	f, _, err := s.open(archive)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	defer f.Close()
	if err := s.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := s.root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var got cache.Extracted
	extract := func(in io.Reader) (err error) {
		got, err = cache.Extract(copier{ctx, in}, root)
		return err
	}
	kind, err := programFor(f)
	if err != nil {
		return err
	}
	if kind == "" {
		err = extract(f)
	} else {
		err = piped(func(out io.Writer) error { return kind.Unpack(ctx, out, f) }, extract)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	s.files, s.bytes = got.Files, int64(got.Bytes)
	s.say("unpacked %d files from %s, %d bytes", s.files, archive, s.bytes)
	return nil
}

// programFor is the compression of an archive that package cache does not undo
// itself, by its first bytes; empty for others.
func programFor(f *os.File) (stage.Compression, error) {
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch head := string(head[:n]); {
	case strings.HasPrefix(head, "BZh"):
		return "bz2", nil
	case head == "\xfd7zXZ\x00":
		return "lzma", nil
	}
	return "", nil
}
