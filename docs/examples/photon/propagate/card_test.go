package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

var picture = flag.String("picture", "", "file for a picture of what TestCardDistributions compares")

// needCard returns a device of OpenCL, a processor where there is no card: PoCL runs
// the kernel as a card does.
func needCard(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles a kernel")
	}
	t.Setenv("POCL_CACHE_DIR", filepath.Join(t.TempDir(), "pocl"))
	list, err := runHost(nil, "list")
	if err != nil {
		t.Skipf("OpenCL cannot be used: %v", err)
	}
	var found []cardDevice
	if err := json.Unmarshal(list, &found); err != nil {
		t.Fatalf("devices %q: %v", list, err)
	}
	if len(found) == 0 {
		t.Skip("OpenCL finds no device; Debian's pocl-opencl-icd is one")
	}
	best := found[0]
	for _, d := range found {
		if d.GPU && !best.GPU {
			best = d
		}
	}
	t.Logf("%s: %s of %s, driver %s", best.ID, best.Device, best.Platform, best.Driver)
	return best.ID
}

// compared is the light that both ways follow: one muon across the array with all
// its steps, and flashes of tracks and showers some metres from strings at all depths,
// of whose light much is seen, soon after time 0.
func compared(light *spectrum, sensors *array) []Step {
	muon := Muon{Energy: 1000, X: -500, Y: -400, Z: 700, DX: 0.6, DY: 0.48, DZ: -0.64}
	steps := muon.steps(17, light.perMetre*efficiencyEnvelope/(comparedOversize*comparedOversize), nil)
	place := &draws{seed: 18}
	for i := range flashes {
		s := Step{Event: int32(1 + i*(comparedEvents-1)/flashes), Shower: i%2 == 1, Count: 2500}
		if s.Shower {
			s.Shape = 1 + i%showerShapeMax
		} else {
			s.Length = 5
		}
		s.DX, s.DY, s.DZ = turn(0, 0, 1, 2*place.uniform()-1, 2*math.Pi*place.uniform())
		across, angle := 6+14*place.uniform(), 2*math.Pi*place.uniform()
		s.X = sensors.x[i%stringCount] + across*math.Cos(angle)
		s.Y = sensors.y[i%stringCount] + across*math.Sin(angle)
		s.Z = topSensorZ - sensorSpacing*(sensorsPerString-1)*float64(i)/flashes
		steps = append(steps, s)
	}
	number(steps)
	return steps
}

const (
	comparedOversize = 25
	comparedEvents   = 9 // the muon, and flashes of eight depths
	flashes          = 64
)

// TestCardFollowsTheSamePhotons: with the same seed a card follows the very photons
// that the processor follows. Single precision moves each by a hair, so that a few
// of those that graze a sensor have another end.
func TestCardFollowsTheSamePhotons(t *testing.T) {
	card := needCard(t)
	ice, light, sensors := newMedium(), newSpectrum(), newArray(comparedOversize)
	steps := compared(light, sensors)
	want, wanted := propagate(4, steps, light, ice, sensors, 2)
	got, sum, _, err := propagateOnCard(card, kernelConstants(ice, sensors), 4, steps, light, ice, sensors)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Photons != wanted.Photons || sum.Absorbed+sum.Escaped+sum.Hits != sum.Photons {
		t.Errorf("card: %+v; want %d photons, each with one end", sum, wanted.Photons)
	}
	other := make(map[uint64]Hit, len(got))
	for _, h := range got {
		other[h.Photon] = h
	}
	same, latest := 0, 0.0
	for _, h := range want {
		o, ok := other[h.Photon]
		if !ok || o.String != h.String || o.Sensor != h.Sensor || o.Scatter != h.Scatter {
			continue
		}
		same++
		latest = math.Max(latest, math.Abs(o.Time-h.Time))
		if o.Bin != h.Bin || o.Event != h.Event || math.Abs(o.CosEta-h.CosEta) > 0.01 {
			t.Fatalf("photon %d hits as %+v, want %+v", h.Photon, o, h)
		}
	}
	t.Logf("%d hits, %d on the card, %d the same; times differ by at most %.3f ns", len(want), len(got), same, latest)
	// Rounding is 6e-8 of some 1,000 m, and a photon scatters some 30 times: less
	// than a millimetre, or 1 in 1,000 of the metres in which a sensor is met.
	if lost := len(want) - same; lost > len(want)/100 || len(got)-same > len(got)/100 {
		t.Errorf("of %d hits %d are the same among the card's %d, want all but 1 in 100", len(want), same, len(got))
	}
	again, _, _, err := propagateOnCard(card, kernelConstants(ice, sensors), 4, steps, light, ice, sensors)
	if err != nil || !slices.Equal(got, again) {
		t.Errorf("the same seed and device: %v, or other hits", err)
	}
}

