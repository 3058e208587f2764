package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"math"
	"strings"
)

// The picture is an SVG on a ground of its own, so that it reads the same on
// light and dark pages: the map of √TS as an embedded PNG, the spots as numbered
// circles, and a table of them below.
const (
	figureScale  = 2.4 // SVG units per pixel of the map
	figureLeft   = 58.0
	figureTop    = 52.0
	figureRight  = 96.0
	figureRow    = 20.0
	figureCeil   = 6.0 // √TS of the last colour
	figureFamily = "font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\""
)

// shades is the colour scale from no excess to figureCeil and more.
var shades = []color.RGBA{
	{0xf7, 0xf8, 0xfa, 255},
	{0xd9, 0xe3, 0xee, 255},
	{0x9f, 0xbd, 0xd9, 255},
	{0x5b, 0x90, 0xc0, 255},
	{0x2a, 0x62, 0x9b, 255},
	{0x14, 0x3a, 0x66, 255},
	{0x07, 0x18, 0x33, 255},
}

// shade interpolates the colour scale.
func shade(value float64) color.RGBA {
	at := math.Min(math.Max(value/figureCeil, 0), 1) * float64(len(shades)-1)
	low := min(int(at), len(shades)-2)
	part := at - float64(low)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + part*(float64(b)-float64(a)))) }
	a, b := shades[low], shades[low+1]
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// raster is the map of √TS, its first row at the bottom.
func raster(ts *tsMap) string {
	picture := image.NewRGBA(image.Rect(0, 0, ts.width, ts.height))
	for i, value := range ts.values {
		picture.SetRGBA(i%ts.width, ts.height-1-i/ts.width, shade(math.Sqrt(value)))
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		panic("encode a picture into memory: " + err.Error())
	}
	return base64.StdEncoding.EncodeToString(out.Bytes())
}

