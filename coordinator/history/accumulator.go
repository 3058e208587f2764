package history

import (
	"fmt"
	"math"
	"math/big"

	"floe/protocol"
)

// accumulator is the exact fold of the values of one statistic. Folding is
// independent of order, and withdrawing a folded value leaves exactly what would
// be there had it never come: equal contents have equal bytes. The zero value is
// the empty fold.
type accumulator struct {
	Count   uint64  `cbor:"1,keyasint"`
	Sum     wide    `cbor:"2,keyasint"`
	Squares wide    `cbor:"3,keyasint"`
	Lowest  extreme `cbor:"4,keyasint"`
	Highest extreme `cbor:"5,keyasint"`
}

// extreme is the least or the greatest value and how many equal it.
type extreme struct {
	Value float64 `cbor:"1,keyasint"`
	Count uint64  `cbor:"2,keyasint"`
}

// put makes x, which occurs n times more, the extreme if it is beyond it.
func (e *extreme) put(x float64, n uint64, beyond bool) {
	switch {
	case e.Count == 0 || beyond:
		*e = extreme{x, n}
	case x == e.Value:
		e.Count += n
	}
}

// fold adds a finite value.
func (a *accumulator) fold(x float64) {
	x += 0 // −0 counts as 0, or equal folds would differ in their bytes
	a.Count++
	a.Sum.addFloat(x, false)
	a.Squares.addSquare(x, false)
	a.foldExtremes(x)
}

func (a *accumulator) foldExtremes(x float64) {
	a.Lowest.put(x, 1, x < a.Lowest.Value)
	a.Highest.put(x, 1, x > a.Highest.Value)
}

// stale reports whether the last value at an extreme was withdrawn. Then the
// extremes must be sought in the ledger before anything is folded or merged:
// clear both and give each remaining value to foldExtremes.
func (a *accumulator) stale() bool {
	return a.Count > 0 && (a.Lowest.Count == 0 || a.Highest.Count == 0)
}

// withdraw takes back a value that was folded.
func (a *accumulator) withdraw(x float64) error {
	x += 0
	if a.Count == 0 {
		return fmt.Errorf("withdraw %v: nothing was folded", x)
	}
	a.Count--
	a.Sum.addFloat(x, true)
	a.Squares.addSquare(x, true)
	for _, e := range []*extreme{&a.Lowest, &a.Highest} {
		if x == e.Value && e.Count > 0 {
			e.Count--
		}
	}
	if a.Count > 0 {
		return nil
	}
	a.Sum.trim()
	a.Squares.trim()
	if len(a.Sum.words) > 0 || len(a.Squares.words) > 0 {
		return fmt.Errorf("withdraw %v: it was never folded", x)
	}
	*a = accumulator{}
	return nil
}

// merge adds all values of b.
func (a *accumulator) merge(b *accumulator) {
	if b.Count == 0 {
		return
	}
	a.Lowest.put(b.Lowest.Value, b.Lowest.Count, b.Lowest.Value < a.Lowest.Value)
	a.Highest.put(b.Highest.Value, b.Highest.Count, b.Highest.Value > a.Highest.Value)
	a.Count += b.Count
	a.Sum.addWide(&b.Sum, false)
	a.Squares.addWide(&b.Squares, false)
}

// sum returns the exact sum rounded once, to the nearest float64; a sum beyond the
// range of float64 is the largest one of its sign, because JSON has no infinity.
func (a *accumulator) sum() float64 {
	return nearest(a.Sum.integer(), -sumUnit)
}

// mean returns the exact mean rounded once; 0 without values.
func (a *accumulator) mean() float64 {
	if a.Count == 0 {
		return 0
	}
	return quotient(a.Sum.integer(), new(big.Int).SetUint64(a.Count), -sumUnit)
}

// deviation returns the sample standard deviation √((Σx² − (Σx)²/n)/(n−1)),
// computed exactly and rounded once; 0 for fewer than two values.
func (a *accumulator) deviation() float64 {
	if a.Count < 2 {
		return 0
	}
	n := new(big.Int).SetUint64(a.Count)
	s := a.Sum.integer()
	top := a.Squares.integer()
	top.Mul(top, n).Sub(top, s.Mul(s, s)) // n·Σx² − (Σx)², in units of 2^−2148
	if top.Sign() <= 0 {                  // all equal; or, less than 0, bytes on disk that are no fold
		return 0
	}
	bottom := new(big.Int).SetUint64(a.Count - 1)
	bottom.Mul(bottom, n)
	return rootOfQuotient(top, bottom, -squareUnit)
}

// summary returns the statistic as people see it.
func (a *accumulator) summary(name string) protocol.StatisticSummary {
	return protocol.StatisticSummary{
		Name: name, Count: a.Count,
		Sum: a.sum(), Mean: a.mean(), StdDev: a.deviation(), Min: a.Lowest.Value, Max: a.Highest.Value,
	}
}

// spare is how many bits of a quotient or a root are computed below the 53 of a
// float64, so that one sticky bit for the rest decides every rounding.
const spare = 53 + 11

// quotient returns p/q·2^exponent rounded to nearest.
func quotient(p, q *big.Int, exponent int) float64 {
	shift := max(0, q.BitLen()-p.BitLen()+spare)
	a := new(big.Int).Abs(p)
	v, rest := new(big.Int).QuoRem(a.Lsh(a, uint(shift)), q, new(big.Int))
	v = sticky(v, rest.Sign() != 0)
	if p.Sign() < 0 {
		v.Neg(v)
	}
	return nearest(v, exponent-shift-1)
}

// rootOfQuotient returns √(p/q·2^exponent) rounded to nearest; exponent is even
// and p not negative.
func rootOfQuotient(p, q *big.Int, exponent int) float64 {
	shift := max(0, q.BitLen()-p.BitLen()+2*spare)
	shift += shift & 1
	v, rest := new(big.Int).QuoRem(new(big.Int).Lsh(p, uint(shift)), q, new(big.Int))
	root := new(big.Int).Sqrt(v)
	inexact := rest.Sign() != 0 || new(big.Int).Mul(root, root).Cmp(v) != 0
	return nearest(sticky(root, inexact), (exponent-shift)/2-1)
}

// sticky returns 2·v, plus one if something was cut off below v.
func sticky(v *big.Int, inexact bool) *big.Int {
	v.Lsh(v, 1)
	if inexact {
		v.SetBit(v, 0, 1)
	}
	return v
}

// nearest rounds v·2^exponent once, half to even, subnormal numbers included.
func nearest(v *big.Int, exponent int) float64 {
	if v.Sign() == 0 {
		return 0
	}
	f := new(big.Float).SetInt(v) // precision as needed: exact
	x, _ := f.SetMantExp(f, exponent).Float64()
	return max(-math.MaxFloat64, min(math.MaxFloat64, x))
}