// A sample is what was found of the same light with one seed.
type sample struct {
	hits []Hit
	sum  Summary
}

// A comparison is the probability that two samples of one distribution differ as
// much as these do.
type comparison struct {
	name string
	p    float64
}

// compare sets samples beside each other. Photons of fixed steps are independent of
// each other, so hits are counts without correlation, and the tests are exact.
func compare(a, b sample) []comparison {
	counts := func(of func(Hit) int, n int) float64 {
		x, y := make([]float64, n), make([]float64, n)
		for _, h := range a.hits {
			x[of(h)]++
		}
		for _, h := range b.hits {
			y[of(h)]++
		}
		return sameCounts(x, y)
	}
	values := func(of func(Hit) float64) float64 {
		var x, y []float64
		for _, h := range a.hits {
			x = append(x, of(h))
		}
		for _, h := range b.hits {
			y = append(y, of(h))
		}
		return sameValues(x, y)
	}
	return []comparison{
		{"ends of photons: chi²", sameCounts(
			[]float64{float64(a.sum.Hits), float64(a.sum.Absorbed), float64(a.sum.Escaped)},
			[]float64{float64(b.sum.Hits), float64(b.sum.Absorbed), float64(b.sum.Escaped)})},
		{"hits by depth of the sensor: chi²", counts(func(h Hit) int { return int(h.Sensor) }, sensorsPerString)},
		{"hits by string: chi²", counts(func(h Hit) int { return int(h.String) }, stringCount)},
		{"hits by source: chi²", counts(func(h Hit) int { return int(h.Event) }, comparedEvents)},
		{"hits by wavelength: chi²", counts(func(h Hit) int { return int(h.Bin) }, bins)},
		{"arrival times: KS", values(func(h Hit) float64 { return h.Time })},
		{"cosine at the sensor: KS", values(func(h Hit) float64 { return h.CosEta })},
		{"scatters: KS", values(func(h Hit) float64 { return float64(h.Scatter) })},
	}
}

// sameCounts is Pearson's chi² test of two rows of counts, those next to each other
// put together until at least 20 are expected of either row.
func sameCounts(x, y []float64) float64 {
	var allX, allY float64
	for i := range x {
		allX, allY = allX+x[i], allY+y[i]
	}
	share := allX / (allX + allY)
	var chi2, sumX, sumY float64
	cells := 0
	add := func() {
		for _, c := range []struct{ got, want float64 }{{sumX, share * (sumX + sumY)}, {sumY, (1 - share) * (sumX + sumY)}} {
			chi2 += (c.got - c.want) * (c.got - c.want) / c.want
		}
		sumX, sumY = 0, 0
		cells++
	}
	for i := range x {
		sumX, sumY = sumX+x[i], sumY+y[i]
		if both := sumX + sumY; both*math.Min(share, 1-share) >= 20 {
			add()
		}
	}
	return chi2Above(chi2, float64(cells-1))
}

// chi2Above is the probability of more than x, by Wilson and Hilferty (1931), which
// is good to some percent where it is small.
func chi2Above(x, freedom float64) float64 {
	v := 2 / (9 * freedom)
	return math.Erfc((math.Cbrt(x/freedom)-(1-v))/math.Sqrt(v)/math.Sqrt2) / 2
}

// sameValues is the test of Kolmogorov and Smirnov for two samples. Equal values, as
// of numbers of scatters, make it milder.
func sameValues(x, y []float64) float64 {
	sort.Float64s(x)
	sort.Float64s(y)
	var distance float64
	for i, j := 0, 0; i < len(x) && j < len(y); {
		at := math.Min(x[i], y[j])
		for i < len(x) && x[i] <= at {
			i++
		}
		for j < len(y) && y[j] <= at {
			j++
		}
		distance = math.Max(distance, math.Abs(float64(i)/float64(len(x))-float64(j)/float64(len(y))))
	}
	n := float64(len(x)) * float64(len(y)) / float64(len(x)+len(y))
	lambda := distance * (math.Sqrt(n) + 0.12 + 0.11/math.Sqrt(n)) // Stephens 1970
	var p float64
	for k, sign := 1.0, 1.0; k < 101; k, sign = k+1, -sign {
		p += 2 * sign * math.Exp(-2*k*k*lambda*lambda)
	}
	return math.Min(math.Max(p, 0), 1)
}

