package state

import (
	"bytes"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

// bits is a set of job indexes with a cached size. A set of an older generation
// is shared with a Frozen and copied before its first change.
type bits struct {
	set *roaring.Bitmap // nil is empty
	n   uint64
	gen generation
}

var noJobs = roaring.New() // never changed

// view returns the set for reading only.
func (b *bits) view() *roaring.Bitmap {
	if b.set == nil {
		return noJobs
	}
	return b.set
}

func (b *bits) has(j uint32) bool { return b.n > 0 && b.set.Contains(j) }

// min returns the lowest job; the set must not be empty.
func (b *bits) min() uint32 { return b.set.Minimum() }

// own makes the set safe to change.
func (b *bits) own(g generation) *roaring.Bitmap {
	switch {
	case b.set == nil:
		b.set = roaring.New()
	case b.gen != g:
		b.set = b.set.Clone()
	}
	b.gen = g
	return b.set
}

func (b *bits) add(g generation, j uint32) bool {
	if !b.own(g).CheckedAdd(j) {
		return false
	}
	b.n++
	return true
}

func (b *bits) remove(g generation, j uint32) bool {
	if b.n == 0 || !b.own(g).CheckedRemove(j) {
		return false
	}
	b.n--
	return true
}

func (b *bits) addAll(g generation, o *roaring.Bitmap) {
	if !o.IsEmpty() {
		b.own(g).Or(o)
		b.n = b.set.GetCardinality()
	}
}

func (b *bits) removeAll(g generation, o *roaring.Bitmap) {
	if b.n > 0 && b.set.Intersects(o) {
		b.own(g).AndNot(o)
		b.n = b.set.GetCardinality()
	}
}

// put adds jobs.
func (b *bits) put(g generation, jobs jobSet) {
	if jobs.many == nil {
		b.add(g, jobs.one)
	} else {
		b.addAll(g, jobs.many)
	}
}

// drop removes jobs and tells whether all of them were there.
func (b *bits) drop(g generation, jobs jobSet) bool {
	if jobs.many == nil {
		return b.remove(g, jobs.one)
	}
	before := b.n
	b.removeAll(g, jobs.many)
	return before-b.n == jobs.many.GetCardinality()
}

// assign makes the set equal to o, which it may keep.
func (b *bits) assign(g generation, o *roaring.Bitmap) {
	b.set, b.n, b.gen = o, o.GetCardinality(), g
}

// shortRange is up to how many jobs in a row encode adds one by one.
const shortRange = 16

// encode writes the set so that equal sets have equal bytes, whatever their past:
// roaring's own containers remember how they came about.
func (b *bits) encode() ([]byte, error) {
	if b.n == 0 {
		return nil, nil
	}
	fresh := roaring.New()
	single := make([]uint32, 0, 4096)
	for first, end := range b.set.Ranges() {
		if n := end - uint64(first); n > uint64(cap(single)-len(single)) || n > shortRange {
			fresh.AddMany(single)
			single = single[:0]
		}
		if end-uint64(first) > shortRange {
			fresh.AddRange(uint64(first), end)
			continue
		}
		for j := uint64(first); j < end; j++ {
			single = append(single, uint32(j))
		}
	}
	fresh.AddMany(single)
	fresh.RunOptimize()
	return fresh.ToBytes()
}

// decode reads what encode wrote and refuses jobs from limit on.
func (b *bits) decode(g generation, data []byte, limit uint32) error {
	if len(data) == 0 {
		*b = bits{}
		return nil
	}
	set := roaring.New()
	n, err := set.ReadFrom(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("bitmap: %w", err)
	}
	if n != int64(len(data)) {
		return fmt.Errorf("bitmap: %d bytes after its end", int64(len(data))-n)
	}
	if err := set.Validate(); err != nil {
		return fmt.Errorf("bitmap: %w", err)
	}
	if set.IsEmpty() || set.Maximum() >= limit {
		return fmt.Errorf("bitmap: empty, or beyond job %d", limit)
	}
	b.assign(g, set)
	return nil
}

// each calls f for the jobs of a set in order until f returns false. The set must
// not be changed meanwhile.
func each(set *roaring.Bitmap, f func(j uint32) bool) {
	var buffer [256]uint32
	for it := set.ManyIterator(); ; {
		n := it.NextMany(buffer[:])
		if n == 0 {
			return
		}
		for _, j := range buffer[:n] {
			if !f(j) {
				return
			}
		}
	}
}

// rangesOf lists a set as ranges.
func rangesOf(set *roaring.Bitmap) []protocol.JobRange {
	var out []protocol.JobRange
	each(set, func(j uint32) bool {
		index := protocol.JobIndex(j)
		if n := len(out); n > 0 && uint64(out[n-1].Last)+1 == uint64(index) {
			out[n-1].Last = index
		} else {
			out = append(out, protocol.JobRange{First: index, Last: index})
		}
		return true
	})
	return out
}

// setOf makes a set of ranges, cut at end.
func setOf(ranges []protocol.JobRange, end uint32) *roaring.Bitmap {
	set := roaring.New()
	for _, r := range ranges {
		if last := min(uint64(r.Last)+1, uint64(end)); uint64(r.First) < last {
			set.AddRange(uint64(r.First), last)
		}
	}
	return set
}

// counter counts small numbers per job: slice i holds bit i of each count. Jobs
// whose count is zero cost nothing.
type counter struct{ slices []bits }

func (c *counter) get(j uint32) uint32 {
	n := uint32(0)
	for i := range c.slices {
		if c.slices[i].has(j) {
			n |= 1 << i
		}
	}
	return n
}

// add adds one for a job and returns the new count.
func (c *counter) add(g generation, j uint32) uint32 {
	for i := 0; ; i++ {
		if i == len(c.slices) {
			c.slices = append(c.slices, bits{})
		}
		if c.slices[i].add(g, j) {
			return c.get(j)
		}
		c.slices[i].remove(g, j) // carry
	}
}

// addAll adds one for each job of a set.
func (c *counter) addAll(g generation, set *roaring.Bitmap) {
	for i := 0; !set.IsEmpty(); i++ {
		if i == len(c.slices) {
			c.slices = append(c.slices, bits{})
		}
		s := &c.slices[i]
		carry := roaring.And(s.view(), set)
		s.own(g).Xor(set)
		s.n = s.set.GetCardinality()
		set = carry
	}
}

// less subtracts one for a job whose count is not zero.
func (c *counter) less(g generation, j uint32) {
	if c.get(j) == 0 {
		return
	}
	for i := range c.slices {
		if c.slices[i].remove(g, j) {
			return
		}
		c.slices[i].add(g, j) // borrow
	}
}

func (c *counter) clear(g generation, jobs jobSet) {
	for i := range c.slices {
		if c.slices[i].n > 0 {
			c.slices[i].drop(g, jobs)
		}
	}
}

// any returns the jobs whose count is not zero, for reading only.
func (c *counter) any() *roaring.Bitmap {
	set := noJobs
	for i := range c.slices {
		if c.slices[i].n > 0 {
			set = roaring.Or(set, c.slices[i].set)
		}
	}
	return set
}
