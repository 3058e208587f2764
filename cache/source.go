package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"floe/protocol"
)

// The ways by which bytes come to the node, in the order in which they are tried.
const (
	fromNeighbour = iota // another user's cache on this node
	fromSite             // the site's cache
	fromFar              // what the caller named: coordinators, then the origin
	ways
)

// fromAny tries sources one after the other, those nearby first, until one gives
// what is right. A lack of space is final. What went wrong nearby is said by the log:
// whose fault it is that there are no bytes is decided by those that the caller named.
func (s *Store) fromAny(ctx context.Context, d protocol.Digest, sources []Source, try func(Source) error) error {
	var all []error
	absent := ErrNoSource
	for way, source := range s.nearest(d, sources) {
		err := try(s.counted(way, source))
		switch {
		case err == nil, errors.Is(err, ErrNoSpace), errors.Is(err, ErrArchive), ctx.Err() != nil:
			return err
		case errors.Is(err, ErrNoSource):
			absent = fmt.Errorf("%s: %w", source.Name, err)
		default:
			if way != fromFar {
				s.logger.Warn("a cache nearby did not give it; going on to the next source", "digest", d, "from", source.Name, "err", err)
				continue
			}
			all = append(all, fmt.Errorf("%s: %w", source.Name, err))
		}
	}
	if len(all) == 0 {
		return absent
	}
	return errors.Join(all...)
}

// nearest goes through all sources of a digest.
func (s *Store) nearest(d protocol.Digest, sources []Source) func(func(int, Source) bool) {
	return func(yield func(int, Source) bool) {
		for _, dir := range s.from {
			if !yield(fromNeighbour, neighbour(dir, d)) {
				return
			}
		}
		if s.site != nil {
			var origins []string
			for _, source := range sources {
				if source.URL != "" {
					origins = append(origins, source.URL)
				}
			}
			site := Source{Name: "the site's cache", Open: func(ctx context.Context) (io.ReadCloser, error) {
				return s.site.Fetch(ctx, d, origins)
			}}
			if !yield(fromSite, site) {
				return
			}
		}
		for _, source := range sources {
			if !yield(fromFar, source) {
				return
			}
		}
	}
}

// neighbour is the cache directory of another user.
func neighbour(dir string, d protocol.Digest) Source {
	return Source{Name: dir, Open: func(context.Context) (io.ReadCloser, error) {
		// Neither a link nor a FIFO in the file's place leads or holds this process up.
		f, err := os.OpenFile(filepath.Join(dir, "blobs", d.Hex()[:2], d.Hex()), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoSource, err)
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			f.Close()
			return nil, fmt.Errorf("%w: %s is not a regular file", ErrMismatch, f.Name())
		}
		return f, nil
	}}
}

// counted is a source whose bytes are counted by the way they come.
func (s *Store) counted(way int, source Source) Source {
	open := source.Open
	source.Open = func(ctx context.Context) (io.ReadCloser, error) {
		in, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return &countedBody{ReadCloser: in, count: func(n int) { s.stats.fetched[way].Add(uint64(n)) }, size: sizeOf(in)}, nil
	}
	return source
}

type countedBody struct {
	io.ReadCloser
	count func(int)
	size  protocol.ByteSize
}

// Read implements io.Reader.
func (c *countedBody) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.count(n)
	return n, err
}

// Size is what the source promised; 0 is unknown.
func (c *countedBody) Size() protocol.ByteSize { return c.size }

// sizeOf is how many bytes a source promises; 0 is unknown.
func sizeOf(in io.Reader) protocol.ByteSize {
	switch r := in.(type) {
	case interface{ Size() protocol.ByteSize }:
		return max(r.Size(), 0)
	case *os.File:
		if info, err := r.Stat(); err == nil {
			return protocol.ByteSize(info.Size())
		}
	}
	return 0
}
