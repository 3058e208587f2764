package blob

import (
	"bytes"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"floe/coordinator/boltfile"
	"floe/protocol"
)

// The index on disk. Values are CBOR, numbers in keys big-endian.
//
//	blobs    digest 32                        → record
//	small    digest 32                        → the bytes of a small one
//	refs     digest 32 ‖ class 1 ‖ owner      → reference
//	owned    class 1 ‖ owner ‖ 0 ‖ digest 32  → nothing
//	usage    class 1                          → usage
var (
	bucketBlobs = []byte("blobs")
	bucketSmall = []byte("small")
	bucketRefs  = []byte("refs")
	bucketOwned = []byte("owned")
	bucketUsage = []byte("usage")
)

type record struct {
	Size    protocol.ByteSize `cbor:"1,keyasint"`
	Missing bool              `cbor:"2,keyasint,omitempty"`
	Small   bool              `cbor:"3,keyasint,omitempty"` // its bytes are in the index
}

type reference struct {
	AddedUnix int64 `cbor:"1,keyasint"`
	Failed    bool  `cbor:"2,keyasint,omitempty"`
}

// Usage is what one class holds; a blob with several owners in it counts once.
type Usage struct {
	Blobs int64             `cbor:"1,keyasint"`
	Bytes protocol.ByteSize `cbor:"2,keyasint"`
}

func openIndex(path string) (db *bbolt.DB, err error) {
	err = boltfile.Guard(path, func() error { db, err = prepareIndex(path); return err })
	return db, err
}

func prepareIndex(path string) (*bbolt.DB, error) {
	if err := boltfile.Create(path, &bbolt.Options{Timeout: time.Second}); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketBlobs, bucketSmall, bucketRefs, bucketOwned, bucketUsage} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("prepare index %s: %w", path, err)
	}
	db.MaxBatchDelay = 2 * time.Millisecond // concurrent uploads share one sync
	return db, nil
}

func refKey(d protocol.Digest, c Class, owner string) []byte {
	return append(append(append(make([]byte, 0, 33+len(owner)), d[:]...), byte(c)), owner...)
}

func ownedKey(c Class, owner string, d protocol.Digest) []byte {
	k := append(append(make([]byte, 0, 34+len(owner)), byte(c)), owner...)
	return append(append(k, 0), d[:]...)
}

// splitOwned takes a key of owned apart.
func splitOwned(k []byte) (Class, string, protocol.Digest, error) {
	var d protocol.Digest
	cut := len(k) - len(d) - 1
	if cut < 2 || k[cut] != 0 {
		return 0, "", d, fmt.Errorf("index: key %x in owned", k)
	}
	copy(d[:], k[cut+1:])
	return Class(k[0]), string(k[1:cut]), d, nil
}

func load[T any](b *bbolt.Bucket, key []byte) (T, bool, error) {
	var v T
	raw := b.Get(key)
	if raw == nil {
		return v, false, nil
	}
	if err := protocol.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("index: key %x: %w", key, err)
	}
	return v, true, nil
}

func store(b *bbolt.Bucket, key []byte, v any) error {
	raw, err := protocol.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// hasPrefix reports whether b has a key that begins with prefix.
func hasPrefix(b *bbolt.Bucket, prefix []byte) bool {
	k, _ := b.Cursor().Seek(prefix)
	return k != nil && bytes.HasPrefix(k, prefix)
}

// charge changes the usage of a class.
func charge(tx *bbolt.Tx, c Class, blobs int64, size protocol.ByteSize) error {
	b := tx.Bucket(bucketUsage)
	u, _, err := load[Usage](b, []byte{byte(c)})
	if err != nil {
		return err
	}
	u.Blobs += blobs
	u.Bytes += size
	return store(b, []byte{byte(c)}, u)
}

// addReference writes a reference and whatever follows from it. The file, or the bytes
// in the index, are in place. A reference that exists keeps its time.
func addReference(tx *bbolt.Tx, i Info) error {
	blobs, refs := tx.Bucket(bucketBlobs), tx.Bucket(bucketRefs)
	was, _, err := load[record](blobs, i.Digest[:])
	if err != nil {
		return err
	}
	if was.Small && !i.Small {
		if err := tx.Bucket(bucketSmall).Delete(i.Digest[:]); err != nil {
			return err
		}
	}
	if err := store(blobs, i.Digest[:], record{Size: i.Size, Small: i.Small}); err != nil {
		return err
	}
	key := refKey(i.Digest, i.Class, i.Owner)
	if _, ok, err := load[reference](refs, key); ok || err != nil {
		return err
	}
	if !hasPrefix(refs, refKey(i.Digest, i.Class, "")) {
		if err := charge(tx, i.Class, 1, i.Size); err != nil {
			return err
		}
	}
	if err := store(refs, key, reference{AddedUnix: i.Added.Unix(), Failed: i.Failed}); err != nil {
		return err
	}
	return tx.Bucket(bucketOwned).Put(ownedKey(i.Class, i.Owner, i.Digest), nil)
}

// removeReference takes a reference away and reports whether it was the last of a
// file, which must go once the transaction is durable.
func removeReference(tx *bbolt.Tx, d protocol.Digest, c Class, owner string) (last bool, err error) {
	blobs, refs := tx.Bucket(bucketBlobs), tx.Bucket(bucketRefs)
	key := refKey(d, c, owner)
	if refs.Get(key) == nil {
		return false, nil
	}
	r, _, err := load[record](blobs, d[:])
	if err != nil {
		return false, err
	}
	if err := refs.Delete(key); err != nil {
		return false, err
	}
	if err := tx.Bucket(bucketOwned).Delete(ownedKey(c, owner, d)); err != nil {
		return false, err
	}
	if !hasPrefix(refs, refKey(d, c, "")) {
		if err := charge(tx, c, -1, -r.Size); err != nil {
			return false, err
		}
	}
	if hasPrefix(refs, d[:]) {
		return false, nil
	}
	if r.Small {
		if err := tx.Bucket(bucketSmall).Delete(d[:]); err != nil {
			return false, err
		}
	}
	return !r.Small, blobs.Delete(d[:])
}

// refer adds a reference to a blob that may not be here. It tells whether the
// reference is new.
func refer(tx *bbolt.Tx, i Info) (bool, error) {
	blobs, refs := tx.Bucket(bucketBlobs), tx.Bucket(bucketRefs)
	key := refKey(i.Digest, i.Class, i.Owner)
	if refs.Get(key) != nil {
		return false, nil
	}
	if blobs.Get(i.Digest[:]) == nil {
		if err := store(blobs, i.Digest[:], record{Size: i.Size, Missing: true}); err != nil {
			return false, err
		}
	}
	if !hasPrefix(refs, refKey(i.Digest, i.Class, "")) {
		if err := charge(tx, i.Class, 1, i.Size); err != nil {
			return false, err
		}
	}
	if err := store(refs, key, reference{AddedUnix: i.Added.Unix(), Failed: i.Failed}); err != nil {
		return false, err
	}
	return true, tx.Bucket(bucketOwned).Put(ownedKey(i.Class, i.Owner, i.Digest), nil)
}
