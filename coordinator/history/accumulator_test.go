package history

import (
	"bytes"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"floe/protocol"
)

// values draws finite float64 of every size, with the awkward ones often.
func values() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64),
		rapid.Float64Range(-1000, 1000),
		rapid.Map(rapid.IntRange(-50, 50), func(i int) float64 { return float64(i) }),
		rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), 1, -1, math.MaxFloat64, -math.MaxFloat64,
			math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 0x1p-1022, 1e16, -1e16, 1e-300, 0.1,
		}),
	)
}

func encode(t *rapid.T, a *accumulator) []byte {
	b, err := protocol.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func foldAll(xs []float64) *accumulator {
	a := new(accumulator)
	for _, x := range xs {
		a.fold(x)
	}
	return a
}

// TestAccumulatorAgainstRationals compares sum, mean and deviation with exact
// rational arithmetic rounded once.
func TestAccumulatorAgainstRationals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(values(), 1, 40).Draw(t, "values")
		a := foldAll(xs)
		sum, squares := new(big.Rat), new(big.Rat)
		for _, x := range xs {
			r := new(big.Rat).SetFloat64(x)
			sum.Add(sum, r)
			squares.Add(squares, new(big.Rat).Mul(r, r))
		}
		n := new(big.Rat).SetInt64(int64(len(xs)))
		wantSum, _ := sum.Float64()
		wantSum = max(-math.MaxFloat64, min(math.MaxFloat64, wantSum))
		wantMean, _ := new(big.Rat).Quo(sum, n).Float64()
		if got := a.sum(); got != wantSum {
			t.Fatalf("sum(%v) = %v, want %v", xs, got, wantSum)
		}
		if got := a.mean(); got != wantMean {
			t.Fatalf("mean(%v) = %v, want %v", xs, got, wantMean)
		}
		if len(xs) < 2 {
			if got := a.deviation(); got != 0 {
				t.Fatalf("deviation(%v) = %v, want 0", xs, got)
			}
			return
		}
		variance := new(big.Rat).Sub(squares, new(big.Rat).Quo(new(big.Rat).Mul(sum, sum), n))
		variance.Quo(variance, new(big.Rat).Sub(n, big.NewRat(1, 1)))
		requireRoot(t, a.deviation(), variance)
	})
}

// requireRoot checks that got is the float64 nearest to √v, without taking a root:
// the squares of the midpoints to got's neighbours enclose v.
func requireRoot(t *rapid.T, got float64, v *big.Rat) {
	if got == math.MaxFloat64 {
		return // may be cut to range
	}
	square := func(x float64, towards float64) *big.Rat {
		mid := new(big.Rat).SetFloat64(x)
		mid.Add(mid, new(big.Rat).SetFloat64(math.Nextafter(x, towards)))
		mid.Quo(mid, big.NewRat(2, 1))
		return mid.Mul(mid, mid)
	}
	if got > 0 && square(got, 0).Cmp(v) > 0 || square(got, math.MaxFloat64).Cmp(v) < 0 {
		t.Fatalf("deviation = %v, which is not nearest to the root of %v", got, v)
	}
}

// TestAccumulatorOrder folds a permutation, in parts merged afterwards, and wants
// equal bytes.
func TestAccumulatorOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(values(), 0, 60).Draw(t, "values")
		want := encode(t, foldAll(xs))
		shuffled := rapid.Permutation(xs).Draw(t, "permutation")
		if got := encode(t, foldAll(shuffled)); !bytes.Equal(got, want) {
			t.Fatalf("folding %v and %v differ", xs, shuffled)
		}
		cut := rapid.IntRange(0, len(xs)).Draw(t, "cut")
		parts := foldAll(shuffled[:cut])
		parts.merge(foldAll(shuffled[cut:]))
		if got := encode(t, parts); !bytes.Equal(got, want) {
			t.Fatalf("merging %v and %v differs", shuffled[:cut], shuffled[cut:])
		}
	})
}

// TestAccumulatorWithdraw wants that what was withdrawn was never there.
func TestAccumulatorWithdraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := rapid.SliceOfN(values(), 0, 30).Draw(t, "kept")
		drop := rapid.SliceOfN(values(), 0, 30).Draw(t, "withdrawn")
		a := foldAll(rapid.Permutation(append(append([]float64(nil), keep...), drop...)).Draw(t, "order"))
		for i, x := range drop {
			if i%3 == 0 { // as after a restart
				b := encode(t, a)
				*a = accumulator{}
				if err := protocol.Unmarshal(b, a); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.withdraw(x); err != nil {
				t.Fatalf("withdraw %v: %v", x, err)
			}
		}
		want := foldAll(keep)
		if a.stale() {
			a.Lowest, a.Highest = extreme{}, extreme{}
			for _, x := range keep {
				a.foldExtremes(x + 0)
			}
		}
		if !bytes.Equal(encode(t, a), encode(t, want)) {
			t.Fatalf("%v without %v differs from folding the rest", keep, drop)
		}
	})
}

func TestAccumulatorRefusesForeignWithdrawal(t *testing.T) {
	a := foldAll([]float64{2})
	if err := a.withdraw(3); err == nil {
		t.Error("withdrawing 3 from a fold of 2 succeeded")
	}
	if err := new(accumulator).withdraw(1); err == nil {
		t.Error("withdrawing from an empty fold succeeded")
	}
}

// TestAccumulatorCancellation holds what plain float64 gets wrong.
func TestAccumulatorCancellation(t *testing.T) {
	a := foldAll([]float64{1e100, 1, -1e100, 1})
	if got := a.sum(); got != 2 {
		t.Errorf("sum = %v, want 2", got)
	}
	if got := foldAll([]float64{1e8 + 1, 1e8 + 2, 1e8 + 3}).deviation(); got != 1 {
		t.Errorf("deviation = %v, want 1", got)
	}
}

func TestWideFullRange(t *testing.T) {
	var sum, squares wide
	for range 3 {
		sum.addFloat(math.MaxFloat64, false)
		squares.addSquare(math.MaxFloat64, false)
	}
	sum.addFloat(math.SmallestNonzeroFloat64, false)
	squares.addSquare(math.SmallestNonzeroFloat64, false)
	for _, w := range []*wide{&sum, &squares} {
		b, err := w.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back wide
		if err := back.UnmarshalBinary(b); err != nil {
			t.Fatalf("a sum over the whole range of float64 does not decode: %v", err)
		}
		if back.integer().Cmp(w.integer()) != 0 {
			t.Error("decoded value differs")
		}
	}
}

func FuzzAccumulatorDecode(f *testing.F) {
	for _, xs := range [][]float64{nil, {1}, {-1, 1e300}, {0.1, 0.2, -5e-324}} {
		b, err := protocol.Marshal(foldAll(xs))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a accumulator
		if protocol.Unmarshal(b, &a) != nil {
			return
		}
		a.fold(1.5)
		a.merge(&a)
		_ = a.summary("x")
		if _, err := protocol.Marshal(&a); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkFold20(b *testing.B) {
	var a [20]accumulator
	x := 0.1
	for b.Loop() {
		for i := range a {
			a[i].fold(x)
			x += 1.7
		}
	}
}
