package expr

import (
	"fmt"
	"math"
	"math/big"
	"sync"
)

// Powers and logarithms are computed with realPrecision bits and rounded once,
// so that coordinator and pilot agree on every processor; the functions of
// package math differ between processors in the last digit.
const realPrecision = 256

// costReal is what one of them costs of the budget.
const costReal = 200

func real(x float64) *big.Float { return new(big.Float).SetPrec(realPrecision).SetFloat64(x) }

// ln2 is the natural logarithm of 2.
var ln2 = sync.OnceValue(func() *big.Float {
	third := new(big.Float).Quo(real(1), real(3))
	return twiceAtanh(third)
})

// twiceAtanh sums 2(t + t³/3 + t⁵/5 + …) for |t| ≤ 1/3.
func twiceAtanh(t *big.Float) *big.Float {
	square := new(big.Float).Mul(t, t)
	sum, power := new(big.Float).Copy(t), new(big.Float).Copy(t)
	for k := 3.0; power.Sign() != 0 && power.MantExp(nil)-sum.MantExp(nil) > -realPrecision; k += 2 {
		power.Mul(power, square)
		sum.Add(sum, new(big.Float).Quo(power, real(k)))
	}
	return sum.Mul(sum, real(2))
}

// lnReal is the natural logarithm of x > 0.
func lnReal(x *big.Float) *big.Float {
	mantissa := new(big.Float).SetPrec(realPrecision)
	exponent := x.MantExp(mantissa)
	// A mantissa of 0.5…1 becomes one of 0.7…1.4, near the series' centre.
	if mantissa.Cmp(real(math.Sqrt2/2)) < 0 {
		mantissa.Mul(mantissa, real(2))
		exponent--
	}
	t := new(big.Float).Quo(new(big.Float).Sub(mantissa, real(1)), new(big.Float).Add(mantissa, real(1)))
	ln := new(big.Float).Mul(ln2(), real(float64(exponent)))
	return ln.Add(ln, twiceAtanh(t))
}

// expReal is e to the z, for |z| below some thousands.
func expReal(z *big.Float) *big.Float {
	turns, _ := new(big.Float).Quo(z, ln2()).Float64()
	turns = math.Round(turns)
	rest := new(big.Float).Sub(z, new(big.Float).Mul(ln2(), real(turns)))
	// A small rest needs few terms; squaring brings it back.
	const halvings = 8
	rest.SetMantExp(rest, -halvings)
	sum, term := real(1), real(1)
	for k := 1.0; term.Sign() != 0 && term.MantExp(nil) > -realPrecision; k++ {
		term.Mul(term, rest)
		term.Quo(term, real(k))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum.SetMantExp(sum, int(turns))
}

var errOverflow = fmt.Errorf("the result is too large for a float")

// floatPower is x**y of floats by Python's rules: a negative number has no
// fractional power, zero no negative one.
func floatPower(x, y float64) (Value, error) {
	whole := y == math.Trunc(y)
	special := x == 0 || x == 1 || y == 0 || math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0)
	switch {
	case x == 0 && y < 0:
		return nil, fmt.Errorf("0.0 to a negative power")
	case special:
		return Float(math.Pow(x, y)), nil // exact on every processor
	case x < 0 && !whole:
		return nil, fmt.Errorf("a negative number to a fractional power")
	}
	sign := 1.0
	if x < 0 && math.Mod(y, 2) != 0 {
		sign = -1
	}
	size, err := positivePower(math.Abs(x), y)
	return Float(sign * size), err
}

// positivePower is x**y for x > 0, both finite.
func positivePower(x, y float64) (float64, error) {
	var power *big.Float
	const exact = 64
	if y == math.Trunc(y) && math.Abs(y) <= exact {
		// Powers that may lie exactly between two floats are computed exactly.
		power = new(big.Float).SetPrec(53 * exact).SetInt64(1)
		for range int(math.Abs(y)) {
			power.Mul(power, big.NewFloat(x))
		}
		if y < 0 {
			power = new(big.Float).SetPrec(realPrecision).Quo(real(1), power)
		}
	} else {
		ln := new(big.Float).Mul(lnReal(real(x)), real(y))
		if bits := ln.MantExp(nil); bits > 12 {
			if ln.Sign() > 0 {
				return 0, errOverflow
			}
			return 0, nil
		}
		power = expReal(ln)
	}
	f, _ := power.Float64()
	if math.IsInf(f, 0) {
		return 0, errOverflow
	}
	return f, nil
}

// floatLog is the natural logarithm, or to base 10.
func floatLog(x float64, base10 bool) (Value, error) {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 1):
		return Float(x), nil
	case x <= 0:
		return nil, fmt.Errorf("logarithm of %s", Float(x))
	}
	ln := lnReal(real(x))
	if base10 {
		ln.Quo(ln, lnReal(real(10)))
	}
	f, _ := ln.Float64()
	return Float(f), nil
}

// floatExp is e to the x.
func floatExp(x float64) (Value, error) {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 1):
		return Float(x), nil
	case x > 1000:
		return nil, errOverflow
	case x < -1000:
		return Float(0), nil
	}
	f, _ := expReal(real(x)).Float64()
	if math.IsInf(f, 0) {
		return nil, errOverflow
	}
	return Float(f), nil
}
