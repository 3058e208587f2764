package main

import "math"

// fineStructure is α of electromagnetism.
const fineStructure = 1 / 137.035999

// What a DOM counts of light that meets it head-on: quantum efficiency of 25 %
// near 390 nm, on a photocathode that fills two thirds of the sphere's cross
// section, behind glass and gel that are opaque below some 340 nm, which leaves
// about 13.6 % at best. Towards red the photocathode's answer falls like a
// Gaussian, to a half at 520 nm and 6 % at 650 nm.
// Source: a parametrisation of ours after Abbasi et al., Nucl. Instrum. Methods
// A 618 (2010) 139, and Aartsen et al., JINST 12 (2017) P03012.
const (
	acceptancePeak   = 0.136
	acceptanceCentre = 390.0 // nm
	acceptanceWidth  = 110.0 // nm, standard deviation towards red
	glassEdge        = 340.0 // nm, half transmission
	glassWidth       = 12.0  // nm, of a logistic function
)

// efficiencyEnvelope is the largest efficiency any detector task may apply,
// relative to a standard DOM; photons are generated for it and each hit has
// weight 1. A detector keeps a hit with its own efficiency over the envelope.
// Source: the high-quantum-efficiency DOM, ×1.35, Aartsen et al., JINST 12
// (2017) P03012.
const efficiencyEnvelope = 1.35

// yield is the number of photons a bare relativistic track emits per metre in a
// wavelength bin, by the Frank–Tamm formula dN/dx dλ = 2πα sin²θ_c/λ².
func yield(bin int) float64 {
	from, to := firstEdge+binWidth*float64(bin), firstEdge+binWidth*float64(bin+1)
	n := phaseIndex(wavelength(bin))
	return 2 * math.Pi * fineStructure * (1 - 1/(n*n)) * (1/from - 1/to) * 1e9
}

// acceptance is the share of the photons meeting a DOM head-on that it counts.
func acceptance(bin int) float64 {
	lambda := wavelength(bin)
	red := math.Max(lambda-acceptanceCentre, 0) / acceptanceWidth
	return acceptancePeak * math.Exp(-red*red/2) / (1 + math.Exp((glassEdge-lambda)/glassWidth))
}

// spectrum is what a standard DOM would count of a bare track's light:
// the sum per metre and its cumulative distribution over wavelength bins.
type spectrum struct {
	perMetre   float64
	cumulative [bins]float64
}

func newSpectrum() *spectrum {
	s := &spectrum{}
	for bin := range bins {
		s.perMetre += yield(bin) * acceptance(bin)
		s.cumulative[bin] = s.perMetre
	}
	for bin := range bins {
		s.cumulative[bin] /= s.perMetre
	}
	return s
}

// bin returns the wavelength bin at quantile u.
func (s *spectrum) bin(u float64) int {
	bin := 0
	for bin < bins-1 && s.cumulative[bin] < u {
		bin++
	}
	return bin
}

// A Step is a stretch of a particle's path that emits light. Photons are
// numbered through all steps of a job; this one's begin at First.
type Step struct {
	Event      int32
	X, Y, Z    float64 // where it begins, in metres
	DX, DY, DZ float64 // unit direction of the particle
	Time       float64 // ns since the muon's start
	Length     float64 // m of uniform emission; 0 for one shower
	// Shower says that the light comes from shower particles around the
	// direction, not from the track itself; Shape > 0 that it is spread along
	// the direction by a gamma distribution of that shape.
	Shower bool
	Shape  int
	Count  uint64
	First  uint64
}

// The light of electromagnetic showers in ice.
const (
	// showerTrack is the track length per energy in m/GeV. Source: Rädel and
	// Wiebusch, Astropart. Phys. 38 (2012) 53, 5.32 at density 0.91.
	showerTrack = 5.32
	// The angles of shower particles follow exp(-b x^a) x^(a-1) in
	// x = 1-cosθ, and the profile a gamma distribution of shape
	// 2.03 + 0.604 ln(E/GeV) and scale X0/0.633, X0 = 0.39 m.
	// Source: C. Wiebusch, PhD thesis, RWTH Aachen (1995).
	showerAngleA, showerAngleB   = 0.39, 2.61
	showerShape0, showerShape1   = 2.03, 0.604
	showerScale                  = 0.39 / 0.633
	showerShapeMax               = 8 // two random blocks; reached at 19 TeV
	secondaries0, secondariesLog = 1.1880, 0.0206
)

// trackLight is the light of a muon with the secondaries below 500 MeV that
// always accompany it, relative to a bare track. Source: Wiebusch 1995.
func trackLight(energy float64) float64 {
	return secondaries0 + math.Max(secondariesLog*math.Log(energy), 0)
}

// showerAngle returns the cosine at quantile u of the shower particles' angle.
func showerAngle(u float64) float64 {
	whole := 1 - math.Exp(-showerAngleB*math.Pow(2, showerAngleA))
	return math.Max(1-math.Pow(-math.Log(1-u*whole)/showerAngleB, 1/showerAngleA), -1)
}

// showerShape is the gamma shape of a shower's profile, rounded to a whole
// number so that it is a sum of exponentials.
func showerShape(energy float64) int {
	shape := math.Round(showerShape0 + showerShape1*math.Log(math.Max(energy, 1)))
	return int(math.Min(math.Max(shape, 1), showerShapeMax))
}
