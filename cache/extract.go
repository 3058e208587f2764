package cache

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
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
	maxPathLength   = 1024
	maxZstdWindow   = 64 << 20
	// An archive may grow by so much, once it has grown beyond what small ones may.
	maxArchiveRatio = 200
	freeOfRatio     = 256 * protocol.MB
)

// zstdBlocks is how many blocks are decoded ahead: with fewer the stages of the decoder
// wait for each other. Measured: from 2 to 8 decoding takes a fifth less time.
const zstdBlocks = 8

// openArchive undoes the compression that the first bytes show: zstd, gzip or none.
// verified says that a digest decides on the bytes, so that zstd need not sum them, too.
func openArchive(r io.Reader, verified bool) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderMaxMemory(maxZstdWindow*2), zstd.WithDecoderConcurrency(zstdBlocks), zstd.IgnoreChecksum(verified))
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
	x := newExtraction(root)
	x.limits = limits
	return x.run(context.Background(), r)
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
	case len(clean) > maxPathLength:
		return "", fmt.Errorf("%w: a path of %d bytes", ErrArchive, len(clean))
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
