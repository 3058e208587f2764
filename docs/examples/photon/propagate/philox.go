package main

import "math"

// A random block is four words of Philox4x32-10 (Salmon et al., Parallel
// random numbers: as easy as 1, 2, 3, SC'11). It has no state: who knows seed,
// photon, block and stream knows the numbers, on any machine in any order.

// The streams keep the uses of one photon's or muon's counter apart.
const (
	streamWalk = iota
	streamBirth
	streamMuon
)

// Source: Salmon et al. 2011, table 2 and section 4.
const (
	philoxM0, philoxM1 = 0xD2511F53, 0xCD9E8D57
	philoxW0, philoxW1 = 0x9E3779B9, 0xBB67AE85
	philoxRounds       = 10
)

// philox returns the block for a 128-bit counter and a 64-bit key.
func philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	c0, c1, c2, c3 := counter[0], counter[1], counter[2], counter[3]
	k0, k1 := key[0], key[1]
	for range philoxRounds {
		p0 := uint64(philoxM0) * uint64(c0)
		p1 := uint64(philoxM1) * uint64(c2)
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += philoxW0
		k1 += philoxW1
	}
	return [4]uint32{c0, c1, c2, c3}
}

// block returns block number k of one photon or muon in one stream.
func block(seed, number uint64, k, stream uint32) [4]uint32 {
	return philox([4]uint32{uint32(number), uint32(number >> 32), k, stream},
		[2]uint32{uint32(seed), uint32(seed >> 32)})
}

// uniform maps a word into the open interval (0, 1).
func uniform(word uint32) float64 { return (float64(word) + 0.5) * (1.0 / (1 << 32)) }

// draws hands out a muon's words one after another, where the number needed is
// not known beforehand.
type draws struct {
	seed, number uint64
	next         uint32
	words        [4]uint32
}

func (d *draws) uniform() float64 {
	if d.next%4 == 0 {
		d.words = block(d.seed, d.number, d.next/4, streamMuon)
	}
	d.next++
	return uniform(d.words[(d.next-1)%4])
}

// poisson draws a Poisson number: by multiplication (Knuth) for small means,
// as a rounded normal above 64, where the two differ by less than the noise.
func (d *draws) poisson(mean float64) int {
	if mean <= 0 {
		return 0
	}
	if mean > 64 {
		radius := math.Sqrt(-2 * math.Log(d.uniform()))
		n := math.Round(mean + math.Sqrt(mean)*radius*math.Cos(2*math.Pi*d.uniform()))
		return int(math.Max(n, 0))
	}
	limit, n := math.Exp(-mean), 0
	for p := d.uniform(); p > limit; p *= d.uniform() {
		n++
	}
	return n
}