// TestCardDistributions: with seeds of their own, a card and the processor find the
// same physics within statistical error. A probability below 1 in 10,000 in any of
// the eight comparisons would be a difference: by chance one seed in 1,250 shows it.
// Kernels that are wrong by little are told from the right one by the same light and
// the same bound.
func TestCardDistributions(t *testing.T) {
	const least = 1e-4
	card := needCard(t)
	ice, light, sensors := newMedium(), newSpectrum(), newArray(comparedOversize)
	steps := compared(light, sensors)
	var cpu sample
	cpu.hits, cpu.sum = propagate(101, steps, light, ice, sensors, 2)
	on := func(t *testing.T, ice *medium, change func(map[string]any)) []comparison {
		constants := kernelConstants(ice, sensors)
		change(constants)
		hits, sum, _, err := propagateOnCard(card, constants, 202, steps, light, ice, sensors)
		if err != nil {
			t.Fatal(err)
		}
		card := sample{hits, sum}
		if *picture != "" && t.Name() == "TestCardDistributions/the_kernel" {
			if err := os.WriteFile(*picture, []byte(draw(cpu, card)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return compare(cpu, card)
	}
	t.Run("the kernel", func(t *testing.T) {
		for _, c := range on(t, ice, func(map[string]any) {}) {
			t.Logf("%-36s p = %.3f", c.name, c.p)
			if c.p < least {
				t.Errorf("%s: p = %.2g, want at least %g", c.name, c.p, least)
			}
		}
	})
	darker := newMedium()
	for i := range darker.absorb {
		darker.absorb[i] *= 1.15
	}
	slower := newMedium()
	for i := range slower.slowness {
		slower.slowness[i] *= 1.08
	}
	for _, wrong := range []struct {
		name   string
		ice    *medium
		change func(map[string]any)
	}{
		{"15 % more absorption", darker, func(map[string]any) {}},
		{"a mean cosine of 0.86", ice, func(c map[string]any) { c["SCATTER_G"] = 0.86 }},
		{"light 8 % slower", slower, func(map[string]any) {}},
		{"sensors 5 % larger", ice, func(c map[string]any) { c["RADIUS"] = 1.05 * sensors.radius }},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			worst := comparison{"", 1}
			for _, c := range on(t, wrong.ice, wrong.change) {
				if c.p < worst.p {
					worst = c
				}
			}
			if t.Logf("%s: p = %.2g", worst.name, worst.p); worst.p >= least {
				t.Errorf("a kernel with %s passes: %s has p = %.2g", wrong.name, worst.name, worst.p)
			}
		})
	}
}

// TestCardIsNotThere: what cannot be used is said, with what there is.
func TestCardIsNotThere(t *testing.T) {
	needCard(t)
	ice, light, sensors := newMedium(), newSpectrum(), newArray(comparedOversize)
	steps := []Step{{DZ: 1, Length: 1, Count: 10}}
	for card, want := range map[string]string{
		"OCL-9.0": "no device of OpenCL is card OCL-9.0; there are: OCL-0.0 ",
		"GPU-00000000-1111-2222-3333-444444444444": "no device of OpenCL is card GPU-00000000",
	} {
		_, _, device, err := propagateOnCard(card, kernelConstants(ice, sensors), 1, steps, light, ice, sensors)
		if err == nil && device.GPU {
			continue // this machine has a card of NVIDIA, which any such name means
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("card %s: %v, want %q", card, err, want)
		}
	}
	broken := kernelConstants(ice, sensors)
	delete(broken, "LAYERS")
	if _, _, _, err := propagateOnCard("OCL-0.0", broken, 1, steps, light, ice, sensors); err == nil || !strings.Contains(err.Error(), "LAYERS") {
		t.Errorf("a kernel that does not compile: %v, want what the compiler says", err)
	}
}

// FuzzCardReply: whatever a card answers, there is either an error, or each photon
// has one end and each hit a sensor.
func FuzzCardReply(f *testing.F) {
	reply := []byte("{\"id\": \"OCL-0.0\"}\n")
	reply, _ = binary.Append(reply, binary.NativeEndian, []any{uint64(0), uint32(1), uint32(7), uint32(2)}[0])
	for _, v := range []uint32{1, 7, 2, 3, 5 | 6<<8 | 7<<16, math.Float32bits(100), math.Float32bits(-0.5), 9} {
		reply = binary.NativeEndian.AppendUint32(reply, v)
	}
	f.Add(reply)
	f.Add(reply[:40])
	f.Add([]byte("{}\n"))
	steps := []Step{{Event: 0, Count: 4}, {Event: 1, Count: 6, First: 4}}
	f.Fuzz(func(t *testing.T, reply []byte) {
		sum := Summary{Photons: 10}
		hits, _, err := readReply(bufio.NewReader(bytes.NewReader(reply)), steps, &sum)
		if err != nil {
			return
		}
		if sum.Hits+sum.Absorbed+sum.Escaped != 10 || int64(len(hits)) != sum.Hits {
			t.Errorf("%+v with %d hits, want 10 ends", sum, len(hits))
		}
		for _, h := range hits {
			if h.Photon > 9 || h.String >= stringCount || h.Sensor >= sensorsPerString || h.Bin >= bins || h.Event != steps[h.Photon/4].Event && h.Photon < 8 {
				t.Errorf("hit %+v", h)
			}
		}
	})
}
