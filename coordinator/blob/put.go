package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// chunk is how much is read, hashed, written and reserved at once.
const chunk = 256 << 10

// Put stores the bytes of r under their digest and refers to them from i.Class and
// i.Owner. i.Digest and i.Size are what the caller announces: a zero digest and a
// negative size announce nothing. It returns once everything is synced, and may be
// repeated: if the digest is announced and the blob is here, r is not read.
//
// It refuses by ErrReference, ErrDigest, ErrSize, ErrTooLarge, ErrQuota and
// ErrWatermark; then nothing has changed.
func (s *Store) Put(ctx context.Context, i Info, r io.Reader) (Info, error) {
	if err := i.check(); err != nil {
		return Info{}, fmt.Errorf("put: %w", err)
	}
	limit := s.limits[i.Class]
	if i.Size > limit.MaxSize {
		return Info{}, fmt.Errorf("put %v of %v for %s: %w: the limit is %v", i.Class, i.Size, i.Owner, ErrTooLarge, limit.MaxSize)
	}
	i.Added, i.Missing = time.Now(), false
	if i.Class == Log && i.Size >= 0 && i.Size <= MaxSmall {
		return s.putSmall(&i, r)
	}
	if done, err := s.putAgain(&i); done || err != nil {
		return i, err
	}
	if err := s.checkWatermark(); err != nil {
		return Info{}, fmt.Errorf("put %v for %s: %w", i.Class, i.Owner, err)
	}
	f, err := os.CreateTemp(s.path("incoming"), "put-*")
	if err != nil {
		return Info{}, fmt.Errorf("put: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after success
	reserved, err := s.receive(ctx, &i, f, r)
	defer s.unreserve(i.Class, reserved)
	if err := errors.Join(err, f.Close()); err != nil {
		return Info{}, fmt.Errorf("put %v for %s: %w", i.Class, i.Owner, err)
	}
	return i, s.publish(&i, f.Name())
}

// Refer takes over references that a peer has, with their age. A blob that is not
// here counts as missing from then on, so that it is pulled. It returns how many
// were new.
func (s *Store) Refer(infos []Info) (added int, err error) {
	for i := range infos {
		if err := infos[i].check(); err != nil {
			return 0, fmt.Errorf("refer: %w", err)
		}
	}
	err = s.index.Update(func(tx *bbolt.Tx) error {
		added = 0
		for _, i := range infos {
			fresh, err := refer(tx, i)
			if err != nil {
				return err
			}
			if fresh {
				added++
			}
		}
		return nil
	})
	return added, err
}

func (i *Info) check() error {
	switch {
	case i.Class == 0 || int(i.Class) >= len(classes):
		return fmt.Errorf("%w: %v", ErrReference, i.Class)
	case i.Owner == "" || len(i.Owner) > MaxOwner || strings.ContainsRune(i.Owner, 0):
		return fmt.Errorf("%w: owner %.40q must have 1 to %d bytes, none of them zero", ErrReference, i.Owner, MaxOwner)
	}
	return nil
}

// putAgain refers to a blob that is already here.
func (s *Store) putAgain(i *Info) (bool, error) {
	if i.Digest.IsZero() {
		return false, nil
	}
	l := s.lock(i.Digest)
	l.Lock()
	defer l.Unlock()
	have, err := s.Stat(i.Digest)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && have.Missing:
		return false, nil
	case err != nil:
		return false, err
	case i.Size >= 0 && i.Size != have.Size:
		return false, fmt.Errorf("put %v: %w: announced %d bytes, it has %d", i.Digest, ErrSize, i.Size, have.Size)
	}
	if fi, err := os.Stat(s.file(i.Digest)); !have.Small && (err != nil || fi.Size() != int64(have.Size)) {
		return false, nil // publish will put the file right
	}
	i.Size, i.Small = have.Size, have.Small
	if !s.charged(i.Digest, i.Class) {
		if err := s.reserve(i.Class, int64(i.Size)); err != nil {
			return false, fmt.Errorf("put %v: %w", i.Digest, err)
		}
		defer s.unreserve(i.Class, int64(i.Size))
	}
	return true, s.index.Batch(func(tx *bbolt.Tx) error { return addReference(tx, *i) })
}

// charged reports whether the blob counts against the class already; then a
// further owner, or mending it, needs no room.
func (s *Store) charged(d protocol.Digest, c Class) (yes bool) {
	_ = s.index.View(func(tx *bbolt.Tx) error {
		yes = hasPrefix(tx.Bucket(bucketRefs), refKey(d, c, ""))
		return nil
	})
	return yes
}

// receive writes r to f, reserving as it goes, and completes i. It returns how
// much is reserved, also with an error.
func (s *Store) receive(ctx context.Context, i *Info, f *os.File, r io.Reader) (reserved int64, err error) {
	limit := int64(s.limits[i.Class].MaxSize)
	announced := int64(i.Size)
	reserve := func(n int64) error {
		if n <= reserved || s.charged(i.Digest, i.Class) {
			return nil
		}
		if err := s.reserve(i.Class, n-reserved); err != nil {
			return err
		}
		reserved = n
		return nil
	}
	if err := reserve(announced); err != nil {
		return reserved, err
	}
	hash := sha256.New()
	room := int64(chunk)
	if announced >= 0 {
		room = min(room, announced+1) // most are logs of a few hundred bytes; one more shows what is too long
	}
	buf := make([]byte, room)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return reserved, err
		}
		n, readErr := io.ReadFull(r, buf)
		size += int64(n)
		switch {
		case announced >= 0 && size > announced:
			return reserved, fmt.Errorf("%w: announced %d bytes, got more", ErrSize, announced)
		case size > limit:
			return reserved, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, limit)
		}
		if err := reserve(size); err != nil {
			return reserved, err
		}
		hash.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return reserved, err
		}
		if readErr == io.EOF || readErr == io.ErrUnexpectedEOF {
			break
		}
		if readErr != nil {
			return reserved, fmt.Errorf("read: %w", readErr)
		}
	}
	if announced >= 0 && size != announced {
		return reserved, fmt.Errorf("%w: announced %d bytes, got %d", ErrSize, announced, size)
	}
	var d protocol.Digest
	hash.Sum(d[:0])
	if !i.Digest.IsZero() && d != i.Digest {
		return reserved, fmt.Errorf("%w: announced %v, got %v", ErrDigest, i.Digest, d)
	}
	i.Digest, i.Size = d, protocol.ByteSize(size)
	return reserved, f.Sync()
}

