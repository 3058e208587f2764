package main

import (
	"math"

	"floe/docs/examples/sky/fits"
)

// The background is smooth along the Galactic plane, where emission changes
// slowly, and much less across it, where it is a degree wide.
const (
	smoothLongitude = 3.0 // degrees, Gaussian standard deviation
	smoothLatitude  = 0.4
	maskTS          = 16.0 // pixels above this are taken for sources …
	maskRadius      = 0.5  // … and left out with this many degrees around
	maskRounds      = 4
	leastBackground = 0.01 // counts per pixel
)

// gaussian is a normalised kernel for one axis, cut at three deviations.
func gaussian(sigma float64) []float64 {
	half := int(math.Ceil(3 * sigma))
	kernel := make([]float64, 2*half+1)
	var sum float64
	for i := range kernel {
		d := float64(i - half)
		kernel[i] = math.Exp(-d * d / (2 * sigma * sigma))
		sum += kernel[i]
	}
	for i := range kernel {
		kernel[i] /= sum
	}
	return kernel
}

// smooth convolves a map with a kernel along each axis. What lies outside the
// map counts as 0; dividing two smoothed maps mends that.
func smooth(values []float64, width, height int, alongX, alongY []float64) []float64 {
	rows := make([]float64, len(values))
	half := len(alongX) / 2
	for y := range height {
		row := values[y*width : (y+1)*width]
		for x, value := range row {
			if value == 0 {
				continue
			}
			for to := max(x-half, 0); to <= min(x+half, width-1); to++ {
				rows[y*width+to] += value * alongX[to-x+half]
			}
		}
	}
	out := make([]float64, len(values))
	half = len(alongY) / 2
	for y := range height {
		for from := max(y-half, 0); from <= min(y+half, height-1); from++ {
			weight := alongY[from-y+half]
			for x := range width {
				out[y*width+x] += weight * rows[from*width+x]
			}
		}
	}
	return out
}

// background returns the template of a map and the map's TS against it. Pixels
// that look like sources are masked, and the template is made again, until the
// mask no longer grows or maskRounds is reached. No catalogue is used. TS below
// least may be left out.
func background(m *fits.Image, degrees, least float64) (template []float64, ts *tsMap) {
	alongX, alongY := gaussian(smoothLongitude/degrees), gaussian(smoothLatitude/degrees)
	good := make([]float64, len(m.Pixels))
	for i := range good {
		good[i] = 1
	}
	psf := newPSF(degrees)
	for range maskRounds {
		kept := make([]float64, len(m.Pixels))
		for i, value := range m.Pixels {
			kept[i] = value * good[i]
		}
		template = smooth(kept, m.Width, m.Height, alongX, alongY)
		weight := smooth(good, m.Width, m.Height, alongX, alongY)
		for i := range template {
			template[i] = math.Max(template[i]/math.Max(weight[i], 1e-9), leastBackground)
		}
		ts = psf.search(m, template, least)
		if !mask(good, ts, degrees) {
			break
		}
	}
	return template, ts
}

// mask sets good to 0 around pixels above maskTS and reports whether that
// changed anything.
func mask(good []float64, ts *tsMap, degrees float64) (grown bool) {
	reach := int(maskRadius / degrees)
	for i, value := range ts.values {
		if value < maskTS {
			continue
		}
		cx, cy := i%ts.width, i/ts.width
		for y := max(cy-reach, 0); y <= min(cy+reach, ts.height-1); y++ {
			for x := max(cx-reach, 0); x <= min(cx+reach, ts.width-1); x++ {
				if j := y*ts.width + x; good[j] != 0 && (x-cx)*(x-cx)+(y-cy)*(y-cy) <= reach*reach {
					good[j], grown = 0, true
				}
			}
		}
	}
	return grown
}
