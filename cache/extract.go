package cache

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"floe/protocol"

	"github.com/klauspost/compress/zstd"
)

// ErrArchive: the tarball is malformed, or holds what no software environment may.
var ErrArchive = errors.New("refused archive")

// Limits of an archive. Source: research on hostile archives (T15).
const (
	maxArchiveFiles = 100_000
	maxArchiveBytes = 20 * protocol.GB
	maxArchiveDepth = 40
	maxNameLength   = 255
	maxZstdWindow   = 64 << 20
)

// openArchive undoes the compression that the first bytes show: zstd, gzip or none.
func openArchive(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(maxZstdWindow*2), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return d.IOReadCloser(), nil
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		return z, nil
	}
	return io.NopCloser(b), nil
}

// extract unpacks a tarball below dir, which must be empty. Files keep only their
// permission bits for the owner's class; owners and times are dropped. Anything
// but files, directories and links that stay inside is refused.
func extract(r io.Reader, dir string) error {
	in, err := openArchive(r)
	if err != nil {
		return err
	}
	defer in.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(in)
	var files int
	var total protocol.ByteSize
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if files++; files > maxArchiveFiles {
			return fmt.Errorf("%w: more than %d files", ErrArchive, maxArchiveFiles)
		}
		if total += protocol.ByteSize(h.Size); total > maxArchiveBytes || h.Size < 0 {
			return fmt.Errorf("%w: more than %v", ErrArchive, maxArchiveBytes)
		}
		name, err := innerName(h.Name)
		if err != nil {
			return err
		}
		if name == "." {
			continue
		}
		if err := extractOne(root, t, h, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// innerName cleans the name of a member and refuses one that leaves the archive.
func innerName(name string) (string, error) {
	clean := path.Clean(strings.TrimSuffix(name, "/"))
	switch {
	case path.IsAbs(clean), clean == "..", strings.HasPrefix(clean, "../"), strings.ContainsRune(name, 0):
		return "", fmt.Errorf("%w: member %q leads outside", ErrArchive, name)
	case strings.Count(clean, "/") >= maxArchiveDepth:
		return "", fmt.Errorf("%w: member %.80q is more than %d levels deep", ErrArchive, name, maxArchiveDepth)
	}
	for part := range strings.SplitSeq(clean, "/") {
		if len(part) > maxNameLength {
			return "", fmt.Errorf("%w: a name of %d bytes", ErrArchive, len(part))
		}
	}
	return clean, nil
}

func extractOne(root *os.Root, t *tar.Reader, h *tar.Header, name string) error {
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o700); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		// Only whether it may be executed is kept; set-uid and the like are dropped.
		mode := fs.FileMode(0o600) | fs.FileMode(h.Mode)&0o100
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, t); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	case tar.TypeSymlink:
		target := path.Join(path.Dir(name), h.Linkname)
		if path.IsAbs(h.Linkname) || target == ".." || strings.HasPrefix(target, "../") {
			return fmt.Errorf("%w: link to %q leads outside", ErrArchive, h.Linkname)
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("%w: member of type %q; only files, directories and symbolic links are taken", ErrArchive, h.Typeflag)
}