// publish moves the synced file into place and then refers to it.
func (s *Store) publish(i *Info, from string) error {
	l := s.lock(i.Digest)
	l.Lock()
	defer l.Unlock()
	to := s.file(i.Digest)
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("put %v: %w", i.Digest, err)
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return fmt.Errorf("put %v: %w", i.Digest, err)
	}
	if err := s.index.Batch(func(tx *bbolt.Tx) error { return addReference(tx, *i) }); err != nil {
		return fmt.Errorf("put %v: %w", i.Digest, err)
	}
	return nil
}

// reserve sets n bytes of the class aside, or answers ErrQuota.
func (s *Store) reserve(c Class, n int64) error {
	used, err := s.usageOf(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if quota := int64(s.limits[c].Quota); int64(used.Bytes)+s.reserved[c]+n > quota {
		return fmt.Errorf("%w: class %v may hold %d bytes", ErrQuota, c, quota)
	}
	s.reserved[c] += n
	return nil
}

func (s *Store) unreserve(c Class, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved[c] -= n
}

// checkWatermark answers ErrWatermark when too little of the disk is free.
func (s *Store) checkWatermark() error {
	free, total, err := diskSpace(s.config.Dir)
	if err != nil {
		return err
	}
	least := int64(s.config.MinFree)
	if least == 0 {
		least = max(1<<30, min(total/10, 10<<30))
	}
	if free < least {
		return fmt.Errorf("%w: %d bytes free, want %d", ErrWatermark, free, least)
	}
	return nil
}
