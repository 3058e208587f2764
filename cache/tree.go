package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"floe/protocol"
)

// Tree returns the unpacked tarball of digest d, which may be plain, gzip or
// zstd. Its files cannot be written. How much of a tree that is there is checked
// depends on who has checked it before; see the package.
func (s *Store) Tree(ctx context.Context, d protocol.Digest, sources []Source) (*Entry, error) {
	e, err := s.entry(ctx, d, kind{
		path:   filepath.Join(s.treePath(d), aboutName),
		verify: func(f *locked) (protocol.ByteSize, error) { return s.verifyTree(ctx, d, f) },
		fetch:  func() (*locked, protocol.ByteSize, error) { return s.fetchTree(ctx, d, sources) },
	})
	if err != nil {
		return nil, fmt.Errorf("cache: tree %v: %w", d, err)
	}
	e.Path = filepath.Join(s.treePath(d), rootName)
	return e, nil
}

// fetchTree fetches and unpacks a tarball. The tarball is kept only for others: for
// its user the tree replaces it.
func (s *Store) fetchTree(ctx context.Context, d protocol.Digest, sources []Source) (use *locked, size protocol.ByteSize, err error) {
	tarball, err := s.tarball(ctx, d, sources)
	if err != nil {
		return nil, 0, err
	}
	if tarball != nil {
		defer tarball.Release()
		path := s.blobPath(d)
		own := Source{Name: path, Open: func(context.Context) (io.ReadCloser, error) { return os.Open(path) }}
		return s.makeTree(ctx, d, own)
	}
	err = s.fromAny(ctx, d, sources, func(source Source) (err error) {
		use, size, err = s.makeTree(ctx, d, source)
		return err
	})
	return use, size, err
}

// tarball is the blob of a tree, where there is or should be one.
func (s *Store) tarball(ctx context.Context, d protocol.Digest, sources []Source) (*Entry, error) {
	k := kind{
		path:   s.blobPath(d),
		verify: func(f *locked) (protocol.ByteSize, error) { return s.verifyBlob(ctx, d, f) },
	}
	if e, err := s.use(d, k); e != nil || err != nil || !s.share {
		return e, err
	}
	// Its maker's lock is held.
	k.fetch = func() (*locked, protocol.ByteSize, error) { return s.fetchBlob(ctx, d, sources, 0o644) }
	return s.make(d, k)
}

// makeTree unpacks the tarball of a source beside, while it is read and hashed, and
// gives it its name when all of it was what it should be.
func (s *Store) makeTree(ctx context.Context, d protocol.Digest, source Source) (*locked, protocol.ByteSize, error) {
	work, err := s.workDir(ctx)
	if err != nil {
		return nil, 0, diskError(err)
	}
	tmp, err := os.MkdirTemp(work, "tree-")
	if err != nil {
		return nil, 0, diskError(err)
	}
	defer s.remove(tmp)
	room := s.reservation()
	defer room.release()
	unpacked, err := s.unpack(ctx, d, source, filepath.Join(tmp, rootName), room)
	if err != nil {
		return nil, 0, err
	}
	a := about{Tarball: d, Bytes: unpacked.Bytes, Disk: unpacked.disk, Files: len(unpacked.manifest.Files)}
	if a.Manifest, err = writeSealed(filepath.Join(tmp, manifestName), &unpacked.manifest); err != nil {
		return nil, 0, diskError(err)
	}
	info, err := os.Stat(filepath.Join(tmp, manifestName))
	if err != nil {
		return nil, 0, err
	}
	a.Disk += inBlocks(protocol.ByteSize(info.Size())) + 3*blockBytes // and about, checked, scrubbed
	if err := room.take(ctx, a.Disk); err != nil {
		return nil, 0, err
	}
	stat, err := unpacked.manifest.stat(ctx, filepath.Join(tmp, rootName))
	if err != nil {
		return nil, 0, err
	}
	note(tmp, stat) // this process has hashed what it wrote
	if _, err := writeSealed(filepath.Join(tmp, aboutName), &a); err != nil {
		return nil, 0, diskError(err)
	}
	tree := s.treePath(d)
	use, err := publish(filepath.Join(tmp, aboutName), tmp, tree, filepath.Join(tree, aboutName))
	if errors.Is(err, fs.ErrExist) {
		s.quarantine(d, filepath.Join(tree, aboutName)) // a directory that is no tree
		use, err = publish(filepath.Join(tmp, aboutName), tmp, tree, filepath.Join(tree, aboutName))
	}
	if err != nil {
		return nil, 0, err
	}
	if info, err := use.Stat(); err == nil {
		s.setWarm(d, info, a.Bytes)
	}
	return use, a.Bytes, nil
}

// unpacked is a tree that was written and hashed.
type unpacked struct {
	Extracted
	manifest Manifest
	disk     protocol.ByteSize
}

// unpack unpacks the tarball of a source into a directory that it makes, read-only.
// Nothing is said of what it holds before the whole tarball had the right digest:
// bytes that are not those are ErrMismatch, whatever they did to the unpacking.
func (s *Store) unpack(ctx context.Context, d protocol.Digest, source Source, dir string, room *reservation) (*unpacked, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, diskError(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	in, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}
	p := pump(ctx, in)
	defer p.stop()
	x := newExtraction(root)
	x.listed, x.room = true, func(n protocol.ByteSize) error { return room.grow(ctx, n) }
	u := new(unpacked)
	u.Extracted, err = x.run(ctx, p)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err = diskError(err); errors.Is(err, ErrNoSpace) {
		return nil, err
	}
	switch size, got, readErr := p.rest(); {
	case readErr != nil:
		return nil, readErr
	case got != d:
		return nil, fmt.Errorf("%w: %d bytes with digest %v", ErrMismatch, size, got)
	case err != nil:
		return nil, err
	}
	u.manifest.Files, u.disk = x.files(), x.disk
	// What was written must be what is found: a file system that takes two names for
	// one, or a name for another, shows here.
	if err := u.manifest.complete(dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return u, nil
}

// Unpack unpacks a tarball into dir, which it makes, past the cache: for tasks whose
// software the cache has no room for. The files are checked as those of a tree are.
func (s *Store) Unpack(ctx context.Context, d protocol.Digest, sources []Source, dir string) error {
	err := s.fromAny(ctx, d, sources, func(source Source) error {
		s.remove(dir) // what another source left
		_, err := s.unpack(ctx, d, source, dir, &reservation{store: s, granted: protocol.MaxByteSize})
		return err
	})
	if err != nil {
		return fmt.Errorf("unpack %v: %w", d, err)
	}
	return nil
}

// sorted sorts a manifest's files by path.
func sorted(files []ManifestFile) []ManifestFile {
	slices.SortFunc(files, func(a, b ManifestFile) int { return bytes.Compare(a.Path, b.Path) })
	return files
}
