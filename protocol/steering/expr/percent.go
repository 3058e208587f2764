package expr

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// directive is one %-directive of a format.
type directive struct {
	minus, plus, space, alt, zero bool
	width                         int
	precision                     int // -1 where silent
	verb                          byte
}

// formatTuple is Python's text % values: a tuple holds one value per
// directive, anything else is the only one.
func (ev *evaluator) formatTuple(format string, values Value) (Value, error) {
	args, ok := values.(Tuple)
	if !ok {
		args = Tuple{values}
	}
	text, used, err := ev.format(format, args)
	if err != nil {
		return nil, err
	}
	if _, isDict := values.(*Dict); used < len(args) && !isDict {
		return nil, fmt.Errorf("the format uses %d of %d values", used, len(args))
	}
	return text, nil
}

// format is Python's %-formatting. It reports how many values the format took.
func (ev *evaluator) format(format string, args []Value) (text string, used int, err error) {
	var b strings.Builder
	take := func() (Value, error) {
		if used == len(args) {
			return nil, fmt.Errorf("the format needs more than %d values", len(args))
		}
		used++
		return args[used-1], nil
	}
	for {
		before, rest, found := strings.Cut(format, "%")
		b.WriteString(before)
		if err := ev.bytes(b.Len()); err != nil {
			return "", used, err
		}
		if !found {
			return b.String(), used, nil
		}
		d, n, err := parseDirective(rest, take)
		if err != nil {
			return "", used, err
		}
		format = rest[n:]
		if d.verb == '%' {
			b.WriteByte('%')
			continue
		}
		v, err := take()
		if err != nil {
			return "", used, err
		}
		piece, err := ev.directive(d, v)
		if err != nil {
			return "", used, fmt.Errorf("%%%c: %w", d.verb, err)
		}
		b.WriteString(piece)
		if err := ev.bytes(b.Len()); err != nil {
			return "", used, err
		}
	}
}

// parseDirective reads what follows a "%" and returns its length.
func parseDirective(s string, take func() (Value, error)) (directive, int, error) {
	d := directive{precision: -1}
	at := 0
flags:
	for ; at < len(s); at++ {
		switch s[at] {
		case '-':
			d.minus = true
		case '+':
			d.plus = true
		case ' ':
			d.space = true
		case '#':
			d.alt = true
		case '0':
			d.zero = true
		default:
			break flags
		}
	}
	number := func() (int, bool, error) {
		if at < len(s) && s[at] == '*' {
			at++
			v, err := take()
			if err != nil {
				return 0, false, err
			}
			n, err := clampInt(v, -MaxString-1, MaxString+1)
			return n, true, err
		}
		n, begin := 0, at
		for ; at < len(s) && isDigit(s[at]); at++ {
			n = min(n*10+int(s[at]-'0'), MaxString+1)
		}
		return n, at > begin, nil
	}
	var err error
	if d.width, _, err = number(); err != nil {
		return d, at, err
	}
	if d.width < 0 {
		d.minus, d.width = true, -d.width
	}
	if at < len(s) && s[at] == '.' {
		at++
		if d.precision, _, err = number(); err != nil {
			return d, at, err
		}
		d.precision = max(d.precision, 0)
	}
	if d.width > MaxString || d.precision > MaxString {
		return d, at, fmt.Errorf("%w: text longer than %d bytes", ErrLimit, MaxString)
	}
	if at < len(s) && strings.IndexByte("hlL", s[at]) >= 0 {
		at++ // C's length marks mean nothing here
	}
	if at == len(s) {
		return d, at, fmt.Errorf("the format ends within a directive")
	}
	// "%%" takes no flags.
	if d.verb = s[at]; strings.IndexByte("diuoxXeEfFgGcrsa", d.verb) < 0 && (d.verb != '%' || at > 0) {
		r, _ := utf8.DecodeRuneInString(s[at:])
		return d, at, fmt.Errorf("unknown directive %%%c", r)
	}
	return d, at + 1, nil
}

// directive writes one value.
func (ev *evaluator) directive(d directive, v Value) (string, error) {
	if err := ev.bytes(d.width + max(d.precision, 0)); err != nil {
		return "", err
	}
	switch d.verb {
	case 's', 'r', 'a':
		write := map[byte]func(Value) string{'s': pyStr, 'r': pyRepr, 'a': pyASCII}[d.verb]
		text, err := ev.written(v, write)
		if err != nil {
			return "", err
		}
		if d.precision >= 0 && utf8.RuneCountInString(text) > d.precision {
			text = string([]rune(text)[:d.precision])
		}
		return d.pad("", text), nil
	case 'c':
		text, err := oneCharacter(v)
		return d.pad("", text), err
	case 'd', 'i', 'u', 'o', 'x', 'X':
		sign, digits, err := d.integer(v)
		return d.padNumber(sign, digits), err
	}
	f, err := asFloat(v)
	if err != nil {
		return "", err
	}
	sign, digits := d.float(f)
	return d.padNumber(sign, digits), nil
}

