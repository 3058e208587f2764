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

// named is which bytes a name gave when it was last asked.
type named struct {
	Name   protocol.Digest `cbor:"1,keyasint"`
	Tag    string          `cbor:"2,keyasint"`
	Digest protocol.Digest `cbor:"3,keyasint"`
}

// namesFor is how long a name is remembered after its last use.
const namesFor = 30 * 24 * time.Hour

// The file of a name is called by its digest, as names may hold credentials.
func (s *Store) namePath(name string) string {
	return s.path("names", protocol.DigestOf([]byte(name)).Hex())
}

// Named tells which blob a name gave, and under which tag: whatever its origin says
// to tell one content from another. Empty when it is not known.
func (s *Store) Named(name string) (tag string, d protocol.Digest) {
	var n named
	path := s.namePath(name)
	if _, err := readSealed(path, &n); err != nil || n.Name != protocol.DigestOf([]byte(name)) {
		return "", protocol.Digest{}
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // the time of last use; losing one is harmless
	return n.Tag, n.Digest
}

// Add takes bytes whose digest nobody knows beforehand, under a name and a tag that
// their origin gave.
func (s *Store) Add(ctx context.Context, name, tag string, in io.Reader) (*Entry, error) {
	w, err := s.write(ctx, in, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cache: add: %w", err)
	}
	defer w.close()
	use, err := w.publish()
	if err != nil {
		return nil, fmt.Errorf("cache: add: %w", err)
	}
	s.stats.misses.Add(1)
	s.stats.fetched[fromFar].Add(uint64(w.size))
	if _, err := writeSealed(s.namePath(name), &named{protocol.DigestOf([]byte(name)), tag, w.digest}); err != nil {
		s.logger.Warn("the name of a cached file is not remembered", "digest", w.digest, "err", err)
	}
	return &Entry{Path: use.path, Digest: w.digest, Size: w.size, use: use}, nil
}

// forgetNames removes names that were not used for long.
func (s *Store) forgetNames() {
	names, _ := filepath.Glob(s.path("names", "*")) // the pattern is well formed
	for _, path := range names {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > namesFor {
			_ = os.Remove(path) // the next process tries again
		}
	}
}
