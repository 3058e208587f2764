package blob

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// MaxSmall is how large a log may be whose bytes are kept in the index: those of a few
// lines, of which there is one for nearly each attempt. A file for each, with its name,
// its index entry and two syncs, was most of what an attempt cost its coordinator.
const MaxSmall = protocol.MaxReportLog

// Small is a blob with its bytes.
type Small struct {
	Info
	Data []byte
}

// PutSmall stores small blobs in the index, all of them or none, with one sync for them
// and for what is put at the same time. Their digests may be zero: nothing is announced
// then. It refuses as Put does.
func (s *Store) PutSmall(all []Small) error {
	now := time.Now()
	var sums [len(classes)]int64
	for k := range all {
		b := &all[k]
		if err := b.check(); err != nil {
			return fmt.Errorf("put: %w", err)
		}
		if limit := min(MaxSmall, s.limits[b.Class].MaxSize); protocol.ByteSize(len(b.Data)) > limit {
			return fmt.Errorf("put %v of %d bytes for %s: %w: the limit is %v", b.Class, len(b.Data), b.Owner, ErrTooLarge, limit)
		}
		d := protocol.DigestOf(b.Data)
		if !b.Digest.IsZero() && b.Digest != d {
			return fmt.Errorf("put %v for %s: %w: announced %v, got %v", b.Class, b.Owner, ErrDigest, b.Digest, d)
		}
		b.Digest, b.Size, b.Missing, b.Added = d, protocol.ByteSize(len(b.Data)), false, now
		if !s.charged(d, b.Class) {
			sums[b.Class] += int64(b.Size)
		}
	}
	if err := s.checkWatermark(); err != nil {
		return fmt.Errorf("put small blobs: %w", err)
	}
	for c, n := range sums {
		if n == 0 {
			continue
		}
		if err := s.reserve(Class(c), n); err != nil {
			return fmt.Errorf("put small blobs: %w", err)
		}
		defer s.unreserve(Class(c), n)
	}
	return s.index.Batch(func(tx *bbolt.Tx) error {
		for k := range all {
			if err := addSmall(tx, all[k].Info, all[k].Data); err != nil {
				return err
			}
		}
		return nil
	})
}

// addSmall adds a reference, and the bytes where they are not here.
func addSmall(tx *bbolt.Tx, i Info, data []byte) error {
	was, known, err := load[record](tx.Bucket(bucketBlobs), i.Digest[:])
	if err != nil {
		return err
	}
	i.Small = true
	if known && !was.Missing {
		i.Small = was.Small
	} else if err := tx.Bucket(bucketSmall).Put(i.Digest[:], data); err != nil {
		return err
	}
	return addReference(tx, i)
}

// putSmall is Put of a small blob.
func (s *Store) putSmall(i *Info, r io.Reader) (Info, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(i.Size)+1))
	if err == nil && len(data) != int(i.Size) {
		err = fmt.Errorf("%w: announced %d bytes, got %d", ErrSize, i.Size, len(data))
		if len(data) > int(i.Size) {
			err = fmt.Errorf("%w: announced %d bytes, got more", ErrSize, i.Size)
		}
	}
	if err != nil {
		return Info{}, fmt.Errorf("put %v for %s: %w", i.Class, i.Owner, err)
	}
	all := []Small{{*i, data}}
	if err := s.PutSmall(all); err != nil {
		return Info{}, err
	}
	return all[0].Info, nil
}

// small are the bytes that the index has under a digest.
func (s *Store) small(d protocol.Digest) (data []byte) {
	_ = s.index.View(func(tx *bbolt.Tx) error {
		data = bytes.Clone(tx.Bucket(bucketSmall).Get(d[:]))
		return nil
	})
	return data
}
