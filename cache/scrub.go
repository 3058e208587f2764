package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"floe/protocol"
)

// How trees are scrubbed: each once in scrubAge, whichever process of whichever node
// does it, slowly enough to go unnoticed beside payloads. 1 TB takes nine hours.
const (
	scrubAge  = 7 * 24 * time.Hour
	scrubLook = 15 * time.Minute
	scrubRate = 32 * protocol.MB // a second
	scrubStep = 4 * protocol.MB
)

// Scrub hashes trees that nobody has hashed for long, until ctx ends. A damaged one
// goes to quarantine, whoever uses it; see [Entry.Intact]. One process at a time
// scrubs a directory; the others look again later.
func (s *Store) Scrub(ctx context.Context) {
	for {
		if pause(ctx, scrubLook/2+rand.N(scrubLook)) != nil {
			return
		}
		if err := s.scrubDue(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("cache not scrubbed", "err", err)
		}
	}
}

// scrubDue hashes every tree that is due.
func (s *Store) scrubDue(ctx context.Context) error {
	l, err := tryLock(s.path("scrubbing"), alone, os.O_RDWR|os.O_CREATE)
	if l == nil || err != nil {
		return err
	}
	defer l.Close()
	all, err := s.good()
	if err != nil {
		return err
	}
	for i := range all {
		info, err := os.Stat(filepath.Join(all[i].path, scrubbedName))
		if err != nil || time.Since(info.ModTime()) < scrubAge {
			continue // a blob, or no longer there, or not due
		}
		if err := s.recheck(ctx, &all[i], scrubRate); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// recheck hashes all of an entry, at most rate bytes a second where rate is not 0,
// and moves it to quarantine if it is damaged.
func (s *Store) recheck(ctx context.Context, e *kept, rate protocol.ByteSize) error {
	f, err := tryLock(e.use, shared, os.O_RDONLY)
	if f == nil || err != nil {
		return nil // it is being evicted
	}
	defer f.Close()
	if e.path == e.use {
		_, err = s.verifyBlob(ctx, e.digest, f)
	} else {
		err = s.rehash(ctx, e.digest, rate)
	}
	if err == nil || canceled(err) {
		return err
	}
	s.logger.Error("a cache entry is damaged; it goes to quarantine", "digest", e.digest, "err", err)
	if f.stands() {
		s.quarantine(e.digest, e.use)
	}
	return err
}

// rehash is Manifest.verify at a rate.
func (s *Store) rehash(ctx context.Context, d protocol.Digest, rate protocol.ByteSize) error {
	_, m, err := s.readTree(d)
	if err != nil {
		return err
	}
	tree := s.treePath(d)
	if rate == 0 {
		return m.verify(ctx, tree)
	}
	return m.verifyBy(ctx, tree, func(root string) error {
		for from := 0; from < len(m.Files); {
			var some []int
			var bytes protocol.ByteSize
			for ; from < len(m.Files) && bytes < scrubStep; from++ {
				some, bytes = append(some, from), bytes+m.Files[from].Size
			}
			if err := m.hash(ctx, root, some); err != nil {
				return err
			}
			if err := pause(ctx, time.Duration(bytes)*time.Second/time.Duration(rate)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Verified is what Verify found.
type Verified struct {
	Entries int               `json:"entries"`
	Bytes   protocol.ByteSize `json:"bytes"`
	Bad     []protocol.Digest `json:"bad"`
}

// Verify hashes everything in the cache now. What is damaged goes to quarantine.
func (s *Store) Verify(ctx context.Context) (Verified, error) {
	var v Verified
	all, err := s.good()
	if err != nil {
		return v, fmt.Errorf("verify cache: %w", err)
	}
	for i := range all {
		switch err := s.recheck(ctx, &all[i], 0); {
		case ctx.Err() != nil:
			return v, ctx.Err()
		case err != nil:
			v.Bad = append(v.Bad, all[i].digest)
		}
		v.Entries++
		v.Bytes += all[i].size
	}
	return v, nil
}

// Summary is what a cache holds.
type Summary struct {
	// Dir is this node's part of the directory.
	Dir string `json:"directory"`
	// Disk is what may still be written; below 0 there is less free than is kept so.
	Disk             protocol.ByteSize `json:"disk"`
	Blobs            int               `json:"blobs"`
	BlobBytes        protocol.ByteSize `json:"blob_bytes"`
	Trees            int               `json:"trees"`
	TreeBytes        protocol.ByteSize `json:"tree_bytes"`
	Quarantined      int               `json:"quarantined"`
	QuarantinedBytes protocol.ByteSize `json:"quarantined_bytes"`
	// Sessions are processes that write, Reserved the room that they have taken.
	Sessions int               `json:"sessions"`
	Reserved protocol.ByteSize `json:"reserved"`
	// OldestUse and OldestHashed are zero without entries, and without trees.
	OldestUse    time.Time `json:"oldest_use"`
	OldestHashed time.Time `json:"oldest_hashed"`
}

// Summary looks at all entries.
func (s *Store) Summary(ctx context.Context) (Summary, error) {
	sum := Summary{Dir: s.dir}
	err := s.inRoom(ctx, func() error {
		var err error
		if sum.Reserved, err = s.sweep(); err != nil {
			return err
		}
		sessions, err := os.ReadDir(s.path("sessions"))
		if err != nil {
			return err
		}
		sum.Sessions = len(sessions) // this process has none: it writes nothing
		all, err := s.entries()
		if err != nil {
			return err
		}
		for i := range all {
			sum.add(&all[i])
		}
		free, err := s.freeAfter(0)
		sum.Disk = free
		return err
	})
	if err != nil {
		return sum, fmt.Errorf("look at cache: %w", err)
	}
	return sum, nil
}

func (sum *Summary) add(e *kept) {
	earlier := func(t *time.Time, u time.Time) {
		if t.IsZero() || u.Before(*t) {
			*t = u
		}
	}
	switch {
	case e.use == "":
		sum.Quarantined++
		sum.QuarantinedBytes += e.size
		return
	case e.use == e.path:
		sum.Blobs++
		sum.BlobBytes += e.size
	default:
		sum.Trees++
		sum.TreeBytes += e.size
		if info, err := os.Stat(filepath.Join(e.path, scrubbedName)); err == nil {
			earlier(&sum.OldestHashed, info.ModTime())
		}
	}
	earlier(&sum.OldestUse, e.used)
}
