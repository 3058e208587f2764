package cache

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"floe/protocol"
)

// Tree returns the unpacked tarball of digest d, which may be plain, gzip or
// zstd. The whole tree is verified against its manifest the first time this
// process uses it; after that it is warm, and only its manifest is read.
func (s *Store) Tree(ctx context.Context, d protocol.Digest, sources []Source) (*Entry, error) {
	e, err := s.entry(ctx, d, s.treePath(d),
		func() (protocol.ByteSize, error) { return s.verifyTree(d) },
		func() (protocol.ByteSize, error) { return s.makeTree(ctx, d, sources) })
	if err != nil {
		return nil, fmt.Errorf("cache: tree %v: %w", d, err)
	}
	e.Path = filepath.Join(s.treePath(d), "root")
	return e, nil
}

func (s *Store) verifyTree(d protocol.Digest) (protocol.ByteSize, error) {
	path := s.treePath(d)
	m, err := readManifest(path)
	if err != nil {
		if _, statErr := os.Stat(path); statErr == nil {
			s.quarantine(path)
		}
		return 0, err
	}
	if !s.isWarm(d) {
		if m.Tarball != d {
			err = fmt.Errorf("%w: its manifest is that of %v", ErrMismatch, m.Tarball)
		} else {
			err = m.verify(filepath.Join(path, "root"))
		}
		if err != nil {
			s.quarantine(path)
			return 0, err
		}
		s.setWarm(d, true)
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(path, manifestName), now, now) // the time of last use
	return m.Bytes, nil
}

// makeTree fetches the tarball, unpacks it beside, lists it and renames it into
// place. The tarball itself is not kept: the tree replaces it.
func (s *Store) makeTree(ctx context.Context, d protocol.Digest, sources []Source) (protocol.ByteSize, error) {
	if _, err := s.verifyBlob(d); err != nil {
		if _, err := s.fetchBlob(ctx, d, sources); err != nil {
			return 0, err
		}
	}
	blob := s.blobPath(d)
	defer s.remove(blob)
	f, err := os.Open(blob)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	tmp, err := os.MkdirTemp(s.path("tmp"), "tree-")
	if err != nil {
		return 0, diskError(err)
	}
	defer s.remove(tmp)
	root := filepath.Join(tmp, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		return 0, diskError(err)
	}
	if err := extractInto(f, root); err != nil {
		return 0, diskError(err)
	}
	files, total, err := scan(root)
	if err != nil {
		return 0, err
	}
	if err := s.makeRoom(total); err != nil {
		return 0, err
	}
	if err := writeManifest(tmp, &Manifest{Tarball: d, Bytes: total, Files: files}); err != nil {
		return 0, diskError(err)
	}
	if err := publish(tmp, s.treePath(d)); err != nil {
		return 0, err
	}
	s.setWarm(d, true) // this process has just hashed every file of it
	return total, nil
}

func (s *Store) isWarm(d protocol.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warm[d]
}

func (s *Store) setWarm(d protocol.Digest, warm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if warm {
		s.warm[d] = true
	} else {
		delete(s.warm, d)
	}
}

// extractInto unpacks a tarball below an empty directory.
func extractInto(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = Extract(r, root)
	return err
}
