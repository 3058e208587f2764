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
)

// Match returns the files and directories below root that fit the patterns, as the
// predefined modules read them: in the order of the patterns, none twice. dir is
// where root is. A pattern that nothing fits is an error.
func Match(root *os.Root, dir string, patterns []string) ([]string, error) {
	s := &step{dir: dir, root: root, out: io.Discard}
	return s.match(".", patterns, false)
}

// Pack writes names, which Match has found below root, as a tarball compressed by
// zstd. The first member is called note and holds text.
func Pack(ctx context.Context, root *os.Root, names []string, note string, text []byte, out io.Writer) error {
	p := pack.New(root, ".")
	for _, name := range names {
		if err := p.Add(name); err != nil {
			return err
		}
	}
	return piped(func(w io.Writer) error {
		t := tar.NewWriter(w)
		if err := t.WriteHeader(&tar.Header{Name: note, Mode: 0o644, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := t.Write(text); err != nil {
			return err
		}
		return p.Append(ctx, t)
	}, func(r io.Reader) error { return stage.Compression("zstd").Pack(ctx, out, r) })
}

// Unpack unpacks what Pack has written below root, which is empty.
func Unpack(ctx context.Context, in io.Reader, root *os.Root) error {
	_, err := cache.Extract(pack.Until(ctx, in), root)
	return err
}
