package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"

	"floe/docs/examples/sky/fits"
)

// A Source is one known source, positions in degrees.
type Source struct {
	Name        string
	Lon, Lat    float64 // Galactic
	Radius      float64 // of an extended source, 0 for a point
	Class       string
	Publication string // that names it
}

// sourceColumns is the header line of a list of sources; lines beginning with
// # are comments. ra and dec are J2000.
var sourceColumns = []string{"name", "ra", "dec", "radius", "class", "publication"}

// readSources reads a list of known sources.
func readSources(name string) ([]Source, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows := csv.NewReader(file)
	rows.Comment = '#'
	header, err := rows.Read()
	if err != nil || !slices.Equal(header, sourceColumns) {
		return nil, fmt.Errorf("%s: columns %q, want %q", name, header, sourceColumns)
	}
	var out []Source
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s := Source{Name: row[0], Class: row[4], Publication: row[5]}
		var ra, dec float64
		for i, to := range []*float64{&ra, &dec, &s.Radius} {
			if *to, err = strconv.ParseFloat(row[i+1], 64); err != nil {
				line, _ := rows.FieldPos(i + 1)
				return nil, fmt.Errorf("%s:%d: %q is not a number", name, line, row[i+1])
			}
		}
		s.Lon, s.Lat = galactic(ra, dec)
		out = append(out, s)
	}
}

// galactic turns right ascension and declination (J2000) into Galactic
// longitude, within [-180, 180], and latitude.
// Source: the pole and the node of Blaauw et al., MNRAS 121 (1960) 123, as the
// Hipparcos catalogue carries them to J2000.
func galactic(ra, dec float64) (lon, lat float64) {
	const poleRA, poleDec, celestialPoleLon = 192.85948, 27.12825, 122.93192
	const rad = math.Pi / 180
	sp, cp := math.Sincos(poleDec * rad)
	sd, cd := math.Sincos(dec * rad)
	sa, ca := math.Sincos((ra - poleRA) * rad)
	x, y := cp*sd-sp*cd*ca, cd*sa
	lon = celestialPoleLon - math.Atan2(y, x)/rad
	return math.Remainder(lon, 360), math.Atan2(sp*sd+cp*cd*ca, math.Hypot(x, y)) / rad
}

// matching returns the source a spot belongs to: the nearest one within
// matchRadius; else the nearest extended one that covers it; else, with match
// empty, the nearest of all.
func matching(sources []Source, lon, lat float64) (best Source, separation float64, match string) {
	separation = math.Inf(1)
	covered := math.Inf(1)
	var cover Source
	for _, s := range sources {
		d := fits.Separation(lon, lat, s.Lon, s.Lat)
		if d < separation {
			best, separation = s, d
		}
		if d <= s.Radius && d < covered {
			cover, covered = s, d
		}
	}
	switch {
	case separation <= matchRadius:
		return best, separation, "source"
	case !math.IsInf(covered, 1):
		return cover, covered, "extended"
	}
	return best, separation, ""
}
