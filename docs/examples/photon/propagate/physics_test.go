package main

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// within fails unless got is want up to a relative tolerance.
func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*math.Abs(want) {
		t.Errorf("%s = %.6g, want %.6g within %.2g %%", what, got, want, 100*tolerance)
	}
}

// Known answers of philox4x32-10 for zeros and for the digits of π, as its
// authors publish them.
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
			[2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := philox(c.counter, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

// Light yield: Frank–Tamm between 300 and 600 nm, and the indices of Price and
// Woschnagg at 400 nm.
func TestLightYield(t *testing.T) {
	var photons float64
	for bin := range bins {
		if lambda := wavelength(bin); lambda > 300 && lambda < 600 {
			photons += yield(bin)
		}
	}
	within(t, "Cherenkov photons per metre, 300–600 nm", photons, 3.25e4, 0.01)
	within(t, "phase index at 400 nm", phaseIndex(400), 1.3195, 0.0005)
	within(t, "group index at 400 nm", groupIndex(400), 1.356, 0.001)
	within(t, "light of a 1 TeV muon over a bare track", trackLight(1000), 1.330, 0.001)
}

// A DOM's acceptance is what is published of it: best near 390 to 420 nm with 13
// to 14 %, opaque in the far ultraviolet, and nearly blind in the red.
func TestAcceptance(t *testing.T) {
	best := 0
	for bin := range bins {
		if acceptance(bin) > acceptance(best) {
			best = bin
		}
	}
	if lambda := wavelength(best); lambda < 380 || lambda > 420 || acceptance(best) < 0.13 || acceptance(best) > 0.14 {
		t.Errorf("best acceptance %.3f at %g nm, want 0.13 to 0.14 between 380 and 420 nm", acceptance(best), lambda)
	}
	for _, c := range []struct {
		lambda, low, high float64 // relative to the best
	}{{295, 0, 0.05}, {345, 0.4, 0.8}, {505, 0.5, 0.7}, {605, 0.1, 0.3}, {665, 0, 0.08}} {
		if got := acceptance(int((c.lambda-firstEdge)/binWidth)) / acceptance(best); got < c.low || got > c.high {
			t.Errorf("acceptance at %g nm over the best = %.3f, want %g to %g", c.lambda, got, c.low, c.high)
		}
	}
	// IceCube's simulations count 2450.
	within(t, "photons a DOM counts per metre of bare track", newSpectrum().perMetre, 2450, 0.15)
}

// uniformIce is a medium with the given lengths, in metres, in all its layers.
func uniformIce(scatter, absorb float64) *medium {
	m := &medium{layers: int(2 * walkHeight / layerHeight), top: walkHeight}
	for bin := range bins {
		m.slowness[bin] = groupIndex(wavelength(bin)) / speedOfLight
		for range m.layers {
			m.scatter, m.absorb = append(m.scatter, 1/scatter), append(m.absorb, 1/absorb)
		}
	}
	return m
}

// Photons without sensors: mean path to absorption is the absorption length,
// whatever the scattering, and the mean distance along the first direction
// approaches the transport length λ_s/(1-g) where absorption is weak.
func TestMeanFreePaths(t *testing.T) {
	const photons = 20000
	for _, c := range []struct{ scatter, absorb float64 }{{2.5, 100}, {4, 40}, {1.5, 20}} {
		m := uniformIce(c.scatter, c.absorb)
		none := newArray(1)
		for i := range none.cell {
			none.cell[i] = -1
		}
		light, b := newSpectrum(), newBunch(1)
		var path, along float64
		for id := range uint64(photons) {
			birth(7, id, &Step{DZ: 1}, light, m, b, 0)
			dx, dy, dz := b.dx[0], b.dy[0], b.dz[0]
			_, how := walk(7, m, none, b, 0)
			if how == endAbsorbed {
				path += b.time[0] / m.slowness[b.bin[0]]
				along += b.x[0]*dx + b.y[0]*dy + b.z[0]*dz
			}
		}
		name := fmt.Sprintf("λ_s %g m, λ_a %g m: ", c.scatter, c.absorb)
		within(t, name+"mean path", path/photons, c.absorb, 4/math.Sqrt(photons))
		// Σ over scatters of g^n with survival between them:
		// <along> = 1/(1/λ_a + (1-g)/λ_s), with g as the mixture's mean.
		within(t, name+"mean advance", along/photons, 1/(1/c.absorb+(1-scatterG)/c.scatter), 0.03)
	}
}

// The mean cosine of a scatter is g for both phase functions; the shower angles
// follow their distribution.
func TestScatterAngle(t *testing.T) {
	const n = 200000
	for _, choice := range []float64{0, 1} {
		var sum float64
		for i := range n {
			sum += scatterAngle(choice, (float64(i)+0.5)/n)
		}
		within(t, fmt.Sprintf("mean cosine, choice %g", choice), sum/n, scatterG, 0.001)
	}
	// Median of exp(-b x^a) x^(a-1): b x^a = -ln(1-(1-e^{-b 2^a})/2).
	x := 1 - showerAngle(0.5)
	got := (1 - math.Exp(-showerAngleB*math.Pow(x, showerAngleA))) / (1 - math.Exp(-showerAngleB*math.Pow(2, showerAngleA)))
	within(t, "shower angle at its median", got, 0.5, 1e-9)
}

// The ice says what Ackermann et al. 2006 and Aartsen et al. 2013 say of it:
// lengths of effective scattering and absorption at 400 nm, by depth.
func TestIceAsPublished(t *testing.T) {
	lengths := func(depth float64) (scatter, absorb float64) {
		be, dust := iceAt(depth)
		return 1 / scattering(be, 400), 1 / absorption(dust, depth, 400)
	}
	for _, c := range []struct {
		name                                           string
		from, to                                       float64
		scatterLow, scatterHigh, absorbLow, absorbHigh float64
	}{
		{"bubbly ice", 1150, 1200, 4, 7, 40, 60},
		{"Last Glacial Maximum", 1290, 1310, 7, 12, 40, 55},
		{"between bubbles and peak D", 1500, 1950, 20, 35, 85, 130},
		{"peak D", 2049, 2051, 4.8, 5.3, 19, 21},
		{"clear ice", 2150, 2450, 40, 80, 145, 250},
	} {
		for depth := c.from; depth <= c.to; depth++ {
			s, a := lengths(depth)
			if s < c.scatterLow || s > c.scatterHigh || a < c.absorbLow || a > c.absorbHigh {
				t.Errorf("%s, %g m: scattering %.1f m, absorption %.1f m; want %g–%g and %g–%g m", c.name, depth, s, a,
					c.scatterLow, c.scatterHigh, c.absorbLow, c.absorbHigh)
			}
		}
	}
	// Peaks A to D, and nothing else that scatters more than both sides, below
	// the bubbles.
	var peaks []float64
	for depth := 1400.0; depth < 2200; depth += 10 {
		above, _ := iceAt(depth - 10)
		here, _ := iceAt(depth)
		if below, _ := iceAt(depth + 10); here > above && here > below {
			peaks = append(peaks, depth)
		}
	}
	if want := []float64{1550, 1650, 1750, 2050}; !slices.Equal(peaks, want) {
		t.Errorf("dust peaks at %v m, want %v", peaks, want)
	}
}

// The wavelength laws: exponents of dust, and pure ice that absorbs more than
// dust above some 500 nm, and more where it is warmer.
func TestIceWavelengths(t *testing.T) {
	within(t, "scattering at 800 nm over 400 nm", scattering(1, 800)/scattering(1, 400), math.Pow(2, -0.9), 1e-9)
	within(t, "absorption of dust at 320 nm over 400 nm", absorption(1, 2400, 320)/absorption(1, 2400, 400), math.Pow(0.8, -1.08), 1e-3)
	pure := func(lambda float64) float64 { return absorption(0, pureDepth, lambda) }
	_, dust := iceAt(1950)
	if with := absorption(dust, pureDepth, 470); with < 2*pure(470) {
		t.Errorf("absorption at 470 nm = %g, pure ice %g; want mostly dust", with, pure(470))
	}
	if with := absorption(dust, pureDepth, 520); with > 2*pure(520) {
		t.Errorf("absorption at 520 nm = %g, pure ice %g; want mostly ice", with, pure(520))
	}
	// 221.5 K - 0.00045319 d + 5.822e-6 d² is 11.2 K warmer at 2230 m than at
	// 1730 m.
	within(t, "pure ice at 2230 m over 1730 m", absorption(0, 2230, 500)/pure(500), 1.113, 0.001)
}

// The medium is the profile in the middle of every layer, and has a layer for
// every height that walks may reach.
func TestLayers(t *testing.T) {
	m := newMedium()
	for _, c := range []struct {
		z    float64
		want int
	}{{walkHeight - 0.01, 0}, {walkHeight - layerHeight + 0.01, 0}, {walkHeight - layerHeight - 0.01, 1}, {-walkHeight + 0.01, m.layers - 1}, {walkHeight + 0.01, -1}, {-walkHeight - 0.01, m.layers}} {
		if got := m.layer(c.z); got != c.want {
			t.Errorf("layer at z = %g is %d, want %d", c.z, got, c.want)
		}
	}
	const bin = 14 // 400 to 410 nm
	for layer := range m.layers {
		depth := detectorZ - walkHeight + layerHeight*(float64(layer)+0.5)
		be, dust := iceAt(depth)
		i := bin*m.layers + layer
		within(t, fmt.Sprintf("scattering at %g m", depth), m.scatter[i]*(1-scatterG), scattering(be, 405), 1e-9)
		within(t, fmt.Sprintf("absorption at %g m", depth), m.absorb[i], absorption(dust, depth, 405), 1e-9)
	}
}

// Muons lose a + bE on average, and their light follows their energy: the
// showers of a 10 TeV muon outshine its track by lossB·E·5.32.
func TestMuonLight(t *testing.T) {
	const muons = 60
	photons := func(energy float64) (perMetre float64) {
		var sum float64
		for i := range muons {
			m := Muon{Event: int32(i), Energy: energy, X: -900, Y: 3, Z: 20, DX: 1}
			steps := m.steps(11, 100, nil)
			sum += float64(number(steps))
		}
		return sum / muons / (2 * emissionRadius) / 100
	}
	// 500 GeV loses 0.46 GeV/m; take the mean energy over the volume.
	for _, c := range []struct{ energy, tolerance float64 }{{600, 0.1}, {10000, 0.25}} {
		var want float64
		energy := c.energy
		for x := -900.0; x < emissionRadius; x += 10 {
			if x >= -emissionRadius {
				want += 10 * (trackLight(energy) + showerTrack*lossB*energy) / (2 * emissionRadius)
			}
			energy -= 10 * (lossA + lossB*energy)
		}
		within(t, fmt.Sprintf("bare-track equivalents per metre at %g GeV", c.energy), photons(c.energy), want, c.tolerance)
	}
}

// The array is IceCube's size, and no two strings crowd one grid cell.
func TestArray(t *testing.T) {
	a := newArray(16)
	nearest, furthest := math.Inf(1), 0.0
	for i := range stringCount {
		furthest = math.Max(furthest, math.Hypot(a.x[i], a.y[i]))
		for j := range i {
			nearest = math.Min(nearest, math.Hypot(a.x[i]-a.x[j], a.y[i]-a.y[j]))
		}
		if s := a.near(a.x[i], a.y[i]); s != i {
			t.Errorf("string near (%.0f, %.0f) = %d, want %d", a.x[i], a.y[i], s, i)
		}
	}
	within(t, "least distance between strings", nearest, latticeSpacing/math.Sqrt(3), 1e-9)
	if furthest > emissionRadius-50 || furthest < 500 {
		t.Errorf("furthest string at %.0f m, want within 500 m and %.0f m", furthest, emissionRadius-50)
	}
	if bottom := detectorZ - (topSensorZ - sensorSpacing*(sensorsPerString-1)); math.Abs(bottom-2453) > 1 {
		t.Errorf("deepest sensor at %.0f m, want 2453 m", bottom)
	}
}

// touch agrees with stepping along the path in small strides.
func TestTouchAgainstStrides(t *testing.T) {
	a := newArray(16)
	d := draws{seed: 3}
	hits := 0
	for range 2000 {
		s := int(stringCount * d.uniform())
		x, y := a.x[s]+9*(d.uniform()-0.5), a.y[s]+9*(d.uniform()-0.5)
		z := 40 * (d.uniform() - 0.5)
		dx, dy, dz := turn(0, 0, 1, 2*d.uniform()-1, 2*math.Pi*d.uniform())
		want, at := -1, 0.0
		for step := 0.0; step <= pathLimit && want < 0; step += 0.005 {
			for k := range sensorsPerString {
				px, py := x+step*dx-a.x[s], y+step*dy-a.y[s]
				pz := z + step*dz - (topSensorZ - sensorSpacing*float64(k))
				if px*px+py*py+pz*pz < a.radius*a.radius {
					want, at = k, step
				}
			}
		}
		got, along := a.touch(s, x, y, z, dx, dy, dz, pathLimit)
		if want >= 0 {
			hits++
			if got != want || math.Abs(along-at) > 0.006 {
				t.Fatalf("touch = %d at %.3f, want %d at %.3f", got, along, want, at)
			}
		} else if got >= 0 && along < pathLimit-0.3 {
			// Strides may step over a grazing path, never over a deep one.
			mx, my := x+(along+0.3)*dx-a.x[s], y+(along+0.3)*dy-a.y[s]
			mz := z + (along+0.3)*dz - (topSensorZ - sensorSpacing*float64(got))
			if mx*mx+my*my+mz*mz < a.radius*a.radius {
				t.Fatalf("touch = %d at %.3f, want none", got, along)
			}
		}
	}
	if hits < 200 {
		t.Fatalf("%d paths touched a sensor, want a few hundred for the test to mean anything", hits)
	}
}

// Hits grow with the muon's energy as its light does, and enlarging sensors
// while thinning photons leaves their mean number unchanged.
func TestHitsScale(t *testing.T) {
	m, light := newMedium(), newSpectrum()
	hits := func(energy, oversize float64, muons int, seed uint64) (found, photons float64) {
		var steps []Step
		for i := range muons {
			muon := Muon{Event: int32(i), Energy: energy, X: -900, Y: 30 + 160/float64(muons)*float64(i), Z: -350, DX: 1}
			steps = muon.steps(seed, light.perMetre*efficiencyEnvelope/(oversize*oversize), steps)
		}
		photons = float64(number(steps))
		all, _ := propagate(seed, steps, light, m, newArray(oversize), 2)
		return float64(len(all)), photons
	}
	low, lowLight := hits(500, 30, 3, 5)
	high, highLight := hits(5000, 30, 3, 5)
	// Showers fall near strings or far from them, so this is good to a factor of 2.
	if ratio, want := high/low, highLight/lowLight; want < 3 || ratio < want/2 || ratio > want*2 {
		t.Errorf("hits at 5 TeV over hits at 500 GeV = %.1f (%.0f, %.0f), want the light's %.1f within a factor of 2", ratio, high, low, want)
	}
	one, _ := hits(500, 20, 2, 5)
	other, _ := hits(500, 14, 2, 6)
	if difference := math.Abs(one - other); difference > 6*math.Sqrt(one+other) {
		t.Errorf("hits with oversize 20 and 14 = %.0f, %.0f; want equal within 6σ of Poisson", one, other)
	}
}

// The same seed gives the same hits with any number of threads; another seed
// gives others.
func TestThreadsDoNotMatter(t *testing.T) {
	m, light, sensors := newMedium(), newSpectrum(), newArray(20)
	run := func(seed uint64, threads int) string {
		muon := Muon{Name: "s0", Energy: 800, X: -900, Y: 30, Z: -300, DX: 1}
		steps := muon.steps(seed, light.perMetre/400, nil)
		number(steps)
		hits, sum := propagate(seed, steps, light, m, sensors, threads)
		return fmt.Sprint(hits, sum)
	}
	one := run(9, 1)
	if three := run(9, 3); three != one {
		t.Error("three threads give other hits than one")
	}
	if run(10, 1) == one {
		t.Error("two seeds give the same hits")
	}
}
