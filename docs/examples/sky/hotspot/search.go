package main

import (
	"math"
	"sort"

	"floe/docs/examples/sky/fits"
)

// The point-spread function is taken as a Gaussian with 68 % of a source's
// photons within 0.2°, the LAT's mean above 10 GeV. Source: LAT performance of
// P7V6 events, 68 % containment near 0.25° at 10 GeV and 0.12° at 30 GeV.
const (
	psfSigma  = 0.2 / 1.51 // degrees
	psfReach  = 0.6        // degrees, where the kernel is cut
	newtonMax = 50
)

// tsMap is a map of the test statistic.
type tsMap struct {
	width, height int
	values        []float64
}

// psf is the kernel in pixels.
type psf struct {
	reach  int
	weight []float64 // (2·reach+1)², sums to 1
}

func newPSF(degrees float64) *psf {
	p := &psf{reach: int(math.Round(psfReach / degrees))}
	side := 2*p.reach + 1
	p.weight = make([]float64, side*side)
	var sum float64
	for i := range p.weight {
		x, y := float64(i%side-p.reach), float64(i/side-p.reach)
		if r := math.Hypot(x, y) * degrees; r <= psfReach+degrees/2 {
			p.weight[i] = math.Exp(-r * r / (2 * psfSigma * psfSigma))
			sum += p.weight[i]
		}
	}
	for i := range p.weight {
		p.weight[i] /= sum
	}
	return p
}

// search computes TS in every pixel against a background. Where TS is surely
// below least it may be left at 0, which saves most of the work of a trial.
func (p *psf) search(m *fits.Image, template []float64, least float64) *tsMap {
	ts := &tsMap{width: m.Width, height: m.Height, values: make([]float64, len(m.Pixels))}
	slope, inside, counts := p.gather(m, template)
	var near []term
	for i := range ts.values {
		// The likelihood's slope in s falls, ever more slowly, from slope to 0
		// at the best s, which is at most counts/inside: so TS, twice the area
		// below it, is at most slope · counts/inside.
		if slope[i] <= 0 || slope[i]*counts[i] < least*inside[i] {
			continue
		}
		near = near[:0]
		x, y := i%m.Width, i/m.Width
		for dy := max(-p.reach, -y); dy <= min(p.reach, m.Height-1-y); dy++ {
			for dx := max(-p.reach, -x); dx <= min(p.reach, m.Width-1-x); dx++ {
				if j := i + dy*m.Width + dx; m.Pixels[j] > 0 {
					if k := p.at(dx, dy); k > 0 {
						near = append(near, term{m.Pixels[j], k / template[j]})
					}
				}
			}
		}
		ts.values[i] = likelihood(near, inside[i])
	}
	return ts
}

// at is the kernel's weight at an offset in pixels.
func (p *psf) at(dx, dy int) float64 { return p.weight[(dy+p.reach)*(2*p.reach+1)+dx+p.reach] }

// gather returns for every pixel the slope of the likelihood at s = 0, the share
// of the kernel inside the map, and the counts under the kernel.
func (p *psf) gather(m *fits.Image, template []float64) (slope, inside, counts []float64) {
	slope, inside, counts = make([]float64, len(template)), make([]float64, len(template)), make([]float64, len(template))
	for i := range template {
		x, y := i%m.Width, i/m.Width
		whole := x >= p.reach && y >= p.reach && x < m.Width-p.reach && y < m.Height-p.reach
		inside[i] = 1
		if whole {
			continue
		}
		inside[i] = 0
		for dy := max(-p.reach, -y); dy <= min(p.reach, m.Height-1-y); dy++ {
			for dx := max(-p.reach, -x); dx <= min(p.reach, m.Width-1-x); dx++ {
				inside[i] += p.at(dx, dy)
			}
		}
	}
	for i := range slope {
		slope[i] = -inside[i]
	}
	for i, n := range m.Pixels {
		if n == 0 {
			continue
		}
		x, y := i%m.Width, i/m.Width
		for dy := max(-p.reach, -y); dy <= min(p.reach, m.Height-1-y); dy++ {
			for dx := max(-p.reach, -x); dx <= min(p.reach, m.Width-1-x); dx++ {
				if k := p.at(dx, dy); k > 0 {
					slope[i+dy*m.Width+dx] += n * k / template[i]
					counts[i+dy*m.Width+dx] += n
				}
			}
		}
	}
	return slope, inside, counts
}

// A term is one pixel with counts near a possible source.
type term struct {
	counts float64
	ratio  float64 // kernel over background
}

// likelihood returns TS = 2 max over s ≥ 0 of Σ n ln(1 + s k/B) - s Σ k, with
// s the source's counts and a slope above 0 at s = 0. The slope is convex and
// falling, so Newton's method from 0 approaches its root from below.
func likelihood(near []term, inside float64) float64 {
	s := 0.0
	for range newtonMax {
		first, second := -inside, 0.0
		for _, t := range near {
			r := t.ratio / (1 + s*t.ratio)
			first += t.counts * r
			second += t.counts * r * r
		}
		step := first / second
		s += step
		if math.Abs(step) < 1e-6*(1+s) {
			break
		}
	}
	ts := -s * inside
	for _, t := range near {
		ts += t.counts * math.Log1p(s*t.ratio)
	}
	return math.Max(2*ts, 0)
}

// A Spot is a local maximum of TS.
type Spot struct {
	X, Y float64 // pixels from 0, between pixels by a parabola through the peak
	TS   float64
}

// spotDistance is how far apart, in degrees, two spots must be.
const spotDistance = 0.5

// spots lists maxima with TS of at least least, highest first. A lower one
// within spotDistance of a higher one is part of it.
func (m *tsMap) spots(least, degrees float64) []Spot {
	var order []int
	for i, value := range m.values {
		if value >= least {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool { return m.values[order[a]] > m.values[order[b]] })
	var out []Spot
	for _, i := range order {
		x, y := i%m.width, i/m.width
		if !m.peak(x, y) {
			continue
		}
		alone := true
		for _, s := range out {
			alone = alone && math.Hypot(s.X-float64(x), s.Y-float64(y))*degrees > spotDistance
		}
		if alone {
			out = append(out, Spot{
				X: float64(x) + m.vertex(i, 1, x > 0 && x < m.width-1),
				Y: float64(y) + m.vertex(i, m.width, y > 0 && y < m.height-1), TS: m.values[i],
			})
		}
	}
	return out
}

// peak reports whether no neighbour is higher.
func (m *tsMap) peak(x, y int) bool {
	for v := max(y-1, 0); v <= min(y+1, m.height-1); v++ {
		for u := max(x-1, 0); u <= min(x+1, m.width-1); u++ {
			if m.values[v*m.width+u] > m.values[y*m.width+x] {
				return false
			}
		}
	}
	return true
}

// vertex is where the parabola through a peak and its two neighbours peaks.
func (m *tsMap) vertex(i, stride int, inner bool) float64 {
	if !inner {
		return 0
	}
	left, centre, right := m.values[i-stride], m.values[i], m.values[i+stride]
	bend := left - 2*centre + right
	if bend >= 0 {
		return 0
	}
	return math.Min(math.Max((left-right)/(2*bend), -0.5), 0.5)
}
