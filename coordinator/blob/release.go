package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// Delete takes one reference away, and the blob with its last one. What is not
// there is not an error.
func (s *Store) Delete(d protocol.Digest, c Class, owner string) error {
	if err := s.remove(c, []Info{{Digest: d, Owner: owner}}); err != nil {
		return fmt.Errorf("delete %v of %v %s: %w", d, c, owner, err)
	}
	return nil
}

// Release takes all references of one owner away and returns how many there were.
func (s *Store) Release(ctx context.Context, c Class, owner string) (int, error) {
	n := 0
	for {
		digests, err := s.owned(c, owner, removeAtOnce)
		if err != nil || len(digests) == 0 {
			return n, err
		}
		if err := ctx.Err(); err != nil {
			return n, err
		}
		refs := make([]Info, len(digests))
		for i, d := range digests {
			refs[i] = Info{Digest: d, Owner: owner}
		}
		if err := s.remove(c, refs); err != nil {
			return n, fmt.Errorf("release %v %s: %w", c, owner, err)
		}
		n += len(refs)
	}
}

// Owning returns those of the owners that have a reference of the class, found in
// one reading: of many owners that may have some, few do.
func (s *Store) Owning(c Class, owners []string) (some []string, err error) {
	var prefix []byte
	err = s.index.View(func(tx *bbolt.Tx) error {
		at := tx.Bucket(bucketOwned).Cursor()
		for _, owner := range owners {
			prefix = append(append(append(prefix[:0], byte(c)), owner...), 0)
			if k, _ := at.Seek(prefix); bytes.HasPrefix(k, prefix) {
				some = append(some, owner)
			}
		}
		return nil
	})
	return some, err
}

// removeAtOnce is how many references one transaction removes.
const removeAtOnce = 256

// remove takes references of one class away in one transaction, then the files
// that have none left.
func (s *Store) remove(c Class, refs []Info) error {
	var held [len(s.files)]bool
	for _, r := range refs {
		held[stripe(r.Digest)] = true
	}
	for i := range held { // in order: two removals cannot wait for each other
		if held[i] {
			s.files[i].Lock()
			defer s.files[i].Unlock()
		}
	}
	var gone []protocol.Digest
	err := s.index.Batch(func(tx *bbolt.Tx) error {
		gone = gone[:0] // Batch may call again
		for _, r := range refs {
			last, err := removeReference(tx, r.Digest, c, r.Owner)
			if err != nil {
				return err
			}
			if last {
				gone = append(gone, r.Digest)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range gone {
		if err := os.Remove(s.file(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err) // Scrub removes it later
		}
	}
	return errors.Join(errs...)
}

func (s *Store) owned(c Class, owner string, limit int) (digests []protocol.Digest, err error) {
	prefix := append(append([]byte{byte(c)}, owner...), 0)
	err = s.index.View(func(tx *bbolt.Tx) error {
		at := tx.Bucket(bucketOwned).Cursor()
		for k, _ := at.Seek(prefix); bytes.HasPrefix(k, prefix) && len(digests) < limit; k, _ = at.Next() {
			if len(k) == len(prefix)+len(protocol.Digest{}) {
				digests = append(digests, protocol.Digest(k[len(prefix):]))
			}
		}
		return nil
	})
	return digests, err
}

// Mark says whether an owner turned out to have failed: a log is uploaded before
// the verdict on its attempt is known.
func (s *Store) Mark(c Class, owner string, failed bool) error {
	digests, err := s.owned(c, owner, 1<<16)
	if err == nil {
		digests, err = s.markedOtherwise(digests, c, owner, failed)
	}
	if err != nil || len(digests) == 0 {
		return err
	}
	return s.index.Batch(func(tx *bbolt.Tx) error {
		refs := tx.Bucket(bucketRefs)
		for _, d := range digests {
			key := refKey(d, c, owner)
			ref, ok, err := load[reference](refs, key)
			if err != nil {
				return err
			}
			if !ok || ref.Failed == failed {
				continue
			}
			ref.Failed = failed
			if err := store(refs, key, ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// markedOtherwise are those of an owner's blobs whose mark is another one.
func (s *Store) markedOtherwise(digests []protocol.Digest, c Class, owner string, failed bool) (other []protocol.Digest, err error) {
	err = s.index.View(func(tx *bbolt.Tx) error {
		for _, d := range digests {
			ref, ok, err := load[reference](tx.Bucket(bucketRefs), refKey(d, c, owner))
			if err != nil {
				return err
			}
			if ok && ref.Failed != failed {
				other = append(other, d)
			}
		}
		return nil
	})
	return other, err
}

// Retention is how long references of a class are kept; zero is until released.
type Retention struct {
	OK     time.Duration
	Failed time.Duration
}

// Policy is the retention by class, and of quarantined files.
type Policy struct {
	Classes    map[Class]Retention
	Quarantine time.Duration // zero keeps them
}

// DefaultPolicy keeps logs for a month, those of failed attempts for half a year,
// and everything else until it is released. Source: design §3.
func DefaultPolicy() Policy {
	const day = 24 * time.Hour
	return Policy{
		Classes:    map[Class]Retention{Log: {OK: 30 * day, Failed: 180 * day}},
		Quarantine: 30 * day,
	}
}

// Expired says what one Expire removed.
type Expired struct {
	References  int
	Quarantined int
}

// Expire removes the references that are older than the policy allows at now.
func (s *Store) Expire(ctx context.Context, now time.Time, p Policy) (Expired, error) {
	var e Expired
	for _, c := range Classes {
		keep, ok := p.Classes[c]
		if !ok {
			continue
		}
		for cursor := ""; ; {
			infos, next, err := s.List(c, cursor, removeAtOnce)
			if err != nil {
				return e, err
			}
			old := slices.DeleteFunc(infos, func(i Info) bool {
				age := keep.OK
				if i.Failed {
					age = keep.Failed
				}
				return age <= 0 || now.Sub(i.Added) <= age
			})
			if err := ctx.Err(); err != nil {
				return e, err
			}
			if err := s.remove(c, old); err != nil {
				return e, fmt.Errorf("expire %v: %w", c, err)
			}
			e.References += len(old)
			if cursor = next; cursor == "" {
				break
			}
		}
	}
	return e, s.expireQuarantine(now, p.Quarantine, &e)
}

func (s *Store) expireQuarantine(now time.Time, keep time.Duration, e *Expired) error {
	if keep <= 0 {
		return nil
	}
	entries, err := os.ReadDir(s.path("quarantine"))
	if err != nil {
		return fmt.Errorf("expire quarantine: %w", err)
	}
	for _, entry := range entries {
		fi, err := entry.Info()
		if err != nil || now.Sub(fi.ModTime()) <= keep {
			continue
		}
		if err := os.Remove(filepath.Join(s.path("quarantine"), entry.Name())); err != nil {
			return fmt.Errorf("expire quarantine: %w", err)
		}
		e.Quarantined++
	}
	return nil
}
