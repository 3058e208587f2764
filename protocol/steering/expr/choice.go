package expr

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// Place is where a text stands in a document. With the dataset's seed and the
// job it decides what a $choice in that text draws, so it must not depend on
// who expands or how often.
type Place struct {
	// Task is the task that the text belongs to, empty for the header section,
	// whose draws all tasks of a job share.
	Task string
	// Path is where in there, such as "trays/0/modules/2/args/seed".
	Path string
}

// draw picks one of n for the phrase at an offset of the text at place. It is
// the first value of the ChaCha8 stream with the SHA-256 seed over
//
//	"floe choice 1" ‖ seed ‖ job ‖ offset ‖ len(task) ‖ task ‖ path
//
// with numbers as big-endian 64-bit words, reduced by Lemire's method. Both
// are spelled out here because a change would change physics.
func draw(seed, job uint64, place Place, offset, n int) int {
	key := []byte("floe choice 1")
	for _, word := range []uint64{seed, job, uint64(offset), uint64(len(place.Task))} {
		key = binary.BigEndian.AppendUint64(key, word)
	}
	key = append(append(key, place.Task...), place.Path...)
	stream := rand.NewChaCha8(sha256.Sum256(key))
	return int(below(stream, uint64(n)))
}

// below draws uniformly from 0…n-1 without the bias of a remainder.
func below(stream *rand.ChaCha8, n uint64) uint64 {
	high, low := bits.Mul64(stream.Uint64(), n)
	for reject := -n % n; low < reject; {
		high, low = bits.Mul64(stream.Uint64(), n)
	}
	return high
}
