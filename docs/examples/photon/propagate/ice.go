package main

import (
	"math"
	"sort"
)

// Wavelengths are carried in bins of 10 nm; a photon's optics are those of its
// bin's centre.
const (
	bins         = 42
	firstEdge    = 260.0 // nm
	binWidth     = 10.0  // nm
	detectorZ    = 1948.07
	layerHeight  = 10.0
	scatterG     = 0.9  // mean cosine of the scattering angle
	liuFraction  = 0.45 // share of the simplified Liu phase function, rest Henyey–Greenstein
	speedOfLight = 0.299792458
)

// The wavelength dependence of South Pole ice.
// Source: Ackermann et al., J. Geophys. Res. 111 (2006) D13203 (the exponents),
// and Aartsen et al., Nucl. Instrum. Methods A 711 (2013) 73 (pure ice, and the
// temperature T(d) = 221.5 K - 0.00045319 d + 5.822e-6 d², d the depth in m).
const (
	scatterPower  = 0.90   // scattering goes as λ^-0.90
	dustPower     = 1.08   // dust absorbs as λ^-1.08
	pureScale     = 6954.0 // 1/m, pure ice absorbs as 6954·exp(-6618 nm/λ), …
	pureSlope     = 6618.0 // nm
	pureWarming   = 0.01   // … and by 1 % more per kelvin …
	pureDepth     = 1730.0 // … above the temperature at this depth, in m
	temperatureC1 = -0.00045319
	temperatureC2 = 5.822e-6
)

// A knot of the profile: what the ice is like at a depth.
type knot struct {
	depth   float64 // m below the surface
	scatter float64 // 1/m, effective scattering coefficient b_e at 400 nm
	dust    float64 // 1/m, absorption coefficient of dust at 400 nm
}

// profile is a coarse profile after the published figures of Ackermann et al.
// 2006 and Aartsen et al. 2013: typed by hand from what they say, not fitted and
// not their table. It has their features: residual bubbles above 1350 m; the
// broad Last Glacial Maximum near 1300 m; the dust peaks A to D, D at 2050 m with
// effective scattering over 5 m and absorption over 20 m; 20 to 35 m and 90 to
// 130 m in the ice between 1500 and 1950 m; 40 to 80 m and 150 to 250 m in the
// clear ice below 2150 m. Depths of A, B and C are good to some 50 m, values to
// some 30 %. Coefficients run straight in the logarithm between knots.
var profile = [...]knot{
	{1150, 0.20, 0.020}, // air bubbles
	{1300, 0.11, 0.022}, // Last Glacial Maximum
	{1350, 0.070, 0.018},
	{1450, 0.042, 0.011},
	{1500, 0.033, 0.0085},
	{1550, 0.048, 0.011}, // A
	{1600, 0.033, 0.0085},
	{1650, 0.048, 0.011}, // B
	{1700, 0.032, 0.0080},
	{1750, 0.050, 0.011}, // C
	{1850, 0.030, 0.0075},
	{1950, 0.036, 0.0095},
	{2000, 0.070, 0.018},
	{2050, 0.20, 0.050}, // D
	{2100, 0.060, 0.016},
	{2150, 0.025, 0.0062},
	{2250, 0.018, 0.0048},
	{2350, 0.020, 0.0052},
	{2450, 0.013, 0.0038},
	{2750, 0.013, 0.0038},
}

// iceAt returns the profile at a depth; beyond its ends it is constant.
func iceAt(depth float64) (scatter, dust float64) {
	i := sort.Search(len(profile), func(i int) bool { return profile[i].depth > depth })
	below, above := profile[min(i, len(profile)-1)], profile[max(i-1, 0)]
	if below == above {
		return below.scatter, below.dust
	}
	part := (depth - above.depth) / (below.depth - above.depth)
	between := func(a, b float64) float64 { return a * math.Pow(b/a, part) }
	return between(above.scatter, below.scatter), between(above.dust, below.dust)
}

func wavelength(bin int) float64 { return firstEdge + binWidth*(float64(bin)+0.5) }

// medium is the ice, tabulated per wavelength bin and layer. It is read-only
// after newMedium and may be shared.
type medium struct {
	layers int
	top    float64 // z of the upper face of layer 0, in metres
	// scatter and absorb are inverse lengths in 1/m at [bin*layers+layer].
	scatter, absorb []float64
	slowness        [bins]float64 // ns/m at the group velocity
}

// newMedium cuts the profile into layers that fill the height of a walk; a
// layer is everywhere what the profile is in its middle.
func newMedium() *medium {
	m := &medium{layers: int(2 * walkHeight / layerHeight), top: walkHeight}
	for bin := range bins {
		lambda := wavelength(bin)
		m.slowness[bin] = groupIndex(lambda) / speedOfLight
		for layer := range m.layers {
			depth := detectorZ - m.top + layerHeight*(float64(layer)+0.5)
			scatter, dust := iceAt(depth)
			m.scatter = append(m.scatter, scattering(scatter, lambda)/(1-scatterG))
			m.absorb = append(m.absorb, absorption(dust, depth, lambda))
		}
	}
	return m
}

// layer returns the index of the layer at z; out of the ice that is tabulated it
// is below 0 or at least m.layers.
func (m *medium) layer(z float64) int { return int(math.Floor((m.top - z) / layerHeight)) }

// scattering is the effective coefficient b_e(λ) in 1/m; the geometric one of a
// single scatter is b_e/(1-g).
func scattering(be400, lambda float64) float64 {
	return be400 * math.Pow(lambda/400, -scatterPower)
}

// absorption is a(λ) in 1/m: of dust, by its coefficient at 400 nm, and of pure
// ice, by its temperature.
func absorption(dust400, depth, lambda float64) float64 {
	warmer := temperatureC1*(depth-pureDepth) + temperatureC2*(depth*depth-pureDepth*pureDepth)
	return dust400*math.Pow(lambda/400, -dustPower) + pureScale*math.Exp(-pureSlope/lambda)*(1+pureWarming*warmer)
}

// phaseIndex and groupIndex are the refractive indices of ice.
// Source: Price and Woschnagg, Astropart. Phys. 15 (2001) 97.
func phaseIndex(lambda float64) float64 {
	x := lambda / 1000
	return 1.55749 - x*(1.57988-x*(3.99993-x*(4.68271-2.09354*x)))
}

func groupIndex(lambda float64) float64 {
	x := lambda / 1000
	return phaseIndex(lambda) * (1.227106 - x*(0.954648-x*(1.42568-0.711832*x)))
}
