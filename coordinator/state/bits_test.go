package state

import (
	"bytes"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"
)

// Equal sets have equal bytes, whatever was added and removed before, and in
// whatever order; and they come back equal.
func TestEqualSetsHaveEqualBytes(t *testing.T) {
	const limit = 140_000 // three containers
	rapid.Check(t, func(t *rapid.T) {
		ranges := rapid.SliceOfN(rapid.IntRange(0, limit-1), 0, 40).Draw(t, "places")
		step := rapid.IntRange(1, 70_000).Draw(t, "width")
		remove := rapid.SliceOfN(rapid.IntRange(0, limit-1), 0, 20).Draw(t, "removed")
		var a, b bits
		for _, r := range ranges {
			a.addRange(1, uint64(r), uint64(min(r+step%(r%97+2)*11, limit)))
		}
		a.addRange(1, 0, uint64(step))
		for _, r := range remove {
			a.remove(1, uint32(r))
		}
		// The same by another way: one by one from the highest, with others between.
		b.addRange(1, 0, limit)
		each(roaring.Flip(a.view(), 0, limit), func(j uint32) bool { b.remove(1, j); return true })
		b.own(2).RunOptimize()
		x, errA := a.encode()
		y, errB := b.encode()
		if errA != nil || errB != nil || !bytes.Equal(x, y) || a.n != b.n {
			t.Fatalf("sets of %d and %d jobs have %d and %d bytes, %v, %v", a.n, b.n, len(x), len(y), errA, errB)
		}
		var c bits
		if err := c.decode(1, x, limit); err != nil || !c.view().Equals(a.view()) || c.n != a.n {
			t.Fatalf("%d jobs came back as %d, %v", a.n, c.n, err)
		}
	})
}

// A bit-sliced count counts like a number per job.
func TestCounterCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c counter
		want := map[uint32]uint32{}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			j := uint32(rapid.IntRange(0, 5).Draw(t, "job"))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				c.clear(1, oneJob(j))
				want[j] = 0
			case 1:
				c.less(1, j)
				want[j] -= min(want[j], 1)
			case 2:
				c.addAll(1, roaring.BitmapOf(j, j+1))
				want[j]++
				want[j+1]++
			default:
				if got := c.add(1, j); got != want[j]+1 {
					t.Fatalf("add = %d, want %d", got, want[j]+1)
				}
				want[j]++
			}
		}
		for j := range uint32(8) {
			if c.get(j) != want[j] || c.any().Contains(j) != (want[j] > 0) {
				t.Fatalf("job %d counts %d, any %v; want %d", j, c.get(j), c.any().Contains(j), want[j])
			}
		}
	})
}

// addRange adds first to end-1, which the record never does in one step.
func (b *bits) addRange(g generation, first, end uint64) {
	if first < end {
		b.own(g).AddRange(first, end)
		b.n = b.set.GetCardinality()
	}
}
