package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"

	"floe/docs/examples/sky/fits"
)

const (
	// significance is the post-trial probability below which a spot counts.
	significance = 0.01
	// matchRadius is how near, in degrees, a spot must be to a source.
	matchRadius = 0.2
	// listedTS is the TS from which spots are listed, significant or not.
	listedTS = 16.0
)

// A Report is the outcome of the search.
type Report struct {
	Map       MapReport    `json:"map"`
	Trials    TrialsReport `json:"trials"`
	Spots     []SpotReport `json:"spots"`
	Exceeding int          `json:"exceeding"` // spots at or above the threshold
	Matched   int          `json:"matched"`   // of these, within 0.2° of a source
	Extended  int          `json:"extended"`  // of the rest, inside an extended source
	Unmatched int          `json:"unmatched"`
	// SourcesInField and SourcesFound count the listed sources on the map
	// and those that some exceeding spot is matched to.
	SourcesInField int `json:"sources_in_field"`
	SourcesFound   int `json:"sources_found"`
	// OffsetLon and OffsetLat are the mean of spot minus source over matches
	// to point sources, in degrees.
	OffsetLon float64 `json:"offset_lon"`
	OffsetLat float64 `json:"offset_lat"`
}

// A MapReport says what was searched and whether it is what it says it is.
type MapReport struct {
	Width       int          `json:"width"`
	Height      int          `json:"height"`
	Counts      int          `json:"counts"`
	Background  float64      `json:"background"` // sum of the template
	DataSum     uint32       `json:"datasum"`
	DataSumCard string       `json:"datasum_card"`
	DataCheck   fits.Verdict `json:"datasum_verdict"`
	HDUCheck    fits.Verdict `json:"checksum_verdict"`
}

// A TrialsReport is the distribution of the highest TS of background maps.
type TrialsReport struct {
	Files  int     `json:"files"`
	Number int     `json:"number"`
	Median float64 `json:"median_max_ts"`
	Max    float64 `json:"max_ts"`
	// Threshold is the TS that fewer than 1 % of the trials reach.
	Threshold float64 `json:"threshold_ts"`
	// Location and Scale are of a Gumbel distribution of the same mean and
	// variance; it serves only to extrapolate.
	Location float64 `json:"gumbel_location"`
	Scale    float64 `json:"gumbel_scale"`
}

// A SpotReport is one spot.
type SpotReport struct {
	Rank int     `json:"rank"`
	Lon  float64 `json:"lon"`
	Lat  float64 `json:"lat"`
	TS   float64 `json:"ts"`
	// PostTrial is (1+k)/(1+n) with k of n trials as high: with k = 0 an upper
	// limit, marked so. Extrapolated is the Gumbel distribution's, in log10.
	PostTrial    float64 `json:"p_post_trial"`
	Limit        bool    `json:"p_is_limit"`
	Extrapolated float64 `json:"log10_p_extrapolated"`
	Source       string  `json:"nearest_source"`
	Class        string  `json:"class"`
	Separation   float64 `json:"separation_deg"`
	Match        string  `json:"match"` // "source", "extended" or ""
	significant  bool
}

func runMerge(name string, dataSum uint32, sourcesName, folder string, expect int, reportName, figureName string) error {
	f, err := open(name, dataSum)
	if err != nil {
		return err
	}
	sources, err := readSources(sourcesName)
	if err != nil {
		return err
	}
	maxima, files, err := readTrials(folder, f.dataSum)
	if err != nil {
		return err
	}
	if expect != 0 && files != expect {
		return fmt.Errorf("%d trial files in %s, want %d", files, folder, expect)
	}
	template, ts := background(f.image, f.degrees, 0)
	report := &Report{Map: f.report(template), Trials: distribution(maxima, files)}
	report.judge(f, ts, maxima, sources)
	if err := writeJSON(reportName, report); err != nil {
		return err
	}
	if err := os.WriteFile(figureName, figure(f, ts, report), 0o644); err != nil {
		return err
	}
	stale := 0.0
	if report.Map.DataCheck == fits.Differs {
		stale = 1
	}
	return statistics(map[string]float64{
		"trials": float64(len(maxima)), "threshold_ts": report.Trials.Threshold,
		"spots": float64(report.Exceeding), "matched": float64(report.Matched),
		"extended": float64(report.Extended), "unmatched": float64(report.Unmatched),
		"fits_datasum_stale": stale,
	})
}

func (f *field) report(template []float64) MapReport {
	r := MapReport{
		Width: f.image.Width, Height: f.image.Height, DataSum: f.dataSum,
		DataSumCard: f.dataSumCard, DataCheck: f.dataCheck, HDUCheck: f.hduCheck,
	}
	for i, value := range f.image.Pixels {
		r.Counts += int(value)
		r.Background += template[i]
	}
	r.Background = round(r.Background)
	return r
}

