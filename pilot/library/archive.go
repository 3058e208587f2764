package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"floe/cache"
	"floe/cache/pack"
	"floe/pilot/stage"
)

type packing struct {
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

func (s *step) pack(ctx context.Context, v packing) error {
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
	p := pack.New(s.root, dir)
	for _, name := range names {
		if err := p.Add(name); err != nil {
			return err
		}
	}
	p.Leave(archive) // the archive of an earlier run does not go into the next one
	err = s.create(archive, func(w io.Writer) error {
		return piped(func(out io.Writer) error { return p.Write(ctx, out) },
			func(in io.Reader) error { return kind.Pack(ctx, w, in) })
	})
	s.files, s.bytes = p.Files, p.Bytes
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
	f, _, err := pack.OpenFile(s.root, archive)
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
		got, err = cache.Extract(pack.Until(ctx, in), root)
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