// pyASCII is Python's ascii: repr with everything beyond ASCII escaped.
func pyASCII(v Value) string {
	var b strings.Builder
	for _, r := range pyRepr(v) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x100:
			b.Write(appendHex([]byte(`\x`), r, 2))
		case r < 0x10000:
			b.Write(appendHex([]byte(`\u`), r, 4))
		default:
			b.Write(appendHex([]byte(`\U`), r, 8))
		}
	}
	return b.String()
}

func oneCharacter(v Value) (string, error) {
	if i, ok := asInt(v); ok {
		return character(i)
	}
	if s, ok := v.(string); ok && utf8.RuneCountInString(s) == 1 {
		return s, nil
	}
	return "", fmt.Errorf("%s is neither one character nor its number", pyRepr(v))
}

// integer writes the digits of %d, %o and %x; sign includes a prefix 0x.
func (d directive) integer(v Value) (sign, digits string, err error) {
	i, ok := asInt(v)
	if f, isFloat := v.(Float); isFloat && strings.IndexByte("diu", d.verb) >= 0 {
		whole, err := floatToInt(float64(f))
		if err != nil {
			return "", "", err
		}
		i, ok = whole.(*big.Int), true
	}
	if !ok {
		return "", "", fmt.Errorf("a number is needed, not %s", typeName(v))
	}
	base, prefix := 10, ""
	switch d.verb {
	case 'o':
		base, prefix = 8, "0o"
	case 'x':
		base, prefix = 16, "0x"
	case 'X':
		base, prefix = 16, "0X"
	}
	digits = new(big.Int).Abs(i).Text(base)
	if d.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	if n := d.precision - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	sign = d.sign(i.Sign() < 0)
	if d.alt {
		sign += prefix
	}
	return sign, digits, nil
}

func (d directive) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case d.plus:
		return "+"
	case d.space:
		return " "
	}
	return ""
}

// float writes the digits of %e, %f and %g.
func (d directive) float(f float64) (sign, digits string) {
	sign = d.sign(math.Signbit(f) && !math.IsNaN(f))
	f = math.Abs(f)
	precision := d.precision
	if precision < 0 {
		precision = 6
	}
	switch {
	case math.IsNaN(f):
		digits = "nan"
	case math.IsInf(f, 0):
		digits = "inf"
	case d.verb|0x20 == 'g':
		digits = d.general(f, max(precision, 1))
	default:
		digits = strconv.FormatFloat(f, d.verb|0x20, precision, 64)
		if d.alt && precision == 0 {
			digits = withPoint(digits)
		}
	}
	if unicode.IsUpper(rune(d.verb)) {
		digits = strings.ToUpper(digits)
	}
	return sign, digits
}

// general is %g: the shorter of %e and %f, without trailing zeros unless "#"
// asks for them.
func (d directive) general(f float64, precision int) string {
	text := strconv.FormatFloat(f, 'e', precision-1, 64)
	if exponent := decimalExponent(text); exponent >= -4 && exponent < precision {
		text = strconv.FormatFloat(f, 'f', precision-1-exponent, 64)
	}
	if d.alt {
		return withPoint(text)
	}
	mantissa, exponent, scientific := strings.Cut(text, "e")
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	if scientific {
		return mantissa + "e" + exponent
	}
	return mantissa
}

// withPoint makes sure that a number shows its point.
func withPoint(digits string) string {
	if strings.Contains(digits, ".") {
		return digits
	}
	mantissa, exponent, scientific := strings.Cut(digits, "e")
	if scientific {
		return mantissa + ".e" + exponent
	}
	return mantissa + "."
}

// pad fills text with spaces to the width, in characters.
func (d directive) pad(sign, text string) string {
	text = sign + text
	n := d.width - utf8.RuneCountInString(text)
	switch {
	case n <= 0:
		return text
	case d.minus:
		return text + strings.Repeat(" ", n)
	}
	return strings.Repeat(" ", n) + text
}

// padNumber fills with zeros between sign and digits where "0" asks for it.
func (d directive) padNumber(sign, digits string) string {
	if n := d.width - len(sign) - len(digits); d.zero && !d.minus && n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	return d.pad(sign, digits)
}
