package history

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"floe/protocol"
)

// cacheValues bounds what a cache keeps between transactions: at about half a
// kilobyte each, 16 MiB.
const cacheValues = 1 << 15

// folded is a value that rows are folded into.
type folded[V any] interface {
	*V
	empty() bool // nothing is folded in: it needs no place on disk
}

// cache holds the values of one bucket that the writer works on. It belongs to the
// writer's goroutine.
type cache[V any, P folded[V]] struct {
	bucket []byte
	values map[string]P
	dirty  map[string]bool
}

func newCache[V any, P folded[V]](bucket []byte) *cache[V, P] {
	return &cache[V, P]{bucket: bucket, values: make(map[string]P), dirty: make(map[string]bool)}
}

// change returns the value of the key to be changed in this transaction.
func (c *cache[V, P]) change(tx *bbolt.Tx, key []byte) (P, error) {
	k := string(key)
	v, ok := c.values[k]
	if !ok {
		v = new(V)
		if raw := tx.Bucket(c.bucket).Get(key); raw != nil {
			if err := protocol.Unmarshal(raw, v); err != nil {
				return nil, fmt.Errorf("journal: %s %x: %w", c.bucket, key, err)
			}
		}
		c.values[k] = v
	}
	c.dirty[k] = true
	return v, nil
}

// flush writes what was changed, in order of the keys.
func (c *cache[V, P]) flush(tx *bbolt.Tx) error {
	b := tx.Bucket(c.bucket)
	for _, k := range slices.Sorted(maps.Keys(c.dirty)) {
		v := c.values[k]
		if v.empty() {
			if err := b.Delete([]byte(k)); err != nil {
				return err
			}
			continue
		}
		if err := store(b, []byte(k), v); err != nil {
			return err
		}
	}
	clear(c.dirty)
	return nil
}

// trim forgets everything when it has become too much.
func (c *cache[V, P]) trim() {
	if len(c.values) > cacheValues {
		clear(c.values)
	}
}
