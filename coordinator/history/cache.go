package history

import (
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
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
	values map[string]*cached[P]
	dirty  []*cached[P] // what this transaction changes
}

type cached[P any] struct {
	key   string
	value P
	dirty bool
}

func newCache[V any, P folded[V]](bucket []byte) *cache[V, P] {
	return &cache[V, P]{bucket: bucket, values: make(map[string]*cached[P])}
}

// change returns the value of the key to be changed in this transaction. It does not
// keep the key.
func (c *cache[V, P]) change(tx *bbolt.Tx, key []byte) (P, error) {
	e, ok := c.values[string(key)]
	if !ok {
		e = &cached[P]{key: string(key), value: new(V)}
		if raw := tx.Bucket(c.bucket).Get(key); raw != nil {
			if err := decode(key, raw, e.value); err != nil {
				return nil, fmt.Errorf("%s: %w", c.bucket, err)
			}
		}
		c.values[e.key] = e
	}
	if !e.dirty {
		e.dirty = true
		c.dirty = append(c.dirty, e)
	}
	return e.value, nil
}

// flush writes what was changed, in order of the keys.
func (c *cache[V, P]) flush(tx *bbolt.Tx) error {
	b := tx.Bucket(c.bucket)
	slices.SortFunc(c.dirty, func(x, y *cached[P]) int { return strings.Compare(x.key, y.key) })
	for _, e := range c.dirty {
		e.dirty = false
		if e.value.empty() {
			if err := b.Delete([]byte(e.key)); err != nil {
				return err
			}
			continue
		}
		if err := store(b, []byte(e.key), e.value); err != nil {
			return err
		}
	}
	clear(c.dirty)
	c.dirty = c.dirty[:0]
	return nil
}

// trim forgets everything when it has become too much.
func (c *cache[V, P]) trim() {
	if len(c.values) > cacheValues {
		clear(c.values)
	}
}
