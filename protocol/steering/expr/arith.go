package expr

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

var (
	bigZero = new(big.Int)
	bigOne  = big.NewInt(1)
)

// asInt returns v as an integer if it is one; True is 1.
func asInt(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case *big.Int:
		return v, true
	case bool:
		if v {
			return bigOne, true
		}
		return bigZero, true
	}
	return nil, false
}

func isNumber(v Value) bool {
	switch v.(type) {
	case bool, *big.Int, Float:
		return true
	}
	return false
}

func isNaN(v Value) bool {
	f, ok := v.(Float)
	return ok && f != f
}

// asFloat returns a number as a float. An integer beyond the floats is an
// error, as in Python.
func asFloat(v Value) (float64, error) {
	if f, ok := v.(Float); ok {
		return float64(f), nil
	}
	i, ok := asInt(v)
	if !ok {
		return 0, fmt.Errorf("%s is not a number", typeName(v))
	}
	f, _ := new(big.Float).SetInt(i).Float64()
	if math.IsInf(f, 0) {
		return 0, fmt.Errorf("the integer is too large for a float")
	}
	return f, nil
}

// compareNumbers compares exactly, without rounding an integer to a float.
func compareNumbers(a, b Value) int {
	exact := func(v Value) *big.Float {
		if f, ok := v.(Float); ok {
			return big.NewFloat(float64(f))
		}
		i, _ := asInt(v)
		return new(big.Float).SetInt(i)
	}
	return exact(a).Cmp(exact(b))
}

func unary(op string, v Value) (Value, error) {
	if i, ok := asInt(v); ok {
		switch op {
		case opNegative:
			return fitInt(new(big.Int).Neg(i))
		case "~":
			return fitInt(new(big.Int).Not(i))
		}
		return i, nil
	}
	f, ok := v.(Float)
	if !ok || op == "~" {
		return nil, fmt.Errorf("%s of %s", strings.TrimPrefix(op, "unary "), typeName(v))
	}
	if op == opNegative {
		return -f, nil
	}
	return f, nil
}

// binary is a op b for the operators that always need both.
func (ev *evaluator) binary(op string, a, b Value) (Value, error) {
	if text, ok := a.(string); ok && op == "%" {
		return ev.formatTuple(text, b)
	}
	if v, done, err := ev.sequence(op, a, b); done || err != nil {
		return v, err
	}
	if !isNumber(a) || !isNumber(b) {
		return nil, fmt.Errorf("%s %s %s", typeName(a), op, typeName(b))
	}
	x, xInt := asInt(a)
	y, yInt := asInt(b)
	if xInt && yInt {
		_, xBool := a.(bool)
		_, yBool := b.(bool)
		return ev.ints(op, x, y, xBool && yBool)
	}
	f, err := asFloat(a)
	if err != nil {
		return nil, err
	}
	g, err := asFloat(b)
	if err != nil {
		return nil, err
	}
	return ev.floats(op, f, g)
}

// sequence is + of two texts or lists and * of one with an integer.
func (ev *evaluator) sequence(op string, a, b Value) (v Value, done bool, err error) {
	if op == "+" {
		switch x := a.(type) {
		case string:
			if y, ok := b.(string); ok {
				return x + y, true, ev.bytes(len(x) + len(y))
			}
		case List:
			if y, ok := b.(List); ok {
				return append(x[:len(x):len(x)], y...), true, ev.spend(len(x) + len(y))
			}
		case Tuple:
			if y, ok := b.(Tuple); ok {
				return append(x[:len(x):len(x)], y...), true, ev.spend(len(x) + len(y))
			}
		}
		return nil, false, nil
	}
	if op != "*" {
		return nil, false, nil
	}
	times, ok := asInt(b)
	if !ok {
		if times, ok = asInt(a); !ok {
			return nil, false, nil
		}
		a = b
	}
	if !times.IsInt64() && !isNumber(a) {
		return nil, true, fmt.Errorf("repeated %s times", times)
	}
	// One more than any text or list may hold is refused whatever it repeats.
	n, _ := clampInt(times, 0, MaxString+1)
	switch x := a.(type) {
	case string:
		if err := ev.bytes(len(x) * n); err != nil {
			return nil, true, err
		}
		return strings.Repeat(x, n), true, nil
	case List:
		items, err := ev.repeat(x, n)
		return List(items), true, err
	case Tuple:
		items, err := ev.repeat(x, n)
		return Tuple(items), true, err
	}
	return nil, false, nil
}

func (ev *evaluator) repeat(items []Value, n int) ([]Value, error) {
	if err := ev.spend(len(items) * n); err != nil {
		return nil, err
	}
	var all []Value
	for range n {
		if len(items) == 0 {
			break
		}
		all = append(all, items...)
	}
	return all, nil
}

