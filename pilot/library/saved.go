package library

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"time"

	"floe/cache"
	"floe/cache/pack"
	"floe/pilot/stage"
	"floe/protocol"
)

// Match returns the files and directories below root that fit the patterns, as the
// predefined modules read them: in the order of the patterns, none twice. dir is
// where root is. A pattern that nothing fits is an error.
func Match(root *os.Root, dir string, patterns []string) ([]string, error) {
	s := &step{dir: dir, root: root, out: io.Discard}
	return s.match(".", patterns, false)
}

// Pack writes names, which Match has found below root, as a tarball compressed by
// zstd. The first member is called note and holds text. bound sees the bytes before
// they are compressed, and may refuse them.
func Pack(ctx context.Context, root *os.Root, names []string, note string, text []byte, out, bound io.Writer) error {
	p := pack.New(root, ".")
	for _, name := range names {
		if err := p.Add(name); err != nil {
			return err
		}
	}
	return piped(func(w io.Writer) error {
		t := tar.NewWriter(io.MultiWriter(bound, w))
		if err := t.WriteHeader(&tar.Header{Name: note, Mode: 0o644, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := t.Write(text); err != nil {
			return err
		}
		return p.Append(ctx, t)
	}, func(r io.Reader) error { return stage.Compression("zstd").Pack(ctx, out, r) })
}

// Unpack unpacks what Pack has written below root, which is empty, and refuses what
// would become larger than most.
func Unpack(ctx context.Context, in io.Reader, root *os.Root, most protocol.ByteSize) error {
	limits := cache.ExtractLimits{Files: maxSavedFiles, Bytes: min(most, maxSavedBytes)}
	_, err := cache.ExtractWithin(pack.Until(ctx, in), root, limits)
	return err
}

// What a checkpoint may hold: as much as any other archive.
const (
	maxSavedFiles = 100_000
	maxSavedBytes = 20 * protocol.GB
)
