package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// Open opens a blob for reading and verifies its length; the caller closes it. It
// answers ErrNotFound or ErrMissing.
func (s *Store) Open(d protocol.Digest) (io.ReadCloser, Info, error) {
	i, err := s.Stat(d)
	if err != nil {
		return nil, Info{}, err
	}
	if i.Missing {
		return nil, i, fmt.Errorf("open %v: %w", d, ErrMissing)
	}
	if i.Small {
		if data := s.small(d); protocol.DigestOf(data) == d {
			return io.NopCloser(bytes.NewReader(data)), i, nil
		}
	} else if f, err := os.Open(s.file(d)); err == nil {
		fi, statErr := f.Stat()
		if statErr == nil && fi.Size() == int64(i.Size) {
			return f, i, nil
		}
		_ = f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, i, fmt.Errorf("open %v: %w", d, err)
	}
	damaged, err := s.quarantine(d)
	if err != nil {
		return nil, i, fmt.Errorf("open %v: %w", d, err)
	}
	if !damaged {
		return nil, i, fmt.Errorf("open %v: %w", d, ErrNotFound) // deleted in between
	}
	i.Missing = true
	return nil, i, fmt.Errorf("open %v: %w", d, ErrMissing)
}

// Stat describes a blob with the first of its references. It answers ErrNotFound;
// a missing blob is described as Missing.
func (s *Store) Stat(d protocol.Digest) (Info, error) {
	owners, err := s.owners(d, 1)
	if err != nil {
		return Info{}, err
	}
	if len(owners) == 0 {
		return Info{}, fmt.Errorf("blob %v: %w", d, ErrNotFound)
	}
	return owners[0], nil
}

// Owners returns a blob's references by class and owner, at most 1,000 of them.
func (s *Store) Owners(d protocol.Digest) ([]Info, error) { return s.owners(d, 1000) }

func (s *Store) owners(d protocol.Digest, limit int) (infos []Info, err error) {
	err = s.index.View(func(tx *bbolt.Tx) error {
		r, ok, err := load[record](tx.Bucket(bucketBlobs), d[:])
		if !ok || err != nil {
			return err
		}
		c := tx.Bucket(bucketRefs).Cursor()
		for k, v := c.Seek(d[:]); bytes.HasPrefix(k, d[:]) && len(infos) < limit; k, v = c.Next() {
			var ref reference
			if err := protocol.Unmarshal(v, &ref); err != nil {
				return fmt.Errorf("index: reference %x: %w", k, err)
			}
			infos = append(infos, describe(d, r, Class(k[len(d)]), string(k[len(d)+1:]), ref))
		}
		return nil
	})
	return infos, err
}

func describe(d protocol.Digest, r record, c Class, owner string, ref reference) Info {
	return Info{
		Digest: d, Size: r.Size, Missing: r.Missing, Small: r.Small, Class: c, Owner: owner,
		Failed: ref.Failed, Added: time.Unix(ref.AddedUnix, 0),
	}
}

// List returns the references of a class by owner, at most limit of them, from the
// cursor that an earlier call returned; an empty cursor begins, and is returned at
// the end.
func (s *Store) List(c Class, cursor string, limit int) (infos []Info, next string, err error) {
	prefix := []byte{byte(c)}
	from := append(prefix[:1:1], cursor...)
	err = s.index.View(func(tx *bbolt.Tx) error {
		at := tx.Bucket(bucketOwned).Cursor()
		for k, _ := at.Seek(from); bytes.HasPrefix(k, prefix); k, _ = at.Next() {
			if len(infos) == limit {
				next = string(k[1:])
				return nil
			}
			class, owner, d, err := splitOwned(k)
			if err != nil {
				return err
			}
			r, _, err := load[record](tx.Bucket(bucketBlobs), d[:])
			if err != nil {
				return err
			}
			ref, _, err := load[reference](tx.Bucket(bucketRefs), refKey(d, class, owner))
			if err != nil {
				return err
			}
			infos = append(infos, describe(d, r, class, owner, ref))
		}
		return nil
	})
	return infos, next, err
}

// Missing returns up to limit blobs from the digest on that references name but
// this coordinator lacks.
func (s *Store) Missing(from protocol.Digest, limit int) (digests []protocol.Digest, err error) {
	err = s.index.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketBlobs).Cursor()
		for k, v := c.Seek(from[:]); k != nil && len(digests) < limit; k, v = c.Next() {
			var r record
			if err := protocol.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("index: blob %x: %w", k, err)
			}
			if r.Missing {
				digests = append(digests, protocol.Digest(k))
			}
		}
		return nil
	})
	return digests, err
}

// Usage returns what each class holds.
func (s *Store) Usage() (map[Class]Usage, error) {
	all := make(map[Class]Usage, len(Classes))
	for _, c := range Classes {
		u, err := s.usageOf(c)
		if err != nil {
			return nil, err
		}
		all[c] = u
	}
	return all, nil
}

func (s *Store) usageOf(c Class) (u Usage, err error) {
	err = s.index.View(func(tx *bbolt.Tx) error {
		u, _, err = load[Usage](tx.Bucket(bucketUsage), []byte{byte(c)})
		return err
	})
	return u, err
}

// CountMissing returns how many blobs references name but this coordinator lacks.
func (s *Store) CountMissing() (n int, err error) {
	err = s.index.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketBlobs).ForEach(func(k, v []byte) error {
			var r record
			if err := protocol.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("index: blob %x: %w", k, err)
			}
			if r.Missing {
				n++
			}
			return nil
		})
	})
	return n, err
}

// Space returns how many bytes of the store's disk are free for floe, and how many
// there are.
func (s *Store) Space() (free, total protocol.ByteSize, err error) {
	f, t, err := diskSpace(s.config.Dir)
	return protocol.ByteSize(f), protocol.ByteSize(t), err
}

// After returns the digest that follows d, for going on with Missing; false after
// the last one.
func After(d protocol.Digest) (protocol.Digest, bool) {
	ok := increment(&d)
	return d, ok
}