// figure draws the report.
func figure(f *field, ts *tsMap, r *Report) []byte {
	width, height := figureScale*float64(ts.width), figureScale*float64(ts.height)
	below := figureTop + height + 74
	whole, tall := figureLeft+width+figureRight, below+figureRow*float64(len(r.Spots)+1)+22
	place := func(lon, lat float64) (float64, float64) {
		x, y, _ := f.wcs.At(lon, lat)
		return figureLeft + figureScale*(x+0.5), figureTop + height - figureScale*(y+0.5)
	}
	var out strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&out, format+"\n", a...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" %s font-size="13" fill="#1d232b">`, whole, tall, figureFamily)
	p(`<title>Hot spots of the Fermi-LAT counts map above 10 GeV</title>`)
	p(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	p(`<text x="%.0f" y="30" font-size="17">Fermi-LAT above 10 GeV: %d hot spots at or above TS %.1f (post-trial p ≤ %g, %d trials)</text>`,
		figureLeft, r.Exceeding, r.Trials.Threshold, significance, r.Trials.Number)
	p(`<image x="%.1f" y="%.1f" width="%.1f" height="%.1f" style="image-rendering:pixelated" href="data:image/png;base64,%s"/>`,
		figureLeft, figureTop, width, height, raster(ts))
	p(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="none" stroke="#5c6672"/>`, figureLeft, figureTop, width, height)
	for lon := -20; lon <= 20; lon += 5 {
		x, _ := place(float64(lon), 0)
		p(`<path d="M%.1f %.1fv6" stroke="#5c6672"/><text x="%.1f" y="%.1f" text-anchor="middle">%d°</text>`,
			x, figureTop+height, x, figureTop+height+22, (lon+360)%360)
	}
	for lat := -10; lat <= 10; lat += 5 {
		_, y := place(0, float64(lat))
		p(`<path d="M%.1f %.1fh-6" stroke="#5c6672"/><text x="%.1f" y="%.1f" text-anchor="end">%d°</text>`,
			figureLeft, y, figureLeft-10, y+4, lat)
	}
	p(`<text x="%.1f" y="%.1f" text-anchor="middle">Galactic longitude</text>`, figureLeft+width/2, figureTop+height+44)
	p(`<text transform="translate(15 %.1f) rotate(-90)" text-anchor="middle">Galactic latitude</text>`, figureTop+height/2)
	const steps = 60
	bar := figureLeft + width + 22
	for i := range steps {
		from := figureTop + height*(1-float64(i+1)/steps)
		c := shade(figureCeil * (float64(i) + 0.5) / steps)
		p(`<rect x="%.1f" y="%.2f" width="16" height="%.2f" fill="#%02x%02x%02x"/>`, bar, from, height/steps+0.5, c.R, c.G, c.B)
	}
	for value := 0; value <= int(figureCeil); value += 2 {
		label := fmt.Sprint(value)
		if value == int(figureCeil) {
			label = "≥ " + label
		}
		p(`<text x="%.1f" y="%.1f">%s</text>`, bar+22, figureTop+height*(1-float64(value)/figureCeil)+5, label)
	}
	p(`<text x="%.1f" y="%.1f" text-anchor="middle">√TS</text>`, bar+8, figureTop-10)
	out.WriteString(figureSpots(r, place))
	columns := []float64{0, 44, 120, 196, 262, 382, 568, 790}
	head := []string{"spot", "l", "b", "TS", "post-trial p", "nearest known source", "class", "separation"}
	row := func(y float64, style string, cells []string) {
		for i, cell := range cells {
			p(`<text x="%.1f" y="%.1f"%s>%s</text>`, figureLeft+columns[i], y, style, html.EscapeString(cell))
		}
	}
	row(below, ` font-weight="bold"`, head)
	for i, s := range r.Spots {
		style, chance := "", fmt.Sprintf("%.2g", s.PostTrial)
		if s.Limit {
			chance = "< " + chance
		}
		if !s.significant {
			style = ` fill="#6d7783"`
		}
		where := fmt.Sprintf("%.2f°", s.Separation)
		switch s.Match {
		case "extended":
			where += ", inside its extent"
		case "":
			where += ", unmatched"
		}
		row(below+figureRow*float64(i+1), style, []string{
			fmt.Sprint(s.Rank), fmt.Sprintf("%.2f°", math.Mod(s.Lon+360, 360)), fmt.Sprintf("%.2f°", s.Lat),
			fmt.Sprintf("%.1f", s.TS), chance, s.Source, s.Class, where,
		})
	}
	p(`</svg>`)
	return []byte(out.String())
}

// figureSpots draws the circles: solid for a match, dashed for none, grey where
// the spot is not significant. Numbers stand clear of other circles.
func figureSpots(r *Report, place func(lon, lat float64) (float64, float64)) string {
	var out strings.Builder
	const radius = 8.0
	type point struct{ x, y float64 }
	var taken []point
	for _, s := range r.Spots {
		x, y := place(s.Lon, s.Lat)
		taken = append(taken, point{x, y})
	}
	for i, s := range r.Spots {
		x, y := taken[i].x, taken[i].y
		stroke, dash := "#d9480f", ""
		if !s.significant {
			stroke = "#868e96"
		}
		if s.Match == "" {
			dash = ` stroke-dasharray="4 3"`
		}
		fmt.Fprintf(&out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.0f\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", x, y, radius, stroke, dash)
		best, room := point{x, y}, -1.0
		for k := range 8 {
			sin, cos := math.Sincos(float64(k) * math.Pi / 4)
			at := point{x + 18*cos, y + 18*sin}
			nearest := math.Inf(1)
			for j, other := range taken {
				if j != i {
					nearest = math.Min(nearest, math.Hypot(at.x-other.x, at.y-other.y))
				}
			}
			if nearest = math.Min(nearest, 30); nearest > room {
				best, room = at, nearest
			}
		}
		taken = append(taken, best)
		fmt.Fprintf(&out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"13\" font-weight=\"bold\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">%d</text>\n", best.x, best.y+4.5, s.Rank)
	}
	return out.String()
}
