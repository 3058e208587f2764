package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/time/rate"

	"floe/protocol"
)

// Scrubbed says what one pass of Scrub found.
type Scrubbed struct {
	Blobs   int
	Bytes   protocol.ByteSize
	Damaged []protocol.Digest // now missing
	Orphans int               // files without a reference, removed
}

// Scrub reads every blob, moves damaged ones to quarantine, marks lost ones as
// missing and removes files that no reference names. It reads at most at the
// configured rate; one pass runs at a time.
func (s *Store) Scrub(ctx context.Context) (Scrubbed, error) {
	s.scrubbing.Lock()
	defer s.scrubbing.Unlock()
	var sum Scrubbed
	limiter := rate.NewLimiter(rate.Limit(s.config.ScrubRate), chunk)
	var from protocol.Digest
	for {
		page, err := s.present(from, 256)
		if err != nil {
			return sum, err
		}
		if len(page) == 0 {
			break
		}
		for _, i := range page {
			good, err := s.verify(ctx, i, limiter)
			if err != nil {
				return sum, err
			}
			sum.Blobs++
			sum.Bytes += i.Size
			if good {
				continue
			}
			damaged, err := s.quarantine(i.Digest)
			if err != nil {
				return sum, err
			}
			if damaged {
				sum.Damaged = append(sum.Damaged, i.Digest)
			}
		}
		if from = page[len(page)-1].Digest; !increment(&from) {
			break
		}
	}
	orphans, err := s.removeOrphans(ctx)
	sum.Orphans = orphans
	return sum, err
}

// increment makes d the next digest; false after the last one.
func increment(d *protocol.Digest) bool {
	for i := len(d) - 1; i >= 0; i-- {
		if d[i]++; d[i] != 0 {
			return true
		}
	}
	return false
}

// present returns up to limit blobs from the digest on that should be here.
func (s *Store) present(from protocol.Digest, limit int) (infos []Info, err error) {
	err = s.index.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketBlobs).Cursor()
		for k, v := c.Seek(from[:]); k != nil && len(infos) < limit; k, v = c.Next() {
			var r record
			if err := protocol.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("index: blob %x: %w", k, err)
			}
			if !r.Missing {
				infos = append(infos, Info{Digest: protocol.Digest(k), Size: r.Size, Small: r.Small})
			}
		}
		return nil
	})
	return infos, err
}

// verify reads a blob and reports whether its bytes are what its name says.
// limiter may be nil.
func (s *Store) verify(ctx context.Context, i Info, limiter *rate.Limiter) (bool, error) {
	if i.Small {
		return protocol.DigestOf(s.small(i.Digest)) == i.Digest, nil
	}
	f, err := os.Open(s.file(i.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("scrub %v: %w", i.Digest, err)
	}
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(f, buf)
		hash.Write(buf[:n])
		if limiter != nil {
			if err := limiter.WaitN(ctx, n); err != nil {
				return false, err
			}
		}
		if err != nil {
			// A file that cannot be read is damaged, too.
			var d protocol.Digest
			return (err == io.EOF || err == io.ErrUnexpectedEOF) && protocol.Digest(hash.Sum(d[:0])) == i.Digest, nil
		}
	}
}

// quarantine looks at a suspected blob again, while nothing can change it. If it is
// damaged or lost, it moves the file aside, marks the blob as missing and returns
// true; false if it is good after all or no longer referred to.
func (s *Store) quarantine(d protocol.Digest) (bool, error) {
	l := s.lock(d)
	l.Lock()
	defer l.Unlock()
	i, err := s.Stat(d)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || i.Missing {
		return i.Missing, err
	}
	good, err := s.verify(context.Background(), i, nil)
	if good || err != nil {
		return false, err
	}
	to := s.path("quarantine", d.Hex()+"-"+time.Now().UTC().Format("20060102T150405.000"))
	if i.Small {
		if err := os.WriteFile(to, s.small(d), 0o600); err != nil {
			return false, fmt.Errorf("quarantine %v: %w", d, err)
		}
	} else if err := os.Rename(s.file(d), to); err == nil {
		now := time.Now()
		_ = os.Chtimes(to, now, now) // Expire counts from here; evidence stays either way
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("quarantine %v: %w", d, err)
	}
	s.config.Logger.Warn("blob is damaged or lost; it must come back from a peer", "digest", d, "class", i.Class.String(), "owner", i.Owner)
	err = s.index.Batch(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketSmall).Delete(d[:]); err != nil {
			return err
		}
		return store(tx.Bucket(bucketBlobs), d[:], record{Size: i.Size, Missing: true})
	})
	return err == nil, err
}

// removeOrphans removes the files that no reference names: a crash between file
// and index leaves them.
func (s *Store) removeOrphans(ctx context.Context) (int, error) {
	n := 0
	for b := range 256 {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		dir := s.path("blobs", fmt.Sprintf("%02x", b))
		entries, err := os.ReadDir(dir)
		if err != nil {
			return n, fmt.Errorf("scrub: %w", err)
		}
		for _, e := range entries {
			removed, err := s.removeOrphan(dir, e.Name())
			if err != nil {
				return n, fmt.Errorf("scrub: %w", err)
			}
			if removed {
				n++
			}
		}
	}
	return n, nil
}

func (s *Store) removeOrphan(dir, name string) (bool, error) {
	d, err := protocol.ParseDigest(name)
	if err == nil {
		l := s.lock(d)
		l.Lock()
		defer l.Unlock()
		if i, err := s.Stat(d); !errors.Is(err, ErrNotFound) && !i.Missing && !i.Small {
			return false, err
		}
	}
	return true, os.Remove(filepath.Join(dir, name))
}
