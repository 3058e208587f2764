package canon

import (
	"encoding/binary"
	"math"
	"sync"
)

// Writable writes itself as one item.
type Writable interface{ WriteCanon(w *Writer) }

// Writer is where what writes itself goes. It is not for concurrent use.
type Writer struct{ b []byte }

// Append appends v to b.
func Append(b []byte, v Writable) []byte {
	w := writers.Get().(*Writer)
	w.b = b
	v.WriteCanon(w)
	b, w.b = w.b, nil
	writers.Put(w)
	return b
}

var writers = sync.Pool{New: func() any { return new(Writer) }}

// The major types of CBOR.
const (
	majorUint byte = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap

	itemFalse   = 0xf4
	itemTrue    = 0xf5
	itemNull    = 0xf6
	itemFloat16 = 0xf9
	itemFloat32 = 0xfa
	itemFloat64 = 0xfb
)

// head writes the head of an item in its shortest form.
func (w *Writer) head(major byte, n uint64) {
	major <<= 5
	switch {
	case n < 24:
		w.b = append(w.b, major|byte(n))
	case n <= math.MaxUint8:
		w.b = append(w.b, major|24, byte(n))
	case n <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, major|25), uint16(n))
	case n <= math.MaxUint32:
		w.b = binary.BigEndian.AppendUint32(append(w.b, major|26), uint32(n))
	default:
		w.b = binary.BigEndian.AppendUint64(append(w.b, major|27), n)
	}
}

// Uint writes a number.
func (w *Writer) Uint(n uint64) { w.head(majorUint, n) }

// Int writes a number that may be negative.
func (w *Writer) Int(n int64) {
	if n < 0 {
		w.head(majorNegative, uint64(-1-n))
	} else {
		w.head(majorUint, uint64(n))
	}
}

// Text writes a string.
func (w *Writer) Text(s string) {
	w.head(majorText, uint64(len(s)))
	w.b = append(w.b, s...)
}

// Blob writes a byte string, or null for a nil one, as the general codec does.
func (w *Writer) Blob(b []byte) {
	if b == nil {
		w.b = append(w.b, itemNull)
		return
	}
	w.head(majorBytes, uint64(len(b)))
	w.b = append(w.b, b...)
}

// Bool writes true or false.
func (w *Writer) Bool(v bool) {
	if v {
		w.b = append(w.b, itemTrue)
	} else {
		w.b = append(w.b, itemFalse)
	}
}

// Float writes a number in the shortest of the three widths that holds it exactly.
func (w *Writer) Float(x float64) {
	if h, ok := half(x); ok {
		w.b = binary.BigEndian.AppendUint16(append(w.b, itemFloat16), h)
	} else if s := float32(x); float64(s) == x {
		w.b = binary.BigEndian.AppendUint32(append(w.b, itemFloat32), math.Float32bits(s))
	} else {
		w.b = binary.BigEndian.AppendUint64(append(w.b, itemFloat64), math.Float64bits(x))
	}
}

// Array begins an array of n items, which must follow.
func (w *Writer) Array(n int) { w.head(majorArray, uint64(n)) }

// Pairs begins a map of n keys and values, which must follow in order.
func (w *Writer) Pairs(n int) { w.head(majorMap, uint64(n)) }

// Map begins a map. Its fields are added one by one, by rising keys; whatever else
// is written to the writer belongs to the field begun last.
func (w *Writer) Map() Map {
	w.b = append(w.b, majorMap<<5)
	return Map{w, len(w.b) - 1}
}

// Map is a map with integer keys being written. Methods that end in If leave the
// field out where its value is zero.
type Map struct {
	w  *Writer
	at int // of its head
}

// Field begins a field, of a key below 24; its value must follow.
func (m Map) Field(key byte) {
	m.w.b[m.at]++
	m.w.b = append(m.w.b, key)
}

// Uint adds a number.
func (m Map) Uint(key byte, n uint64) { m.Field(key); m.w.Uint(n) }

// UintIf adds a number that is not zero.
func (m Map) UintIf(key byte, n uint64) {
	if n != 0 {
		m.Uint(key, n)
	}
}

// Int adds a number that may be negative.
func (m Map) Int(key byte, n int64) { m.Field(key); m.w.Int(n) }

// IntIf adds a number that is not zero.
func (m Map) IntIf(key byte, n int64) {
	if n != 0 {
		m.Int(key, n)
	}
}

// Text adds a string.
func (m Map) Text(key byte, s string) { m.Field(key); m.w.Text(s) }

// TextIf adds a string that is not empty.
func (m Map) TextIf(key byte, s string) {
	if s != "" {
		m.Text(key, s)
	}
}

// BoolIf adds true.
func (m Map) BoolIf(key byte, v bool) {
	if v {
		m.Field(key)
		m.w.Bool(true)
	}
}

// Item adds what writes itself.
func (m Map) Item(key byte, v Writable) { m.Field(key); v.WriteCanon(m.w) }

// ListIf adds a list that is not empty, of what writes itself.
func ListIf[T any, P interface {
	*T
	Writable
}](m Map, key byte, list []T) {
	if len(list) == 0 {
		return
	}
	m.Field(key)
	m.w.Array(len(list))
	for i := range list {
		P(&list[i]).WriteCanon(m.w)
	}
}

// TextsIf adds a list of strings that is not empty.
func TextsIf[T ~string](m Map, key byte, list []T) {
	if len(list) == 0 {
		return
	}
	m.Field(key)
	m.w.Array(len(list))
	for _, s := range list {
		m.w.Text(string(s))
	}
}
