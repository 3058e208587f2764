package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
)

// The files between the tasks are text, one record per line after a header
// line that names the columns; numbers are decimal. Muons:
//
//	event,energy_gev,x_m,y_m,z_m,dx,dy,dz,weight
//
// and hits, sorted by event (as in the muon files), string, sensor, time and
// photon number, strings and sensors counted from 1:
//
//	event,string,sensor,time_ns,wavelength_nm,cos_eta,weight
//
// A hit's weight is the mean number of photoelectrons it stands for in a sensor
// of the envelope efficiency with unit angular acceptance.
const (
	muonHeader = "event,energy_gev,x_m,y_m,z_m,dx,dy,dz,weight"
	hitHeader  = "event,string,sensor,time_ns,wavelength_nm,cos_eta,weight"
)

// readMuons reads a generator's file; events are numbered from first.
func readMuons(from io.Reader, name string, first int32) ([]Muon, error) {
	lines := bufio.NewScanner(from)
	if !lines.Scan() || lines.Text() != muonHeader {
		return nil, fmt.Errorf("%s:1: %q is not the header of a muon file", name, lines.Text())
	}
	var muons []Muon
	for number := 2; lines.Scan(); number++ {
		fields := strings.Split(lines.Text(), ",")
		if len(fields) != 9 {
			return nil, fmt.Errorf("%s:%d: %d columns, want 9", name, number, len(fields))
		}
		m := Muon{Event: first + int32(len(muons)), Name: fields[0]}
		for i, to := range []*float64{&m.Energy, &m.X, &m.Y, &m.Z, &m.DX, &m.DY, &m.DZ} {
			value, err := strconv.ParseFloat(fields[i+1], 64)
			if err != nil || math.IsNaN(value) || math.Abs(value) > 1e12 {
				return nil, fmt.Errorf("%s:%d: %q is not a usable number", name, number, fields[i+1])
			}
			*to = value
		}
		if norm := m.DX*m.DX + m.DY*m.DY + m.DZ*m.DZ; math.Abs(norm-1) > 1e-6 {
			return nil, fmt.Errorf("%s:%d: direction is not a unit vector", name, number)
		}
		muons = append(muons, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return muons, nil
}

// writeHits writes the hits of the muons.
func writeHits(to io.Writer, hits []Hit, muons []Muon) error {
	sort.Slice(hits, func(i, j int) bool {
		a, b := &hits[i], &hits[j]
		switch {
		case a.Event != b.Event:
			return a.Event < b.Event
		case a.String != b.String:
			return a.String < b.String
		case a.Sensor != b.Sensor:
			return a.Sensor < b.Sensor
		case a.Time != b.Time:
			return a.Time < b.Time
		}
		return a.Photon < b.Photon
	})
	out := bufio.NewWriter(to)
	fmt.Fprintln(out, hitHeader)
	for i := range hits {
		h := &hits[i]
		fmt.Fprintf(out, "%s,%d,%d,%.2f,%.0f,%.5f,1\n",
			muons[h.Event].Name, h.String+1, h.Sensor+1, h.Time, wavelength(int(h.Bin)), h.CosEta)
	}
	return out.Flush()
}
