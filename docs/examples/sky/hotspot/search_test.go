package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"floe/docs/examples/sky/fits"
)

const (
	mapFile     = "../data/fermi_counts.fits.gz"
	sourcesFile = "../data/sources.csv"
)

func openMap(t *testing.T) *field {
	t.Helper()
	f, err := open(mapFile, 24803)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TS by Newton agrees with a plain scan of the likelihood, and the bound that
// search prunes by holds.
func TestLikelihood(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var near []term
		counts := 0.0
		for range 1 + random.IntN(20) {
			near = append(near, term{float64(1 + random.IntN(3)), random.Float64() * 0.5})
			counts += near[len(near)-1].counts
		}
		inside, slope := 0.3+0.7*random.Float64(), 0.0
		at := func(s float64) float64 {
			value := -s * inside
			for _, n := range near {
				value += n.counts * math.Log1p(s*n.ratio)
			}
			return 2 * value
		}
		for _, n := range near {
			slope += n.counts * n.ratio
		}
		if slope -= inside; slope <= 0 {
			continue
		}
		want := 0.0
		for s := 0.0; s <= counts/inside; s += counts / inside / 5000 {
			want = math.Max(want, at(s))
		}
		got := likelihood(near, inside)
		if math.Abs(got-want) > 1e-3*(1+want) {
			t.Errorf("likelihood = %g, scan %g", got, want)
		}
		if bound := slope * counts / inside; got > bound*(1+1e-9) {
			t.Errorf("likelihood = %g above its bound %g", got, bound)
		}
	}
}

// An injected source of 25 photons on a background map is the highest spot and
// lies within 0.1° of where it was put.
func TestInjectedSource(t *testing.T) {
	f := openMap(t)
	template, _ := background(f.image, f.degrees, maskTS)
	random := rand.New(rand.NewPCG(5, 5))
	for i, at := range [][2]float64{{-5.3, 4.2}, {9.1, -3.3}, {2.4, 7.7}} {
		m := draw(random, template, f.image.Width)
		cx, cy, _ := f.wcs.At(at[0], at[1])
		for range 25 {
			radius := psfSigma * math.Sqrt(-2*math.Log(1-random.Float64())) / f.degrees
			sin, cos := math.Sincos(2 * math.Pi * random.Float64())
			x, y := int(math.Round(cx+radius*cos)), int(math.Round(cy+radius*sin))
			m.Pixels[y*m.Width+x]++
		}
		_, ts := background(m, f.degrees, 9)
		best := ts.spots(9, f.degrees)[0]
		lon, lat := f.wcs.Sky(best.X, best.Y)
		if d := fits.Separation(lon, lat, at[0], at[1]); d > 0.1 || best.TS < 25 {
			t.Errorf("source %d at (%g, %g): highest spot at (%.2f, %.2f), TS %.1f, off by %.2f°", i, at[0], at[1], lon, lat, best.TS, d)
		}
	}
}

// The template keeps the number of counts outside sources, and pruning changes
// no TS above the floor.
func TestBackground(t *testing.T) {
	f := openMap(t)
	template, pruned := background(f.image, f.degrees, maskTS)
	whole := newPSF(f.degrees).search(f.image, template, 0)
	for i, value := range whole.values {
		if value >= maskTS && math.Abs(value-pruned.values[i]) > 1e-9 {
			t.Fatalf("pixel %d: TS %g with pruning, %g without", i, pruned.values[i], value)
		}
	}
	var sum float64
	for _, mean := range template {
		sum += mean
	}
	if sum > 24803 || sum < 0.88*24803 {
		t.Errorf("template sums to %.0f, want a little less than the 24803 counts", sum)
	}
}

// The three sources of the field that are known as its brightest above 10 GeV
// are its three hottest spots, each within 0.2°.
func TestHottestSpots(t *testing.T) {
	f := openMap(t)
	sources, err := readSources(sourcesFile)
	if err != nil {
		t.Fatal(err)
	}
	_, ts := background(f.image, f.degrees, maskTS)
	found := ts.spots(listedTS, f.degrees)
	for i, want := range []string{"PSR J1709-4429", "Sgr A*", "PSR J1809-2332"} {
		lon, lat := f.wcs.Sky(found[i].X, found[i].Y)
		source, separation, match := matching(sources, lon, lat)
		if source.Name != want || match != "source" {
			t.Errorf("spot %d at (%.2f, %.2f): %s at %.2f°, want %s", i+1, lon, lat, source.Name, separation, want)
		}
	}
}

