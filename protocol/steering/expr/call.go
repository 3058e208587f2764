package expr

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// function is one of the functions an expression may call, with the fewest and
// the most arguments it takes; any number where most is -1.
type function struct {
	least, most int
	call        func(ev *evaluator, args []Value) (Value, error)
}

// functions is the whole list. Sines and their like are missing because they
// are not in IceProd's language either.
var functions = map[string]function{
	"abs": {1, 1, callAbs}, "all": {1, 1, callAll}, "any": {1, 1, callAny},
	"bin": {1, 1, inBase('b', 2)}, "oct": {1, 1, inBase('o', 8)}, "hex": {1, 1, inBase('x', 16)},
	"bool": {0, 1, callBool}, "int": {0, 2, callInt}, "float": {0, 1, callFloat}, "str": {0, 1, callStr},
	"list": {0, 1, callList}, "tuple": {0, 1, callTuple}, "sorted": {1, 1, callSorted},
	"ceil": {1, 1, whole(math.Ceil)}, "floor": {1, 1, whole(math.Floor)}, "trunc": {1, 1, whole(math.Trunc)},
	"chr": {1, 1, callChr}, "ord": {1, 1, callOrd}, "repr": {1, 1, callRepr},
	"divmod": {2, 2, callDivmod}, "pow": {2, 3, callPow}, "round": {1, 2, callRound},
	"len": {1, 1, callLen}, "min": {1, -1, extreme("<")}, "max": {1, -1, extreme(">")}, "sum": {1, 2, callSum},
	"sqrt": {1, 1, callSqrt}, "exp": {1, 1, callExp}, "log": {1, 1, callLog(false)}, "log10": {1, 1, callLog(true)},
}

func (ev *evaluator) call(name string, args []Value) (Value, error) {
	f := functions[name]
	if len(args) < f.least || f.most >= 0 && len(args) > f.most {
		return nil, fmt.Errorf("%s() of %d arguments", name, len(args))
	}
	v, err := f.call(ev, args)
	if err != nil {
		return nil, fmt.Errorf("%s(): %w", name, err)
	}
	return v, nil
}

func errType(v Value) error { return fmt.Errorf("%s does not fit", typeName(v)) }

func callAbs(_ *evaluator, args []Value) (Value, error) {
	if i, ok := asInt(args[0]); ok {
		return new(big.Int).Abs(i), nil
	}
	if f, ok := args[0].(Float); ok {
		return Float(math.Abs(float64(f))), nil
	}
	return nil, errType(args[0])
}

func callAll(ev *evaluator, args []Value) (Value, error) {
	items, err := ev.iterate(args[0])
	return !slices.ContainsFunc(items, func(v Value) bool { return !isTrue(v) }), err
}

func callAny(ev *evaluator, args []Value) (Value, error) {
	items, err := ev.iterate(args[0])
	return slices.ContainsFunc(items, isTrue), err
}

// inBase writes an integer as a literal: 0x1f.
func inBase(letter byte, base int) func(*evaluator, []Value) (Value, error) {
	return func(_ *evaluator, args []Value) (Value, error) {
		i, ok := asInt(args[0])
		if !ok {
			return nil, errType(args[0])
		}
		text := "0" + string(letter) + new(big.Int).Abs(i).Text(base)
		if i.Sign() < 0 {
			text = "-" + text
		}
		return text, nil
	}
}

func callBool(_ *evaluator, args []Value) (Value, error) {
	return len(args) > 0 && isTrue(args[0]), nil
}

func callInt(_ *evaluator, args []Value) (Value, error) {
	if len(args) == 0 {
		return Int(0), nil
	}
	base := 10
	text, isText := args[0].(string)
	if len(args) == 2 {
		b, ok := asInt(args[1])
		if !ok || !isText || !b.IsInt64() || b.Int64() != 0 && (b.Int64() < 2 || b.Int64() > 36) {
			return nil, errType(args[1])
		}
		base = int(b.Int64())
	}
	switch {
	case isText:
		return parseInt(text, base)
	case isNumber(args[0]):
		return truncate(args[0])
	}
	return nil, errType(args[0])
}

