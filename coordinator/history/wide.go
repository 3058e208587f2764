package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"
)

// A finite float64 is m·2^(s−1074) with |m| < 2^53 and 0 ≤ s ≤ 2045, so every sum
// of float64 is an integer in units of 2^−1074, and every sum of their squares one
// in units of 2^−2148. With 2^64 addends and a sign these need
//
//	sum      53 + 2045 + 64 + 1 = 2163 bits, 34 words of 64
//	squares  106 + 4090 + 64 + 1 = 4261 bits, 67 words of 64
//
// of which real data touch two to five; a wide keeps only those.
const (
	sumUnit     = 1074
	squareUnit  = 2 * sumUnit
	maxWide     = 68 // words: the larger of the two, and the sign word below
	signBits    = math.MaxUint64
	mantissaLen = 52
)

// wide is a window of such an integer in two's complement: words[i] counts
// 2^(64·(low+i)) units; everything below the window is zero, everything above
// repeats the sign. The last word is only sign, 0 or all ones, which leaves the
// next addition its room. The zero value is zero.
type wide struct {
	low   int
	words []uint64
}

// addFloat adds x, or subtracts it. x is finite.
func (w *wide) addFloat(x float64, subtract bool) {
	m, s, negative := split(x)
	w.add(0, m, s, negative != subtract)
}

// addSquare adds x·x, or subtracts it. x is finite.
func (w *wide) addSquare(x float64, subtract bool) {
	m, s, _ := split(x)
	hi, lo := bits.Mul64(m, m)
	w.add(hi, lo, 2*s, subtract)
}

// split takes a finite x apart: x = ±m·2^(s−1074).
func split(x float64) (m uint64, s uint, negative bool) {
	b := math.Float64bits(x)
	m = b & (1<<mantissaLen - 1)
	if e := uint(b>>mantissaLen) & 0x7ff; e > 0 {
		m |= 1 << mantissaLen
		s = e - 1
	}
	return m, s, b>>63 == 1
}

// add adds ±(hi·2^64 + lo)·2^shift units.
func (w *wide) add(hi, lo uint64, shift uint, negative bool) {
	if hi|lo == 0 {
		return
	}
	at, s := int(shift/64), shift%64
	part := [3]uint64{lo << s, hi<<s | lo>>(64-s), hi >> (64 - s)}
	n := len(part)
	for part[n-1] == 0 {
		n--
	}
	w.addWords(at, part[:n], 0, negative)
}

// addWide adds v, or subtracts it.
func (w *wide) addWide(v *wide, subtract bool) {
	if len(v.words) > 0 {
		last := len(v.words) - 1
		w.addWords(v.low, v.words[:last], v.words[last], subtract)
	}
}

// addWords adds, or subtracts, the words from position at upwards, all above them
// being sign.
func (w *wide) addWords(at int, words []uint64, sign uint64, subtract bool) {
	w.cover(at, at+len(words))
	op := bits.Add64
	if subtract {
		op = bits.Sub64
	}
	var carry uint64
	i := at - w.low
	for _, x := range words {
		w.words[i], carry = op(w.words[i], x, carry)
		i++
	}
	for ; i < len(w.words); i++ {
		w.words[i], carry = op(w.words[i], sign, carry)
	}
	if top := w.words[len(w.words)-1]; top != 0 && top != signBits {
		w.words = append(w.words, uint64(int64(top)>>63))
	}
}

// cover widens the window to hold positions from to to−1 below its sign word.
func (w *wide) cover(from, to int) {
	if len(w.words) == 0 {
		w.low, w.words = from, make([]uint64, to-from+1)
		return
	}
	if from < w.low {
		w.words = slices.Insert(w.words, 0, make([]uint64, w.low-from)...)
		w.low = from
	}
	for sign := w.words[len(w.words)-1]; w.low+len(w.words) <= to; {
		w.words = append(w.words, sign)
	}
}

// trim narrows the window to its canonical form: equal integers have equal windows.
func (w *wide) trim() {
	n := len(w.words)
	for n > 1 && w.words[n-1] == w.words[n-2] && (w.words[n-1] == 0 || w.words[n-1] == signBits) {
		n--
	}
	if n == 1 && w.words[0] == 0 {
		n = 0
	}
	zeros := 0
	for zeros < n-1 && w.words[zeros] == 0 {
		zeros++
	}
	w.words = w.words[zeros:n]
	w.low += zeros
	if n == 0 {
		*w = wide{}
	}
}

// integer returns the value in units.
func (w *wide) integer() *big.Int {
	v := new(big.Int)
	if len(w.words) == 0 {
		return v
	}
	negative := w.words[len(w.words)-1] == signBits
	b := make([]byte, 8*len(w.words))
	for i, x := range w.words {
		if negative {
			x = ^x
		}
		binary.BigEndian.PutUint64(b[len(b)-8*(i+1):], x)
	}
	v.SetBytes(b)
	if negative {
		v.Not(v)
	}
	return v.Lsh(v, uint(64*w.low))
}

var errWide = errors.New("not a wide integer in canonical form")

// MarshalBinary writes the canonical form: the position of the lowest word in one
// byte, then the words from the lowest, eight little-endian bytes each. Zero is
// no byte at all.
func (w *wide) MarshalBinary() ([]byte, error) {
	w.trim()
	if len(w.words) == 0 {
		return nil, nil
	}
	b := make([]byte, 1, 1+8*len(w.words))
	b[0] = byte(w.low)
	for _, x := range w.words {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary writes and nothing else.
func (w *wide) UnmarshalBinary(b []byte) error {
	*w = wide{}
	if len(b) == 0 {
		return nil
	}
	n := (len(b) - 1) / 8
	if len(b) != 1+8*n || n == 0 || int(b[0])+n > maxWide {
		return fmt.Errorf("%w: %d bytes", errWide, len(b))
	}
	w.low = int(b[0])
	for i := range n {
		w.words = append(w.words, binary.LittleEndian.Uint64(b[1+8*i:]))
	}
	if top := w.words[n-1]; top != 0 && top != signBits {
		return fmt.Errorf("%w: the top word %x is not a sign", errWide, top)
	}
	if w.trim(); len(w.words) != n {
		return fmt.Errorf("%w: words to spare", errWide)
	}
	return nil
}
