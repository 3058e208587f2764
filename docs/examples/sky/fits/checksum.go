package fits

import (
	"encoding/binary"
	"strconv"
)

// A Verdict says how an HDU compares with one of its checksum cards.
type Verdict string

// The three verdicts.
const (
	Absent  Verdict = "absent"
	Matches Verdict = "matches"
	Differs Verdict = "differs"
)

// DataSum is the sum of the data unit by the FITS checksum convention: the
// ones' complement sum of its 32-bit words.
func (u *HDU) DataSum() uint32 { return sum32(u.Data) }

// Verify compares the HDU with its DATASUM and CHECKSUM cards. The latter is
// chosen so that the whole HDU sums to all ones.
func (u *HDU) Verify() (dataSum, checkSum Verdict) {
	dataSum, checkSum = Absent, Absent
	if text := u.Header.Text("DATASUM"); text != "" {
		dataSum = Differs
		if want, err := strconv.ParseUint(text, 10, 32); err == nil && uint32(want) == u.DataSum() {
			dataSum = Matches
		}
	}
	if u.Header.Text("CHECKSUM") != "" {
		checkSum = Differs
		if sum32(u.raw) == 0xffffffff {
			checkSum = Matches
		}
	}
	return dataSum, checkSum
}

// sum32 adds big-endian words, carrying around.
func sum32(data []byte) uint32 {
	var sum uint64
	for ; len(data) >= 4; data = data[4:] {
		sum += uint64(binary.BigEndian.Uint32(data))
	}
	for sum>>32 != 0 {
		sum = sum&0xffffffff + sum>>32
	}
	return uint32(sum)
}
