package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"

	"floe/docs/examples/sky/fits"
)

// A TrialFile is what one job of trials writes.
type TrialFile struct {
	Seed    uint64  `json:"seed"`
	DataSum uint32  `json:"datasum"` // of the map the background was made from
	Trials  []Trial `json:"trials"`
}

// A Trial is the outcome of one map drawn from the background.
type Trial struct {
	MaxTS  float64 `json:"max_ts"`
	Counts int     `json:"counts"`
	// Over counts the spots with TS of at least 9, 16 and 25.
	Over [3]int `json:"over"`
}

// draw makes a map of Poisson counts about a template.
func draw(random *rand.Rand, template []float64, width int) *fits.Image {
	m := &fits.Image{Width: width, Height: len(template) / width, Pixels: make([]float64, len(template))}
	for i, mean := range template {
		m.Pixels[i] = float64(poisson(random, mean))
	}
	return m
}

// poisson multiplies uniforms (Knuth); the means here are at most a few counts.
func poisson(random *rand.Rand, mean float64) (n int) {
	limit := math.Exp(-mean)
	for p := random.Float64(); p > limit; p *= random.Float64() {
		n++
	}
	return n
}

// trials runs count trials from one seed; each has a generator of its own.
func trials(seed uint64, count int, template []float64, width int, degrees float64) []Trial {
	out := make([]Trial, count)
	for i := range out {
		m := draw(rand.New(rand.NewPCG(seed, uint64(i))), template, width)
		for _, value := range m.Pixels {
			out[i].Counts += int(value)
		}
		_, ts := background(m, degrees, 9)
		for _, spot := range ts.spots(9, degrees) {
			out[i].MaxTS = math.Max(out[i].MaxTS, round(spot.TS))
			for k, least := range []float64{9, 16, 25} {
				if spot.TS >= least {
					out[i].Over[k]++
				}
			}
		}
	}
	return out
}

// round keeps four decimals, enough for a TS and short in a file.
func round(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// writeJSON writes v indented, with a newline at the end.
func writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}