// Every listed source is on the map, where its own name puts it if that is a
// position, and says which publication names it.
func TestSources(t *testing.T) {
	sources, err := readSources(sourcesFile)
	if err != nil {
		t.Fatal(err)
	}
	equatorial := regexp.MustCompile(`J(\d\d)(\d\d)-(\d\d)(\d\d?)`)
	plane := regexp.MustCompile(`^G(\d+\.\d)([+-]\d+\.\d)`)
	number := func(text string) float64 {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	seen, named := map[string]bool{}, 0
	for _, s := range sources {
		if seen[s.Name] || s.Class == "" || s.Publication == "" || math.Abs(s.Lon) > 20 || math.Abs(s.Lat) > 10 {
			t.Errorf("%+v: listed twice, off the map, or without class or publication", s)
		}
		seen[s.Name] = true
		// A name has whole minutes of right ascension, minutes or tenths of a
		// degree of declination, and may be older than the position.
		var lon, lat, tolerance float64
		if m := equatorial.FindStringSubmatch(s.Name); m != nil {
			unit := 60.0
			if len(m[4]) == 1 {
				unit = 10
			}
			lon, lat = galactic(15*(number(m[1])+(number(m[2])+0.5)/60), -number(m[3])-(number(m[4])+0.5)/unit)
			tolerance = 0.3
		} else if m := plane.FindStringSubmatch(s.Name); m != nil {
			lon, lat, tolerance = number(m[1]), number(m[2]), 0.1
		} else {
			continue
		}
		named++
		if d := fits.Separation(lon, lat, s.Lon, s.Lat); d > tolerance {
			t.Errorf("%s lies %.2f° from where its name puts it", s.Name, d)
		}
	}
	if named < 15 {
		t.Errorf("%d names tell a position, want at least 15 for the test to mean anything", named)
	}
}

// Galactic coordinates of the pole, the centre and Sgr A*, as published.
func TestGalactic(t *testing.T) {
	for _, c := range []struct{ ra, dec, lon, lat float64 }{
		{192.85948, 27.12825, 0, 90}, {266.40510, -28.93617, 0, 0}, {266.41684, -29.00781, -0.0558, -0.0462},
	} {
		if lon, lat := galactic(c.ra, c.dec); fits.Separation(lon, lat, c.lon, c.lat) > 1e-3 {
			t.Errorf("galactic(%g, %g) = %.4f, %.4f, want %g, %g", c.ra, c.dec, lon, lat, c.lon, c.lat)
		}
	}
}

// A list of sources with a mistake is refused with file and line.
func TestSourcesRefused(t *testing.T) {
	head := strings.Join(sourceColumns, ",") + "\n"
	for _, c := range []struct{ content, want string }{
		{"", "columns"}, {"name,l,b\n", "columns"}, {head + "a,1,x,0,c,p\n", ":2: \"x\" is not a number"}, {head + "a,1\n", "wrong number of fields"},
	} {
		file := filepath.Join(t.TempDir(), "sources.csv")
		if err := os.WriteFile(file, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readSources(file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("readSources(%q): %v, want %q in it", c.content, err, c.want)
		}
	}
}

// The whole analysis by its command lines, small: the same seed gives the same
// bytes, a merge counts and matches, and refuses what it must.
func TestTrialsAndMerge(t *testing.T) {
	t.Setenv("FLOE_STATISTICS", filepath.Join(t.TempDir(), "statistics.json"))
	folder := t.TempDir()
	trial := func(seed int, name string) []byte {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := run([]string{"trial", "-map", mapFile, "-datasum", "24803", "-seed", fmt.Sprint(seed), "-trials", "1", "-output", file}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first, again, other := trial(1, "trial-000000.json"), trial(1, "again.json"), trial(2, "trial-000001.json")
	if string(first) != string(again) {
		t.Error("two runs with one seed differ")
	}
	if string(first) == string(other) {
		t.Error("two seeds give one file")
	}
	merge := func(arguments ...string) error {
		return run(append([]string{
			"merge", "-map", mapFile, "-sources", sourcesFile, "-trials", folder,
			"-report", filepath.Join(folder, "report.json"), "-figure", filepath.Join(folder, "figure.svg"),
		}, arguments...))
	}
	if err := merge("-expect", "3"); err == nil || !strings.Contains(err.Error(), "2 trial files") {
		t.Errorf("merge with a file missing: %v", err)
	}
	if err := merge("-datasum", "265181"); err == nil || !strings.Contains(err.Error(), "24803") {
		t.Errorf("merge of a map with another data sum: %v", err)
	}
	if err := merge("-expect", "2"); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(folder, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(content, &report); err != nil {
		t.Fatal(err)
	}
	if report.Trials.Number != 2 || report.Map.Counts != 24803 || report.Map.DataCheck != fits.Differs {
		t.Errorf("report: %d trials, %d counts, DATASUM %s; want 2, 24803, differs", report.Trials.Number, report.Map.Counts, report.Map.DataCheck)
	}
	// Two trials cannot show a probability below 1/3, so nothing is significant.
	if report.Exceeding != 0 || report.Spots[0].PostTrial != 1.0/3 || !report.Spots[0].Limit {
		t.Errorf("report: %d spots exceed, first has p = %g; want none, 1/3 as a limit", report.Exceeding, report.Spots[0].PostTrial)
	}
	if err := os.WriteFile(filepath.Join(folder, "trial-000002.json"), first, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := merge(); err == nil || !strings.Contains(err.Error(), "same seed") {
		t.Errorf("merge of one file twice: %v", err)
	}
}

// Post-trial probabilities count trials at least as high, and the threshold is
// the least TS below 1 %.
func TestPostTrial(t *testing.T) {
	var maxima []float64
	for i := range 399 {
		maxima = append(maxima, float64(i))
	}
	for _, c := range []struct{ ts, want float64 }{{-1, 1}, {0, 1}, {398, 2.0 / 400}, {398.5, 1.0 / 400}, {396, 4.0 / 400}} {
		if got := postTrial(maxima, c.ts); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("postTrial(%g) = %g, want %g", c.ts, got, c.want)
		}
	}
	if r := distribution(maxima, 1); r.Threshold != 396 {
		t.Errorf("threshold = %g, want 396", r.Threshold)
	}
}
