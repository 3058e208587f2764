package cache

import (
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
}

type counters struct {
	hits, misses, evicted, quarantined, hitBytes atomic.Uint64
}

func (c *counters) hit(size protocol.ByteSize) {
	c.hits.Add(1)
	c.hitBytes.Add(uint64(size))
}

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	return Stats{
		Hits: s.stats.hits.Load(), Misses: s.stats.misses.Load(), Evicted: s.stats.evicted.Load(),
		Quarantined: s.stats.quarantined.Load(), HitBytes: protocol.ByteSize(s.stats.hitBytes.Load()),
	}
}

// kept is one entry on disk.
type kept struct {
	digest protocol.Digest
	path   string
	size   protocol.ByteSize
	used   time.Time
}

// entries lists blobs and trees, least recently used first.
func (s *Store) entries() ([]kept, error) {
	var all []kept
	blobs, err := filepath.Glob(s.path("blobs", "*", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range blobs {
		d, err := protocol.ParseDigest(filepath.Base(path))
		info, statErr := os.Stat(path)
		if err == nil && statErr == nil {
			all = append(all, kept{d, path, protocol.ByteSize(info.Size()), info.ModTime()})
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
		path := s.treePath(d)
		info, err := os.Stat(filepath.Join(path, manifestName))
		if err != nil {
			continue
		}
		size := protocol.ByteSize(info.Size())
		if m, err := readManifest(path); err == nil {
			size += m.Bytes
		}
		all = append(all, kept{d, path, size, info.ModTime()})
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	return all, nil
}

// makeRoom evicts entries nobody uses until need more bytes fit under the quota.
func (s *Store) makeRoom(need protocol.ByteSize) error {
	if s.quota == 0 {
		return nil
	}
	all, err := s.entries()
	if err != nil {
		return err
	}
	total := need
	for _, e := range all {
		total += e.size
	}
	for _, e := range all {
		if total <= s.quota {
			return nil
		}
		if s.evict(e) {
			total -= e.size
		}
	}
	// A reservation is in steps: the first may be larger than a small quota.
	if total <= s.quota || total == need && need <= reserveStep {
		return nil
	}
	return fmt.Errorf("%w: quota %v, entries in use hold %v", ErrNoSpace, s.quota, total-need)
}

// evict removes an entry unless it is in use, here or in another process.
func (s *Store) evict(e kept) bool {
	l := s.lock(e.digest)
	defer l.Close()
	if ok, err := l.TryLock(); !ok || err != nil {
		return false
	}
	// Renamed first: a half-removed tree never stands under its name.
	gone := s.path("tmp", fmt.Sprintf("evict-%s-%d", e.digest.Hex(), time.Now().UnixNano()))
	if err := os.Rename(e.path, gone); err != nil {
		return false
	}
	s.remove(gone)
	s.setWarm(e.digest, false)
	s.stats.evicted.Add(1)
	return true
}

// Trim evicts entries nobody uses, least recently used first, until at most size
// bytes are left.
func (s *Store) Trim(size protocol.ByteSize) error {
	all, err := s.entries()
	if err != nil {
		return fmt.Errorf("trim cache: %w", err)
	}
	var total protocol.ByteSize
	for _, e := range all {
		total += e.size
	}
	for _, e := range all {
		if total <= size {
			break
		}
		if s.evict(e) {
			total -= e.size
		}
	}
	return nil
}

// Held lists at most limit digests in the cache, most recently used first: what
// a pilot tells the coordinator it has.
func (s *Store) Held(limit int) []protocol.Digest {
	all, err := s.entries()
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
