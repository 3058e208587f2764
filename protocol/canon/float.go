package canon

import "math"

// half returns a number in IEEE 754's binary16, where that holds it exactly. All
// that is not a number has one form.
func half(x float64) (h uint16, exact bool) {
	b := math.Float64bits(x)
	sign := uint16(b >> 48 & 0x8000)
	exponent := int(b>>52&0x7ff) - 1023
	mantissa := b & (1<<52 - 1)
	switch {
	case exponent == -1023 && mantissa == 0:
		return sign, true
	case exponent == 1024 && mantissa == 0:
		return sign | 0x7c00, true
	case exponent == 1024:
		return 0x7e00, true
	case exponent > 15 || exponent < -24:
		return 0, false
	case exponent >= -14:
		return sign | uint16(exponent+15)<<10 | uint16(mantissa>>42), mantissa&(1<<42-1) == 0
	}
	// A subnormal number: units of 2^-24.
	shift := uint(28 - exponent) // 53 bits of 2^(exponent-52) to units
	mantissa |= 1 << 52
	return sign | uint16(mantissa>>shift), mantissa&(1<<shift-1) == 0
}

// fromHalf returns the number that half wrote.
func fromHalf(h uint16) float64 {
	exponent, mantissa := int(h>>10&0x1f), float64(h&0x3ff)
	var x float64
	switch exponent {
	case 0:
		x = mantissa / (1 << 24)
	case 0x1f:
		if mantissa != 0 {
			return math.NaN()
		}
		x = math.Inf(1)
	default:
		x = math.Ldexp(1+mantissa/1024, exponent-15)
	}
	if h>>15 == 1 {
		return -x
	}
	return x
}
