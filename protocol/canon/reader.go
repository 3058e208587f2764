package canon

import (
	"encoding/binary"
	"math"
	"sync"
	"unicode/utf8"
)

// Readable reads itself from one item. It sets every field, also those that are
// left out, which are zero.
type Readable interface{ ReadCanon(r *Reader) }

// Reader reads items one after another. It is not for concurrent use.
type Reader struct {
	b      []byte // the whole
	text   string // copy of b, from which strings are cut; empty until the first
	at     int
	failed bool
}

// Read reads b, which must be one item and nothing else, into v. It tells whether
// it could; else v means nothing. What is read shares no memory with b, but its
// strings share one copy of b: clone those that outlive the rest by far.
func Read(b []byte, v Readable) bool {
	r := readers.Get().(*Reader)
	*r = Reader{b: b}
	v.ReadCanon(r)
	ok := !r.failed && r.at == len(b)
	*r = Reader{} // it holds on to nothing
	readers.Put(r)
	return ok
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// Fail notes that what was read is not what was wanted.
func (r *Reader) Fail() { r.failed = true }

// head reads the head of an item of a major type and returns its argument.
func (r *Reader) head(major byte) uint64 {
	if r.at >= len(r.b) || r.failed {
		r.failed = true
		return 0
	}
	short := r.b[r.at] ^ major<<5
	r.at++
	if short < 24 {
		return uint64(short)
	}
	return r.longHead(short)
}

func (r *Reader) longHead(short byte) (n uint64) {
	rest := r.b[r.at:]
	width := 0
	if short >= 24 && short <= 27 { // else another major type, or a form not in use
		width = 1 << (short - 24)
	}
	if width == 0 || len(rest) < width {
		r.failed = true
		return 0
	}
	switch width {
	case 1:
		n = uint64(rest[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(rest))
	case 4:
		n = uint64(binary.BigEndian.Uint32(rest))
	default:
		n = binary.BigEndian.Uint64(rest)
	}
	r.at += width
	return n
}

func (r *Reader) uint(limit uint64) uint64 {
	n := r.head(majorUint)
	if n > limit {
		r.failed = true
	}
	return n
}

// Uint8 reads a number that fits.
func (r *Reader) Uint8() uint8 { return uint8(r.uint(math.MaxUint8)) }

// Uint16 reads a number that fits.
func (r *Reader) Uint16() uint16 { return uint16(r.uint(math.MaxUint16)) }

// Uint32 reads a number that fits.
func (r *Reader) Uint32() uint32 { return uint32(r.uint(math.MaxUint32)) }

// Uint64 reads a number.
func (r *Reader) Uint64() uint64 { return r.head(majorUint) }

// Int reads a number that may be negative.
func (r *Reader) Int() int64 {
	if r.at < len(r.b) && r.b[r.at]>>5 == majorNegative {
		n := r.head(majorNegative)
		if n > math.MaxInt64 {
			r.failed = true
		}
		return -1 - int64(n)
	}
	return int64(r.uint(math.MaxInt64))
}

// take returns the next n bytes, which are the reader's.
func (r *Reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.b)-r.at) {
		r.failed = true
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

// Text reads a string.
func (r *Reader) Text() string {
	b := r.take(r.head(majorText))
	if len(b) == 0 {
		return ""
	}
	if !utf8.Valid(b) {
		r.failed = true
		return ""
	}
	if r.text == "" {
		r.text = string(r.b)
	}
	return r.text[r.at-len(b) : r.at]
}

// Blob reads a byte string and returns a copy of it, never nil.
func (r *Reader) Blob() []byte { return append([]byte{}, r.take(r.head(majorBytes))...) }

// BlobInto reads a byte string of no byte, or of as many as into has.
func (r *Reader) BlobInto(into []byte) {
	b := r.take(r.head(majorBytes))
	if len(b) != 0 && len(b) != len(into) {
		r.failed = true
		return
	}
	copy(into, b)
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	b := r.take(1)
	if r.failed || b[0] != itemFalse && b[0] != itemTrue {
		r.failed = true
		return false
	}
	return b[0] == itemTrue
}

// Float reads a number of any of the three widths.
func (r *Reader) Float() float64 {
	b := r.take(1)
	if r.failed {
		return 0
	}
	switch b[0] {
	case itemFloat16:
		if b = r.take(2); b != nil {
			return fromHalf(binary.BigEndian.Uint16(b))
		}
	case itemFloat32:
		if b = r.take(4); b != nil {
			return float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
		}
	case itemFloat64:
		if b = r.take(8); b != nil {
			return math.Float64frombits(binary.BigEndian.Uint64(b))
		}
	}
	r.failed = true
	return 0
}

// maxList is how long a list may be. Source: protocol's general decoder.
const maxList = 1 << 20

// Array reads the head of an array and returns its length. One beyond what is left
// is not believed.
func (r *Reader) Array() int {
	n := r.head(majorArray)
	if n > uint64(len(r.b)-r.at) || n > maxList {
		r.failed = true
	}
	if r.failed {
		return 0
	}
	return int(n)
}

// Pairs reads the head of a map and returns how many keys and values follow.
func (r *Reader) Pairs() int {
	n := r.head(majorMap)
	if n > uint64(len(r.b)-r.at)/2 || n > maxList>>4 {
		r.failed = true
	}
	if r.failed {
		return 0
	}
	return int(n)
}

// Map reads the head of a map with integer keys:
//
//	for f := r.Map(); f.Next(); {
//		switch f.Key {
//		case 1:
//			v.Name = r.Text()
//		default:
//			r.Fail()
//		}
//	}
func (r *Reader) Map() Fields { return Fields{r: r, left: r.head(majorMap)} }

// Fields goes through the fields of a map.
type Fields struct {
	Key  uint64 // of the field whose value is to be read
	r    *Reader
	left uint64
}

// Next reads the key of the next field, which must be greater than the one before.
// It tells false at the end and after a failure.
func (f *Fields) Next() bool {
	if f.left == 0 || f.r.failed {
		return false
	}
	f.left--
	key := f.r.head(majorUint)
	if key <= f.Key {
		f.r.failed = true
	}
	f.Key = key
	return !f.r.failed
}

// List reads an array of what reads itself.
func List[T any, P interface {
	*T
	Readable
}](r *Reader) []T {
	list := make([]T, 0, r.Array())
	for range cap(list) {
		list = list[:len(list)+1]
		if P(&list[len(list)-1]).ReadCanon(r); r.failed {
			return nil
		}
	}
	return list
}

// Texts reads an array of strings.
func Texts[T ~string](r *Reader) []T {
	list := make([]T, 0, r.Array())
	for range cap(list) {
		if list = append(list, T(r.Text())); r.failed {
			return nil
		}
	}
	return list
}
