package fits

import (
	"fmt"
	"math"
	"strings"
)

// A WCS ties pixels to celestial coordinates (Calabretta and Greisen, A&A 395
// (2002) 1077) without rotation or skew. Pixels count from 0 here, so that pixel
// (0, 0) is FITS pixel (1, 1). Longitudes run in [-180, 180).
type WCS struct {
	Projection     string // "CAR" or "TAN"
	Pixel          [2]float64
	Value, Degrees [2]float64 // sky there, and degrees per pixel
	Names          [2]string  // "GLON" and "GLAT", "RA" and "DEC"
}

// WCS reads the header's celestial coordinates.
func (h Header) WCS() (*WCS, error) {
	w := &WCS{}
	for i, axis := range []string{"1", "2"} {
		kind := h.Text("CTYPE" + axis)
		name, projection, ok := strings.Cut(kind, "-")
		projection = strings.TrimLeft(projection, "-")
		if !ok || (projection != "CAR" && projection != "TAN") || (i == 1 && projection != w.Projection) {
			return nil, fmt.Errorf("%w: CTYPE%s is %q; projections CAR and TAN are read", ErrFormat, axis, kind)
		}
		w.Projection, w.Names[i] = projection, name
		if turn, err := h.Float("CROTA"+axis, 0); err != nil || turn != 0 {
			return nil, fmt.Errorf("%w: rotated axes (CROTA%s = %s)", ErrFormat, axis, h["CROTA"+axis])
		}
		for _, field := range []struct {
			key string
			to  *float64
		}{{"CRPIX", &w.Pixel[i]}, {"CRVAL", &w.Value[i]}, {"CDELT", &w.Degrees[i]}} {
			value, err := h.Float(field.key+axis, math.NaN())
			if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
				return nil, fmt.Errorf("%w: %s%s is %q", ErrFormat, field.key, axis, h[field.key+axis])
			}
			*field.to = value
		}
		w.Pixel[i]--
		if w.Degrees[i] == 0 {
			return nil, fmt.Errorf("%w: CDELT%s is 0", ErrFormat, axis)
		}
	}
	if w.Projection == "CAR" && w.Value[1] != 0 {
		return nil, fmt.Errorf("%w: CAR about latitude %g; only about the equator", ErrFormat, w.Value[1])
	}
	return w, nil
}

// Sky returns the longitude and latitude in degrees of a point in pixels.
func (w *WCS) Sky(x, y float64) (lon, lat float64) {
	u, v := (x-w.Pixel[0])*w.Degrees[0], (y-w.Pixel[1])*w.Degrees[1]
	if w.Projection == "CAR" {
		return wrap(w.Value[0] + u), v
	}
	const rad = math.Pi / 180
	u, v = u*rad, v*rad
	sin, cos := math.Sincos(w.Value[1] * rad)
	lon = w.Value[0] + math.Atan2(u, cos-v*sin)/rad
	return wrap(lon), math.Atan2(sin+v*cos, math.Hypot(u, cos-v*sin)) / rad
}

// At returns the pixel of a sky position in degrees; ok is false if the
// projection cannot show it.
func (w *WCS) At(lon, lat float64) (x, y float64, ok bool) {
	const rad = math.Pi / 180
	u, v := wrap(lon-w.Value[0]), lat
	if w.Projection == "TAN" {
		sin, cos := math.Sincos(w.Value[1] * rad)
		s, c := math.Sincos(lat * rad)
		su, cu := math.Sincos(u * rad)
		toward := sin*s + cos*c*cu
		if toward <= 0 {
			return 0, 0, false
		}
		u, v = c*su/toward/rad, (cos*s-sin*c*cu)/toward/rad
	}
	return w.Pixel[0] + u/w.Degrees[0], w.Pixel[1] + v/w.Degrees[1], true
}

// Separation is the angle in degrees between two sky positions.
func Separation(lon1, lat1, lon2, lat2 float64) float64 {
	const rad = math.Pi / 180
	s1, c1 := math.Sincos(lat1 * rad)
	s2, c2 := math.Sincos(lat2 * rad)
	sd, cd := math.Sincos((lon2 - lon1) * rad)
	return math.Atan2(math.Hypot(c2*sd, c1*s2-s1*c2*cd), s1*s2+c1*c2*cd) / rad
}

// wrap brings a longitude into [-180, 180).
func wrap(degrees float64) float64 {
	degrees = math.Mod(degrees+180, 360)
	if degrees < 0 {
		degrees += 360
	}
	return degrees - 180
}
