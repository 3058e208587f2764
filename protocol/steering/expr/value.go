package expr

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Value is what an expression yields: nil (Python's None), bool, *big.Int,
// Float, string, List, Tuple or *Dict. Values are never changed once made, so
// they may be shared.
type Value any

// Float is a number with a point. It writes itself as Python does, 5000.0 and
// not 5000, so that a module reading the JSON still gets a float.
type Float float64

// List is a Python list, a JSON array.
type List []Value

// Tuple is a Python tuple. It exists for string formatting and leaves an
// expression as a list.
type Tuple []Value

// Dict is a Python dict with text keys, in the order written.
type Dict struct {
	Keys   []string
	Values []Value
}

// Find returns the value under key.
func (d *Dict) Find(key string) (Value, bool) {
	if i := slices.Index(d.Keys, key); i >= 0 {
		return d.Values[i], true
	}
	return nil, false
}

// Int returns i as a Value.
func Int(i int64) Value { return big.NewInt(i) }

// Text writes v as it appears within a text: what Python's str gives, except
// that lists and dicts are JSON, which $sum, indexing and $eval read again.
func Text(v Value) string {
	switch v := v.(type) {
	case string:
		return v
	case List, Tuple, *Dict:
		return JSON(v)
	}
	return pyRepr(v)
}

// JSON writes v as JSON, with floats as Python writes them. A float that JSON
// cannot carry (inf, nan) becomes a string.
func JSON(v Value) string { return string(appendJSON(nil, v)) }

func appendJSON(b []byte, v Value) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case *big.Int:
		return v.Append(b, 10)
	case Float:
		if text := v.String(); math.IsInf(float64(v), 0) || math.IsNaN(float64(v)) {
			return appendQuoted(b, text)
		} else {
			return append(b, text...)
		}
	case string:
		return appendQuoted(b, v)
	case List:
		return appendItems(b, v)
	case Tuple:
		return appendItems(b, v)
	case *Dict:
		b = append(b, '{')
		for i, key := range v.Keys {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendQuoted(b, key), ": "...)
			b = appendJSON(b, v.Values[i])
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

func appendItems(b []byte, items []Value) []byte {
	b = append(b, '[')
	for i, item := range items {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendJSON(b, item)
	}
	return append(b, ']')
}

// appendQuoted appends s as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// MarshalJSON implements json.Marshaler.
func (f Float) MarshalJSON() ([]byte, error) { return appendJSON(nil, f), nil }

// MarshalJSON implements json.Marshaler, keeping the order of keys.
func (d *Dict) MarshalJSON() ([]byte, error) { return appendJSON(nil, d), nil }

// String writes f as Python's repr does: the fewest digits that read back as
// f, with an exponent from 1e16 up and below 1e-4.
func (f Float) String() string {
	x := float64(f)
	switch {
	case math.IsNaN(x):
		return "nan"
	case math.IsInf(x, 0):
		if x < 0 {
			return "-inf"
		}
		return "inf"
	}
	short := strconv.FormatFloat(x, 'e', -1, 64)
	if exponent := decimalExponent(short); exponent < -4 || exponent >= 16 {
		return short
	}
	short = strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(short, ".") {
		short += ".0"
	}
	return short
}

// decimalExponent reads the exponent of a number written with 'e'.
func decimalExponent(s string) int {
	n, _ := strconv.Atoi(s[strings.LastIndexByte(s, 'e')+1:])
	return n
}

// pyStr is Python's str.
func pyStr(v Value) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

// pyRepr is Python's repr.
func pyRepr(v Value) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case *big.Int:
		return v.String()
	case Float:
		return v.String()
	case string:
		return quotePython(v, unicode.IsPrint)
	case List:
		return "[" + joinRepr(v) + "]"
	case Tuple:
		if len(v) == 1 {
			return "(" + joinRepr(v) + ",)"
		}
		return "(" + joinRepr(v) + ")"
	case *Dict:
		var b strings.Builder
		b.WriteByte('{')
		for i, key := range v.Keys {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(pyRepr(key) + ": " + pyRepr(v.Values[i]))
		}
		b.WriteByte('}')
		return b.String()
	}
	return "None"
}

func joinRepr(items []Value) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = pyRepr(item)
	}
	return strings.Join(texts, ", ")
}

// quotePython writes s as a Python string literal; characters that are not
// plain are escaped.
func quotePython(s string, plain func(rune) bool) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b := []byte{quote}
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r >= 0x20 && r < 0x7f || r >= 0x7f && plain(r):
			b = utf8.AppendRune(b, r)
		case r < 0x100:
			b = appendHex(append(b, `\x`...), r, 2)
		case r < 0x10000:
			b = appendHex(append(b, `\u`...), r, 4)
		default:
			b = appendHex(append(b, `\U`...), r, 8)
		}
	}
	return string(append(b, quote))
}

func appendHex(b []byte, r rune, digits int) []byte {
	text := strconv.FormatInt(int64(r), 16)
	for range digits - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}

// typeName is what Python calls v's type, for messages.
func typeName(v Value) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case *big.Int:
		return "int"
	case Float:
		return "float"
	case string:
		return "str"
	case List:
		return "list"
	case Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	}
	return "value"
}

// isTrue is Python's truth of v.
func isTrue(v Value) bool {
	switch v := v.(type) {
	case bool:
		return v
	case *big.Int:
		return v.Sign() != 0
	case Float:
		return v != 0
	case string:
		return v != ""
	case List:
		return len(v) > 0
	case Tuple:
		return len(v) > 0
	case *Dict:
		return len(v.Keys) > 0
	}
	return false
}
