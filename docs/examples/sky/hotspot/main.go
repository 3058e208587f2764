package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"floe/docs/examples/sky/fits"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hotspot:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("usage: hotspot trial|merge FLAGS")
	}
	flags := flag.NewFlagSet("hotspot "+arguments[0], flag.ContinueOnError)
	name := flags.String("map", "", "counts map, FITS, may be gzipped")
	dataSum := flags.Uint64("datasum", 0, "sum the map's data must have, 0 for any")
	switch arguments[0] {
	case "trial":
		seed := flags.Uint64("seed", 0, "seed, unique over jobs and datasets")
		count := flags.Int("trials", 5, "how many trials")
		output := flags.String("output", "trial.json", "file to write")
		if err := flags.Parse(arguments[1:]); err != nil {
			return err
		}
		return runTrials(*name, uint32(*dataSum), *seed, *count, *output)
	case "merge":
		sources := flags.String("sources", "", "known sources to match, CSV")
		folder := flags.String("trials", ".", "folder with the trial files")
		expect := flags.Int("expect", 0, "how many trial files there must be")
		report := flags.String("report", "report.json", "report to write")
		figure := flags.String("figure", "significance.svg", "picture to write")
		if err := flags.Parse(arguments[1:]); err != nil {
			return err
		}
		return runMerge(*name, uint32(*dataSum), *sources, *folder, *expect, *report, *figure)
	}
	return fmt.Errorf("unknown command %q; there are trial and merge", arguments[0])
}

// A field is the map with its coordinates and the verdict on its checksums.
type field struct {
	image               *fits.Image
	wcs                 *fits.WCS
	degrees             float64 // per pixel, the same on both axes
	dataSum             uint32
	dataSumCard         string
	dataCheck, hduCheck fits.Verdict
}

// open reads the first two-dimensional image of a map and verifies it.
func open(name string, dataSum uint32) (*field, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if content, err = io.ReadAll(io.LimitReader(unzipped, fits.MaxSize)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	hdus, err := fits.Read(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i := range hdus {
		unit := &hdus[i]
		if unit.Header["NAXIS"] != "2" {
			continue
		}
		f := &field{dataSum: unit.DataSum(), dataSumCard: unit.Header.Text("DATASUM")}
		f.dataCheck, f.hduCheck = unit.Verify()
		if dataSum != 0 && f.dataSum != dataSum {
			return nil, fmt.Errorf("%s: the data sum to %d, want %d; fetch the map again", name, f.dataSum, dataSum)
		}
		if f.image, err = unit.Image(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if f.wcs, err = unit.Header.WCS(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f.degrees = f.wcs.Degrees[1]
		if f.degrees <= 0 || f.wcs.Degrees[0] != -f.degrees {
			return nil, fmt.Errorf("%s: pixels of %g × %g degrees; want square ones", name, f.wcs.Degrees[0], f.wcs.Degrees[1])
		}
		return f, nil
	}
	return nil, fmt.Errorf("%s: no image in it", name)
}

func runTrials(name string, dataSum uint32, seed uint64, count int, output string) error {
	f, err := open(name, dataSum)
	if err != nil {
		return err
	}
	template, _ := background(f.image, f.degrees, maskTS)
	file := TrialFile{Seed: seed, DataSum: f.dataSum, Trials: trials(seed, count, template, f.image.Width, f.degrees)}
	if err := writeJSON(output, file); err != nil {
		return err
	}
	stats := map[string]float64{"trials": float64(count), "max_ts": 0, "spots_ts16": 0}
	for _, trial := range file.Trials {
		stats["max_ts"] = max(stats["max_ts"], trial.MaxTS)
		stats["spots_ts16"] += float64(trial.Over[1])
	}
	return statistics(stats)
}

// statistics hands a module's statistics to floe, or prints them.
func statistics(values map[string]float64) error {
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	if name := os.Getenv("FLOE_STATISTICS"); name != "" {
		return os.WriteFile(name, append(text, '\n'), 0o644)
	}
	_, err = fmt.Println(string(text))
	return err
}