// parseInt reads an integer as Python's int does: spaces around it, a sign,
// single underscores, and with base 0 or the matching base a prefix.
func parseInt(text string, base int) (Value, error) {
	bad := fmt.Errorf("%s is not an integer", pyRepr(text))
	if len(text) > MaxString {
		return nil, bad
	}
	digits := strings.TrimSpace(text)
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	prefixed := false
	if isRadix(digits) {
		radix := map[byte]int{'x': 16, 'o': 8, 'b': 2}[digits[1]|0x20]
		if base == 0 || base == radix {
			base, prefixed, digits = radix, true, digits[2:]
		}
	}
	if base == 0 {
		base = 10
		if strings.HasPrefix(digits, "0") && strings.Trim(digits, "0_") != "" {
			return nil, bad
		}
	}
	if prefixed {
		digits = strings.TrimPrefix(digits, "_")
	}
	if digits == "" || strings.HasPrefix(digits, "_") || strings.HasSuffix(digits, "_") || strings.Contains(digits, "__") {
		return nil, bad
	}
	digits = strings.ReplaceAll(digits, "_", "")
	for _, c := range []byte(digits) {
		if !isDigit(c) && !(c|0x20 >= 'a' && c|0x20 <= 'z') {
			return nil, bad
		}
	}
	if len(digits) > MaxIntBits {
		return nil, fmt.Errorf("%w: integer of more than %d bits", ErrLimit, MaxIntBits)
	}
	i, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil, bad
	}
	if negative {
		i.Neg(i)
	}
	return fitInt(i)
}

// truncate drops what stands after a number's point.
func truncate(v Value) (Value, error) {
	if i, ok := asInt(v); ok {
		return i, nil
	}
	f, ok := v.(Float)
	if !ok {
		return nil, errType(v)
	}
	return floatToInt(float64(f))
}

func floatToInt(f float64) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%s is no integer", Float(f))
	}
	i, _ := big.NewFloat(f).Int(nil)
	return i, nil
}

func callFloat(_ *evaluator, args []Value) (Value, error) {
	if len(args) == 0 {
		return Float(0), nil
	}
	if text, ok := args[0].(string); ok {
		f, ok := parseFloat(text)
		if !ok {
			return nil, fmt.Errorf("%s is not a float", pyRepr(text))
		}
		return Float(f), nil
	}
	f, err := asFloat(args[0])
	return Float(f), err
}