func errZero(op string) error { return fmt.Errorf("%s by zero", op) }

// ints is x op y for integers.
func (ev *evaluator) ints(op string, x, y *big.Int, bools bool) (Value, error) {
	z := new(big.Int)
	switch op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		z.Mul(x, y)
	case "&":
		z.And(x, y)
	case "|":
		z.Or(x, y)
	case "^":
		z.Xor(x, y)
	case "<<", ">>":
		return shift(op, x, y)
	case "**":
		return intPower(x, y)
	default:
		if y.Sign() == 0 {
			return nil, errZero(op)
		}
		if op == "/" {
			ev.dividedInts = true
			if ev.division == DivisionTrue {
				return trueDivide(x, y)
			}
		}
		quotient, rest := floorDivide(x, y)
		if op == "%" {
			return rest, nil
		}
		return quotient, nil
	}
	if bools && (op == "&" || op == "|" || op == "^") {
		return z.Sign() != 0, nil
	}
	return fitInt(z)
}

// floorDivide rounds towards minus infinity; the rest has y's sign.
func floorDivide(x, y *big.Int) (quotient, rest *big.Int) {
	quotient, rest = new(big.Int).QuoRem(x, y, new(big.Int))
	if rest.Sign() != 0 && rest.Sign() != y.Sign() {
		quotient.Sub(quotient, bigOne)
		rest.Add(rest, y)
	}
	return quotient, rest
}

// trueDivide rounds the exact quotient to a float once.
func trueDivide(x, y *big.Int) (Value, error) {
	if x.Sign() == 0 && y.Sign() < 0 {
		return Float(math.Copysign(0, -1)), nil
	}
	f, _ := new(big.Rat).SetFrac(x, y).Float64()
	if math.IsInf(f, 0) {
		return nil, fmt.Errorf("the quotient is too large for a float")
	}
	return Float(f), nil
}

func shift(op string, x, y *big.Int) (Value, error) {
	if y.Sign() < 0 {
		return nil, fmt.Errorf("%s by a negative number", op)
	}
	n, _ := clampInt(y, 0, MaxIntBits+1)
	if op == ">>" {
		return new(big.Int).Rsh(x, uint(n)), nil
	}
	if x.Sign() == 0 {
		return new(big.Int), nil
	}
	return fitInt(new(big.Int).Lsh(x, uint(n)))
}

func intPower(x, y *big.Int) (Value, error) {
	if y.Sign() < 0 {
		f, err := asFloat(x)
		if err != nil {
			return nil, err
		}
		g, err := asFloat(y)
		if err != nil {
			return nil, err
		}
		return floatPower(f, g)
	}
	if x.CmpAbs(bigOne) > 0 {
		// x has at least BitLen-1 bits beyond the first, each multiplied by y.
		if !y.IsInt64() || y.Int64() > MaxIntBits || int64(x.BitLen()-1)*y.Int64() > MaxIntBits {
			return nil, fmt.Errorf("%w: integer of more than %d bits", ErrLimit, MaxIntBits)
		}
	} else {
		// 0, 1 and -1 have powers of any size, which depend on y's last bit.
		if y.Sign() != 0 {
			y = big.NewInt(2 - int64(y.Bit(0)))
		}
	}
	return fitInt(new(big.Int).Exp(x, y, nil))
}

// floats is x op y for floats.
func (ev *evaluator) floats(op string, x, y float64) (Value, error) {
	switch op {
	case "+":
		return Float(x + y), nil
	case "-":
		return Float(x - y), nil
	case "*":
		return Float(x * y), nil
	case "**":
		if err := ev.spend(costReal); err != nil {
			return nil, err
		}
		return floatPower(x, y)
	case "/", "//", "%":
		if y == 0 {
			return nil, errZero(op)
		}
		if op == "/" {
			return Float(x / y), nil
		}
		quotient, rest := floorDivideFloat(x, y)
		if op == "%" {
			return Float(rest), nil
		}
		return Float(quotient), nil
	}
	return nil, fmt.Errorf("float %s float", op)
}

// floorDivideFloat is Python's divmod: the rest is exact and has y's sign, the
// quotient is the whole number nearest to (x-rest)/y.
func floorDivideFloat(x, y float64) (quotient, rest float64) {
	rest = math.Mod(x, y)
	quotient = (x - rest) / y
	switch {
	case rest == 0:
		rest = math.Copysign(0, y)
	case (y < 0) != (rest < 0):
		rest += y
		quotient--
	}
	if quotient == 0 {
		return math.Copysign(0, x/y), rest
	}
	whole := math.Floor(quotient)
	if quotient-whole > 0.5 {
		whole++
	}
	return whole, rest
}
