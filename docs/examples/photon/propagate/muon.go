package main

import "math"

// Mean energy loss of muons in ice, dE/dx = a + bE.
// Source: Chirkin and Rhode, hep-ph/0407075: a = 0.259 GeV/mwe,
// b = 0.363e-3/mwe; with the ice's density these are the 0.24 GeV/m and
// 3.3e-4/m of Abbasi et al., Nucl. Instrum. Methods A 703 (2013) 190.
const (
	iceDensity = 0.917
	lossA      = 0.259 * iceDensity    // GeV/m
	lossB      = 0.363e-3 * iceDensity // 1/m
	// stochasticShare is bremsstrahlung and photonuclear interaction, taken as
	// showers with a spectrum dN/dv ~ 1/v; pair production, half of b and far
	// softer, is taken as continuous. Source: Groom, Mokhov and Striganov, At.
	// Data Nucl. Data Tables 78 (2001) 183, b_pair : b_rest near 1 : 1 in ice.
	stochasticShare = 0.49
	smallestShower  = 1.0 // GeV; what is smaller counts as continuous
	muonMass        = 0.1057
	muonStep        = 10.0 // m
)

// A Muon is one particle of a generator task.
type Muon struct {
	Event      int32 // index among all muons of the job
	Name       string
	Energy     float64 // GeV
	X, Y, Z    float64 // m
	DX, DY, DZ float64
}

// steps follows the muon in stretches of 10 m until it stops or has left the
// emission volume, and appends its light. Light is scaled by density, the
// number of photons to follow per metre of bare track.
func (m *Muon) steps(seed uint64, density float64, to []Step) []Step {
	random := &draws{seed: seed, number: uint64(m.Event)}
	energy, x, y, z, time := m.Energy, m.X, m.Y, m.Z, 0.0
	emit := func(s Step, mean float64) {
		s.Event, s.DX, s.DY, s.DZ = m.Event, m.DX, m.DY, m.DZ
		if s.Count = uint64(random.poisson(mean)); s.Count > 0 {
			to = append(to, s)
		}
	}
	for energy > muonMass && !m.passed(x, y, z) {
		inside := x*x+y*y < emissionRadius*emissionRadius && math.Abs(z) < emissionHeight
		length := math.Min(muonStep, (energy-muonMass)/lossA)
		// Showers above the smallest, with fractions v of the energy drawn
		// from 1/v; their rate makes the mean loss b·share·E.
		cut := math.Min(smallestShower/energy, 0.5)
		showers := random.poisson(stochasticShare * lossB * length * -math.Log(cut))
		var lost float64
		for range showers {
			shower := energy * math.Pow(cut, random.uniform())
			at := length * random.uniform()
			lost += shower
			if inside {
				emit(Step{
					X: x + at*m.DX, Y: y + at*m.DY, Z: z + at*m.DZ, Time: time + at/speedOfLight,
					Shower: true, Shape: showerShape(shower),
				}, density*showerTrack*shower)
			}
		}
		soft := lossB * energy * length * ((1 - stochasticShare) + stochasticShare*cut)
		if inside {
			stretch := Step{X: x, Y: y, Z: z, Time: time, Length: length}
			emit(stretch, density*length*trackLight(energy))
			stretch.Shower = true
			emit(stretch, density*showerTrack*soft)
		}
		energy -= lossA*length + soft + lost
		x, y, z, time = x+length*m.DX, y+length*m.DY, z+length*m.DZ, time+length/speedOfLight
	}
	return to
}

// passed reports whether the muon is past the middle of the array and outside
// the emission volume, so that it cannot come back.
func (m *Muon) passed(x, y, z float64) bool {
	outside := x*x+y*y > emissionRadius*emissionRadius || math.Abs(z) > emissionHeight
	return outside && x*m.DX+y*m.DY+z*m.DZ > 0
}

// number counts the photons of steps through the job and returns their sum.
func number(steps []Step) uint64 {
	var first uint64
	for i := range steps {
		steps[i].First = first
		first += steps[i].Count
	}
	return first
}