// parseFloat reads a float as Python's float does.
func parseFloat(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	bare := strings.ToLower(strings.TrimLeft(text, "+-"))
	if len(text)-len(bare) > 1 {
		return 0, false
	}
	if bare != "inf" && bare != "infinity" && bare != "nan" {
		if bare == "" || strings.Trim(bare, "0123456789._e+-") != "" {
			return 0, false
		}
		clean, ok := dropUnderscores(text)
		if !ok {
			return 0, false
		}
		text = clean
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil || math.IsInf(f, 0)
}

func callStr(ev *evaluator, args []Value) (Value, error) {
	if len(args) == 0 {
		return "", nil
	}
	return ev.written(args[0], pyStr)
}

func callRepr(ev *evaluator, args []Value) (Value, error) { return ev.written(args[0], pyRepr) }

// written turns a value into text with write, after checking that the text
// will not be too long.
func (ev *evaluator) written(v Value, write func(Value) string) (string, error) {
	if _, err := ev.size(v); err != nil {
		return "", err
	}
	text := write(v)
	return text, ev.bytes(len(text))
}

// size estimates how long v's text is, at a step per item.
func (ev *evaluator) size(v Value) (int, error) {
	if err := ev.step(); err != nil {
		return 0, err
	}
	total := 2
	var items []Value
	switch v := v.(type) {
	case string:
		return len(v), nil
	case *Dict:
		for _, key := range v.Keys {
			total += len(key) + 4
		}
		items = v.Values
	default:
		items, _ = itemsOf(v)
	}
	for _, item := range items {
		n, err := ev.size(item)
		if err != nil {
			return 0, err
		}
		if total += n + 2; total > MaxString {
			return 0, fmt.Errorf("%w: text longer than %d bytes", ErrLimit, MaxString)
		}
	}
	return total, nil
}

func callList(ev *evaluator, args []Value) (Value, error) {
	if len(args) == 0 {
		return List(nil), nil
	}
	items, err := ev.iterate(args[0])
	return List(items), err
}

func callTuple(ev *evaluator, args []Value) (Value, error) {
	if len(args) == 0 {
		return Tuple(nil), nil
	}
	items, err := ev.iterate(args[0])
	return Tuple(items), err
}

func callSorted(ev *evaluator, args []Value) (Value, error) {
	items, err := ev.iterate(args[0])
	if err != nil {
		return nil, err
	}
	sorted := slices.Clone(items)
	slices.SortStableFunc(sorted, func(a, b Value) int {
		if err != nil || isNaN(a) || isNaN(b) {
			return 0
		}
		var c int
		var bad error
		if c, bad = ev.order("<", a, b); bad != nil {
			err = bad
		}
		return c
	})
	return List(sorted), err
}

// whole rounds a float to an integer.
func whole(round func(float64) float64) func(*evaluator, []Value) (Value, error) {
	return func(_ *evaluator, args []Value) (Value, error) {
		if f, ok := args[0].(Float); ok {
			return floatToInt(round(float64(f)))
		}
		return truncate(args[0])
	}
}

func callChr(_ *evaluator, args []Value) (Value, error) {
	i, ok := asInt(args[0])
	if !ok {
		return nil, errType(args[0])
	}
	return character(i)
}

func character(i *big.Int) (string, error) {
	if !i.IsInt64() || i.Int64() < 0 || i.Int64() > utf8.MaxRune || !utf8.ValidRune(rune(i.Int64())) {
		return "", fmt.Errorf("%s is no character", i)
	}
	return string(rune(i.Int64())), nil
}

func callOrd(_ *evaluator, args []Value) (Value, error) {
	s, ok := args[0].(string)
	r, size := utf8.DecodeRuneInString(s)
	if !ok || size == 0 || size != len(s) {
		return nil, fmt.Errorf("%s is not one character", pyRepr(args[0]))
	}
	return Int(int64(r)), nil
}

func callDivmod(ev *evaluator, args []Value) (Value, error) {
	if !isNumber(args[0]) || !isNumber(args[1]) {
		return nil, errType(args[0])
	}
	quotient, err := ev.binary("//", args[0], args[1])
	if err != nil {
		return nil, err
	}
	rest, err := ev.binary("%", args[0], args[1])
	return Tuple{quotient, rest}, err
}

func callPow(ev *evaluator, args []Value) (Value, error) {
	if len(args) == 2 {
		return ev.binary("**", args[0], args[1])
	}
	x, ok1 := asInt(args[0])
	y, ok2 := asInt(args[1])
	m, ok3 := asInt(args[2])
	if !ok1 || !ok2 || !ok3 || y.Sign() < 0 || m.Sign() == 0 {
		return nil, fmt.Errorf("three arguments are integers, the second not negative, the third not zero")
	}
	// Modular powers of 4096 bits take milliseconds.
	if err := ev.spend(1 + 16*y.BitLen()); err != nil {
		return nil, err
	}
	power := new(big.Int).Exp(x, y, new(big.Int).Abs(m))
	_, rest := floorDivide(power, m)
	return rest, nil
}

func callLen(ev *evaluator, args []Value) (Value, error) {
	switch v := args[0].(type) {
	case string:
		return Int(int64(utf8.RuneCountInString(v))), nil
	case *Dict:
		return Int(int64(len(v.Keys))), nil
	}
	items, ok := itemsOf(args[0])
	if !ok {
		return nil, errType(args[0])
	}
	return Int(int64(len(items))), nil
}

// extreme is min or max: of one list, or of its arguments.
func extreme(op string) func(*evaluator, []Value) (Value, error) {
	return func(ev *evaluator, args []Value) (Value, error) {
		items := args
		if len(args) == 1 {
			var err error
			if items, err = ev.iterate(args[0]); err != nil {
				return nil, err
			}
		}
		if len(items) == 0 {
			return nil, fmt.Errorf("the list is empty")
		}
		best := items[0]
		for _, item := range items[1:] {
			better, err := ev.compare(op, item, best)
			if err != nil {
				return nil, err
			}
			if better {
				best = item
			}
		}
		return best, nil
	}
}

func callSum(ev *evaluator, args []Value) (Value, error) {
	items, err := ev.iterate(args[0])
	if err != nil {
		return nil, err
	}
	total := Int(0)
	if len(args) == 2 {
		total = args[1]
	}
	if _, isText := total.(string); isText {
		return nil, errType(total)
	}
	for _, item := range items {
		if total, err = ev.binary("+", total, item); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func callSqrt(_ *evaluator, args []Value) (Value, error) {
	f, err := asFloat(args[0])
	if err != nil {
		return nil, err
	}
	if f < 0 {
		return nil, fmt.Errorf("square root of %s", Float(f))
	}
	return Float(math.Sqrt(f)), nil
}

func callExp(ev *evaluator, args []Value) (Value, error) {
	f, err := asFloat(args[0])
	if err != nil {
		return nil, err
	}
	if err := ev.spend(costReal); err != nil {
		return nil, err
	}
	return floatExp(f)
}

func callLog(base10 bool) func(*evaluator, []Value) (Value, error) {
	return func(ev *evaluator, args []Value) (Value, error) {
		f, err := asFloat(args[0])
		if err != nil {
			return nil, err
		}
		if err := ev.spend(costReal); err != nil {
			return nil, err
		}
		return floatLog(f, base10)
	}
}

// callRound rounds halves to even, to a number of digits after the point.
func callRound(_ *evaluator, args []Value) (Value, error) {
	digits := Value(nil)
	if len(args) == 2 {
		digits = args[1]
	}
	if digits == nil {
		if f, ok := args[0].(Float); ok {
			return floatToInt(math.RoundToEven(float64(f)))
		}
		return truncate(args[0])
	}
	// No float has more than 400 digits on either side of the point, no
	// integer more than 1300.
	const most = 1300
	n, err := clampInt(digits, -most, 400)
	if err != nil {
		return nil, err
	}
	if i, ok := asInt(args[0]); ok {
		if n >= 0 {
			return i, nil
		}
		return fitInt(roundTo(new(big.Rat).SetInt(i), -n))
	}
	f, ok := args[0].(Float)
	if !ok {
		return nil, errType(args[0])
	}
	return roundFloat(float64(f), max(n, -400))
}

// roundTo rounds x to a multiple of 10**zeros, halves to even.
func roundTo(x *big.Rat, zeros int) *big.Int {
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(zeros)), nil)
	scaled := new(big.Rat).Quo(x, new(big.Rat).SetInt(unit))
	quotient, rest := floorDivide(scaled.Num(), scaled.Denom())
	half := new(big.Int).Lsh(rest, 1).Cmp(scaled.Denom())
	if half > 0 || half == 0 && quotient.Bit(0) == 1 {
		quotient.Add(quotient, bigOne)
	}
	return quotient.Mul(quotient, unit)
}

func roundFloat(f float64, digits int) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) || f == 0 {
		return Float(f), nil
	}
	var rounded float64
	if digits >= 0 {
		rounded, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64)
	} else {
		i := roundTo(new(big.Rat).SetFloat64(f), -digits)
		rounded, _ = new(big.Float).SetInt(i).Float64()
	}
	if math.IsInf(rounded, 0) {
		return nil, errOverflow
	}
	return Float(math.Copysign(rounded, f)), nil
}
