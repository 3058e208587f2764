package photon

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// chain runs the example's tasks by hand.
type chain struct{ t *testing.T }

func newChain(t *testing.T) *chain {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	return &chain{t}
}

// build compiles the propagator and returns its path.
func (c *chain) build() string {
	c.t.Helper()
	program := filepath.Join(c.t.TempDir(), "photon-propagate")
	if out, err := exec.Command("go", "build", "-o", program, "./propagate").CombinedOutput(); err != nil {
		c.t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// run runs a program in folder and returns the statistics it prints.
func (c *chain) run(folder, name string, arguments ...string) map[string]float64 {
	c.t.Helper()
	here, err := os.Getwd()
	if err != nil {
		c.t.Fatal(err)
	}
	command := exec.Command(name, arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "FLOE_STATISTICS=",
		"PYTHONPATH="+filepath.Join(here, "python"))
	var errors bytes.Buffer
	command.Stderr = &errors
	out, err := command.Output()
	if err != nil {
		c.t.Fatalf("%s %v: %v\n%s", name, arguments, err, errors.String())
	}
	stats := map[string]float64{}
	if err := json.Unmarshal(out, &stats); err != nil {
		c.t.Fatalf("%s printed %q: %v", name, out, err)
	}
	return stats
}

// class runs a Python module as floe's shim would.
func (c *chain) class(folder, class string, parameters ...string) map[string]float64 {
	c.t.Helper()
	shim, err := filepath.Abs(filepath.Join("testdata", "ipmodule.py"))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.run(folder, "python3", append([]string{shim, class}, parameters...)...)
}

// job runs one small job and returns the digests of all its files.
func (c *chain) job(propagator string, seed int) map[string]string {
	c.t.Helper()
	folder := c.t.TempDir()
	number := func(task int) string { return strconv.Itoa(seed*8 + task) }
	detector, err := filepath.Abs(filepath.Join("bin", "photon-detector"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.class(folder, "photon.muons.BackgroundMuons", "seed="+number(0), "muons=1", "emin=200", "output=background.csv")
	c.class(folder, "photon.muons.SignalMuons", "seed="+number(1), "muons=2", "emin=300", "emax=1000", "output=signal.csv")
	hits := c.run(folder, propagator, "-muons", "signal.csv,background.csv", "-output", "hits.csv",
		"-seed", number(2), "-oversize", "30")
	if hits["photons"] != hits["photons_absorbed"]+hits["photons_escaped"]+hits["hits"] {
		c.t.Errorf("photons do not add up: %v", hits)
	}
	python := "python3"
	a := c.run(folder, python, detector, "a", number(3), "hits.csv", "detector-a.csv")
	b := c.class(folder, "photon.detector.DetectorB", "seed="+number(4), "hits=hits.csv", "output=detector-b.csv")
	if a["photoelectrons"] >= b["photoelectrons"] || b["photoelectrons"] > hits["hits"] {
		c.t.Errorf("photoelectrons a %v, b %v of %v hits; want a < b ≤ hits", a["photoelectrons"], b["photoelectrons"], hits["hits"])
	}
	digests := map[string]string{}
	for _, name := range []string{"background.csv", "signal.csv", "hits.csv", "detector-a.csv", "detector-b.csv"} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			c.t.Fatal(err)
		}
		digests[name] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return digests
}

// The same seed gives the same bytes in every file, another seed other muons.
func TestSameSeedSameBytes(t *testing.T) {
	c := newChain(t)
	propagator := c.build()
	first, again, other := c.job(propagator, 1), c.job(propagator, 1), c.job(propagator, 2)
	for name, digest := range first {
		if again[name] != digest {
			t.Errorf("%s differs between two runs with one seed", name)
		}
	}
	for _, name := range []string{"background.csv", "signal.csv", "hits.csv"} {
		if other[name] == first[name] {
			t.Errorf("%s is the same for two seeds", name)
		}
	}
}

// energies reads the second column of a muon file.
func energies(t *testing.T, file string) []float64 {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []float64
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n")[1:] {
		value, err := strconv.ParseFloat(strings.Split(line, ",")[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, value)
	}
	sort.Float64s(out)
	return out
}

// Signal energies follow the power law that was asked for: the Kolmogorov–
// Smirnov distance stays below the 0.1 % value, and the maximum-likelihood
// index is right within 4 standard deviations.
func TestSignalSpectrum(t *testing.T) {
	c := newChain(t)
	const n, low, high = 2500, 100.0, 1e5
	for _, gamma := range []float64{2, 2.7} {
		folder := t.TempDir()
		c.class(folder, "photon.muons.SignalMuons", "seed=77", "muons="+strconv.Itoa(n),
			"emin=100", "emax=1e5", fmt.Sprintf("gamma=%g", gamma), "output=s.csv")
		found := energies(t, filepath.Join(folder, "s.csv"))
		integral := func(e float64) float64 { return math.Pow(low, 1-gamma) - math.Pow(e, 1-gamma) }
		var distance, logs float64
		for i, e := range found {
			distance = math.Max(distance, math.Abs(integral(e)/integral(high)-(float64(i)+0.5)/n))
			logs += math.Log(e / low)
		}
		if limit := 1.95 / math.Sqrt(n); distance > limit {
			t.Errorf("gamma %g: KS distance %.4f, want below %.4f", gamma, distance, limit)
		}
		// The cut at high biases the Pareto estimator by less than its error
		// for these slopes; the error is (gamma-1)/sqrt(n).
		estimate := 1 + n/logs
		if math.Abs(estimate-gamma) > 4*(gamma-1)/math.Sqrt(n)+0.01 {
			t.Errorf("fitted index %.3f, want %g", estimate, gamma)
		}
	}
}

// Gaisser's flux under the same mean energy loss gives the measured vertical
// muon intensity: at 3 km water equivalent Menon et al. (Proc. Phys. Soc. 90
// (1967) 649) fit 9.8e-7 exp(-h/810 m) /(cm² s sr), that is 2.4e-8. Mean loss
// leaves out range fluctuations, and rock is not ice: within a third.
func TestVerticalIntensity(t *testing.T) {
	c := newChain(t)
	script := `
import json, math, sys
sys.path.insert(0, sys.argv[1])
import photon.muons as m
def intensity(h):
    low = m.needed_at_surface(1.0, h)
    steps, total = 4000, 0.0
    for i in range(steps):
        a, b = (low * (1e4 ** (float(k) / steps)) for k in (i, i + 1))
        e = math.sqrt(a * b)
        total += 0.14 * e ** -2.7 * m.gaisser(e, 1.0) * (b - a)
    return total
print(json.dumps({'i3000': intensity(3000.0), 'i1300': intensity(1300.0)}))
`
	folder := t.TempDir()
	stub, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	got := c.run(folder, "python3", "-c", script, stub)
	if want := 9.8e-7 * math.Exp(-3000.0/810); math.Abs(got["i3000"]/want-1) > 0.33 {
		t.Errorf("vertical intensity at 3 km w.e. = %.3g, want %.3g within a third", got["i3000"], want)
	}
	t.Logf("vertical intensity: 1.3 km w.e. %.3g, 3 km w.e. %.3g /(cm² s sr)", got["i1300"], got["i3000"])
}
