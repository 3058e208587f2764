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

// Extracted is what an archive held.
type Extracted struct {
	// Files counts all members but directories.
	Files int
	Bytes protocol.ByteSize
}

// Extract unpacks a tarball below root, and overwrites nothing there. Files keep of
// their mode only whether they may be executed; owners and times are dropped.
// Anything but files, directories and links that stay inside is refused with
// ErrArchive, and so is a member that lies behind a link. What was unpacked before
// an error stays.
func Extract(r io.Reader, root *os.Root) (Extracted, error) {
	return ExtractWithin(r, root, ExtractLimits{Files: maxArchiveFiles, Bytes: maxArchiveBytes})
}

// ExtractLimits bound an archive: its members, and the bytes that these have.
type ExtractLimits struct {
	Files int
	Bytes protocol.ByteSize
}

// ExtractWithin is Extract for those who take less than it does.
func ExtractWithin(r io.Reader, root *os.Root, limits ExtractLimits) (Extracted, error) {
	var got Extracted
	in, err := openArchive(r)
	if err != nil {
		return got, err
	}
	defer in.Close()
	t := tar.NewReader(in)
	x := extraction{root: root, tar: t, dirs: map[string]bool{".": true}}
	for members := 1; ; members++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return got, drain(in, limits.Bytes)
		}
		if err != nil {
			return got, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if members > limits.Files {
			return got, fmt.Errorf("%w: more than %d files", ErrArchive, limits.Files)
		}
		if got.Bytes += protocol.ByteSize(h.Size); got.Bytes > limits.Bytes || h.Size < 0 {
			return got, fmt.Errorf("%w: more than %v", ErrArchive, limits.Bytes)
		}
		name, err := innerName(h.Name)
		if err != nil {
			return got, err
		}
		if name == "." {
			continue
		}
		if err := x.member(h, name); err != nil {
			return got, fmt.Errorf("%s: %w", name, err)
		}
		if h.Typeflag != tar.TypeDir {
			got.Files++
		}
	}
}

// drain reads what follows the last member: the checksum of a compressed stream
// stands at its end. Bytes behind that end are nobody's.
func drain(in io.Reader, most protocol.ByteSize) error {
	_, err := io.Copy(io.Discard, io.LimitReader(in, int64(most)))
	if err != nil && !errors.Is(err, gzip.ErrHeader) {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return nil
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

// extraction is one archive being unpacked.
type extraction struct {
	root *os.Root
	tar  *tar.Reader
	dirs map[string]bool // known to be directories, and no links
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
		x.dirs[name] = true
	}
	return err
}

func (x *extraction) member(h *tar.Header, name string) error {
	if err := x.mkdir(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.mkdir(name)
	case tar.TypeReg:
		// Only whether it may be executed is kept; set-uid and the like are dropped.
		mode := fs.FileMode(0o600) | fs.FileMode(h.Mode)&0o100
		f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, x.tar); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	case tar.TypeSymlink:
		target := path.Join(path.Dir(name), h.Linkname)
		if path.IsAbs(h.Linkname) || target == ".." || strings.HasPrefix(target, "../") {
			return fmt.Errorf("%w: link to %q leads outside", ErrArchive, h.Linkname)
		}
		return x.root.Symlink(h.Linkname, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("%w: member of type %q; only files, directories and symbolic links are taken", ErrArchive, h.Typeflag)
}
