package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"floe/protocol"
)

// Stats are counts since the store was opened, by this process.
type Stats struct {
	Hits, Misses, Evicted, Quarantined uint64
	// HitBytes are bytes that did not have to be fetched.
	HitBytes protocol.ByteSize
	// NeighbourBytes, SiteBytes and FarBytes came from other users' caches on the node,
	// from the site's cache, and from coordinators and origins.
	NeighbourBytes, SiteBytes, FarBytes protocol.ByteSize
}

type counters struct {
	hits, misses, evicted, quarantined, hitBytes atomic.Uint64
	fetched                                      [ways]atomic.Uint64
}

func (c *counters) hit(size protocol.ByteSize) {
	c.hits.Add(1)
	c.hitBytes.Add(uint64(size))
}

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	bytes := func(n *atomic.Uint64) protocol.ByteSize { return protocol.ByteSize(n.Load()) }
	c := &s.stats
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Evicted: c.evicted.Load(), Quarantined: c.quarantined.Load(),
		HitBytes: bytes(&c.hitBytes), NeighbourBytes: bytes(&c.fetched[fromNeighbour]),
		SiteBytes: bytes(&c.fetched[fromSite]), FarBytes: bytes(&c.fetched[fromFar]),
	}
}

// kept is one entry on disk.
type kept struct {
	digest protocol.Digest
	path   string // what is moved
	use    string // what users lock; empty in quarantine
	size   protocol.ByteSize
	used   time.Time
}

// entries lists what takes room: first what lies in quarantine, then blobs and
// trees, least recently used first. The room is held.
func (s *Store) entries() ([]kept, error) {
	bad, err := s.quarantined()
	if err != nil {
		return nil, err
	}
	good, err := s.good()
	return append(bad, good...), err
}

// good lists blobs and trees, least recently used first.
func (s *Store) good() ([]kept, error) {
	var all []kept
	blobs, err := filepath.Glob(s.path("blobs", "*", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range blobs {
		d, err := protocol.ParseDigest(filepath.Base(path))
		info, statErr := os.Stat(path)
		if err == nil && statErr == nil {
			all = append(all, kept{d, path, path, inBlocks(protocol.ByteSize(info.Size())), info.ModTime()})
		}
	}
	trees, err := os.ReadDir(s.path("trees"))
	if err != nil {
		return nil, err
	}
	for _, e := range trees {
		d, err := protocol.ParseDigest(e.Name())
		if err != nil {
			continue
		}
		use := filepath.Join(s.treePath(d), aboutName)
		about, info, err := readAbout(use)
		switch {
		case err != nil && !isThere(s.treePath(d)): // evicted meanwhile
		case err != nil:
			s.quarantine(d, use) // its size cannot be known, and nobody could use it
		default:
			all = append(all, kept{d, s.treePath(d), use, about.Disk, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	return all, nil
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// evict removes an entry unless it is in use, here or in another process. The room
// is held.
func (s *Store) evict(e *kept) bool {
	if e.use == "" {
		s.remove(e.path)
		return true
	}
	l, err := tryLock(e.use, alone, os.O_RDWR)
	if l == nil || err != nil {
		return false
	}
	defer l.Close()
	// Renamed first: a half-removed tree never stands under its name.
	if err := s.openSession(); err != nil {
		return false
	}
	gone := s.path("tmp", s.room.id, fmt.Sprintf("evicted-%s-%d", e.digest.Hex(), time.Now().UnixNano()))
	if err := os.Rename(e.path, gone); err != nil {
		return false
	}
	s.remove(gone)
	s.forget(e.digest)
	s.stats.evicted.Add(1)
	return true
}

// Trim evicts entries nobody uses, least recently used first, until at most size
// bytes are left.
func (s *Store) Trim(ctx context.Context, size protocol.ByteSize) error {
	err := s.inRoom(ctx, func() error {
		all, err := s.entries()
		if err != nil {
			return err
		}
		var total protocol.ByteSize
		for _, e := range all {
			total += e.size
		}
		for _, e := range all {
			if total <= size {
				break
			}
			if s.evict(&e) {
				total -= e.size
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("trim cache: %w", err)
	}
	return nil
}

// Held lists at most limit digests in the cache, most recently used first: what
// a pilot tells the coordinator it has.
func (s *Store) Held(limit int) []protocol.Digest {
	all, err := s.good()
	if err != nil {
		return nil
	}
	slices.Reverse(all)
	var held []protocol.Digest
	for _, e := range all {
		if len(held) == limit {
			break
		}
		if !slices.Contains(held, e.digest) {
			held = append(held, e.digest)
		}
	}
	return held
}