// readTrials gathers the highest TS of every trial in the folder. Two files of
// one seed are one file twice, and refused; so are trials of another map.
func readTrials(folder string, dataSum uint32) (maxima []float64, files int, err error) {
	names, err := filepath.Glob(filepath.Join(folder, "trial-*.json"))
	if err != nil {
		return nil, 0, err
	}
	sort.Strings(names)
	seeds := map[uint64]string{}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, 0, err
		}
		var file TrialFile
		if err := json.Unmarshal(content, &file); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", name, err)
		}
		if file.DataSum != dataSum {
			return nil, 0, fmt.Errorf("%s: trials of a map with data sum %d, want %d", name, file.DataSum, dataSum)
		}
		if other, again := seeds[file.Seed]; again {
			return nil, 0, fmt.Errorf("%s and %s have the same seed %d", other, name, file.Seed)
		}
		seeds[file.Seed] = name
		for _, trial := range file.Trials {
			maxima = append(maxima, trial.MaxTS)
		}
	}
	if len(maxima) == 0 {
		return nil, 0, fmt.Errorf("no trials in %s; its files are to be named trial-*.json", folder)
	}
	sort.Float64s(maxima)
	return maxima, len(names), nil
}

// distribution summarises sorted maxima.
func distribution(maxima []float64, files int) TrialsReport {
	n := len(maxima)
	r := TrialsReport{Files: files, Number: n, Median: maxima[n/2], Max: maxima[n-1]}
	var mean, square float64
	for _, ts := range maxima {
		mean += ts / float64(n)
	}
	for _, ts := range maxima {
		square += (ts - mean) * (ts - mean) / float64(max(n-1, 1))
	}
	const euler = 0.5772156649015329
	r.Scale = round(math.Sqrt(6*square) / math.Pi)
	r.Location = round(mean - euler*r.Scale)
	// The least TS with (1+k)/(1+n) at or below the significance; above the
	// highest trial if there are too few of them.
	r.Threshold = math.Nextafter(r.Max, math.Inf(1))
	for i := n - 1; i >= 0 && postTrial(maxima, maxima[i]) <= significance; i-- {
		r.Threshold = maxima[i]
	}
	return r
}

// postTrial is the probability that a background map has a spot as high.
func postTrial(sorted []float64, ts float64) float64 {
	k := len(sorted) - sort.SearchFloat64s(sorted, ts)
	return float64(1+k) / float64(1+len(sorted))
}

// judge fills in the spots and how they compare with the known sources.
func (r *Report) judge(f *field, ts *tsMap, maxima []float64, sources []Source) {
	found := map[string]bool{}
	var points float64
	for i, s := range ts.spots(listedTS, f.degrees) {
		lon, lat := f.wcs.Sky(s.X, s.Y)
		p := postTrial(maxima, s.TS)
		spot := SpotReport{
			Rank: i + 1, Lon: round(lon), Lat: round(lat), TS: round(s.TS), PostTrial: p,
			Limit: s.TS > maxima[len(maxima)-1], significant: p <= significance,
		}
		// 1 - exp(-exp(-x)) is exp(-x) far out, where its logarithm is -x.
		if x := (s.TS - r.Trials.Location) / math.Max(r.Trials.Scale, 1e-9); x > 30 {
			spot.Extrapolated = round(-x / math.Ln10)
		} else {
			spot.Extrapolated = round(math.Log10(-math.Expm1(-math.Exp(-x))))
		}
		source, separation, match := matching(sources, lon, lat)
		spot.Source, spot.Class = source.Name, source.Class
		spot.Separation, spot.Match = round(separation), match
		if spot.significant {
			r.Exceeding++
			switch match {
			case "source":
				r.Matched++
				if source.Radius == 0 {
					points++
					r.OffsetLon += lon - source.Lon
					r.OffsetLat += lat - source.Lat
				}
				found[source.Name] = true
			case "extended":
				r.Extended++
				found[source.Name] = true
			default:
				r.Unmatched++
			}
		}
		r.Spots = append(r.Spots, spot)
	}
	r.OffsetLon, r.OffsetLat = round(r.OffsetLon/math.Max(points, 1)), round(r.OffsetLat/math.Max(points, 1))
	r.SourcesFound = len(found)
	for _, source := range sources {
		x, y, ok := f.wcs.At(source.Lon, source.Lat)
		if ok && x >= -0.5 && y >= -0.5 && x < float64(f.image.Width)-0.5 && y < float64(f.image.Height)-0.5 {
			r.SourcesInField++
		}
	}
}
