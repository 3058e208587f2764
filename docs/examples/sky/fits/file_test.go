package fits

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// file makes a primary HDU from cards and data.
func file(data []byte, cards ...string) []byte {
	var out bytes.Buffer
	for _, card := range append(append([]string{"SIMPLE  =                    T"}, cards...), "END") {
		fmt.Fprintf(&out, "%-80s", card)
	}
	for out.Len()%blockSize != 0 {
		out.WriteByte(' ')
	}
	out.Write(data)
	for out.Len()%blockSize != 0 {
		out.WriteByte(0)
	}
	return out.Bytes()
}

// counts opens the example's map.
func counts(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("../data/fermi_counts.fits.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Every BITPIX, with scale and offset, comes out as written.
func TestImage(t *testing.T) {
	pack := func(values ...any) []byte {
		var out bytes.Buffer
		for _, v := range values {
			if err := binary.Write(&out, binary.BigEndian, v); err != nil {
				t.Fatal(err)
			}
		}
		return out.Bytes()
	}
	for _, c := range []struct {
		bitpix int
		data   []byte
		cards  []string
		want   []float64
	}{
		{8, []byte{0, 255}, nil, []float64{0, 255}},
		{16, pack(int16(-7), int16(300)), nil, []float64{-7, 300}},
		{16, pack(int16(-32768), int16(32767)), []string{"BZERO   =                32768"}, []float64{0, 65535}},
		{32, pack(int32(-70000), int32(4)), []string{"BSCALE  = 0.5 / half"}, []float64{-35000, 2}},
		{64, pack(int64(-1), int64(1)<<40), nil, []float64{-1, 1 << 40}},
		{-32, pack(float32(1.5), float32(-2)), nil, []float64{1.5, -2}},
		{-64, pack(math.Pi, 1e300), []string{"BZERO   = 1.D0"}, []float64{math.Pi + 1, 1e300}},
	} {
		cards := append([]string{
			fmt.Sprintf("BITPIX  = %d", c.bitpix), "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 1",
		}, c.cards...)
		hdus, err := Read(bytes.NewReader(file(c.data, cards...)))
		if err != nil {
			t.Fatalf("BITPIX %d: %v", c.bitpix, err)
		}
		m, err := hdus[0].Image()
		if err != nil {
			t.Fatalf("BITPIX %d: %v", c.bitpix, err)
		}
		if diff := cmp.Diff(c.want, m.Pixels); diff != "" {
			t.Errorf("BITPIX %d: pixels (-want +got):\n%s", c.bitpix, diff)
		}
	}
}

// Cards are cut where the standard cuts them.
func TestCards(t *testing.T) {
	for _, c := range []struct{ card, want string }{
		{"'GLON-CAR'           / RA---%%%", "GLON-CAR"},
		{"'it''s / here  ' / comment", "it's / here"},
		{"   42 / answer", "42"},
		{"'open", ""},
		{"", ""},
	} {
		if got := (Header{"KEY": cardValue(c.card)}).Text("KEY"); got != c.want {
			t.Errorf("value of %q = %q, want %q", c.card, got, c.want)
		}
	}
}

// Damaged files are refused by name and never read past their end.
func TestRefusals(t *testing.T) {
	whole := file(make([]byte, 8), "BITPIX  = 32", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 1")
	for name, content := range map[string][]byte{
		"empty":          {},
		"no END":         whole[:80],
		"data cut":       whole[:blockSize],
		"not FITS":       []byte(strings.Repeat("x", blockSize)),
		"huge axis":      file(nil, "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 2000000000", "NAXIS2  = 2000000000"),
		"negative axis":  file(nil, "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = -1"),
		"strange BITPIX": file(nil, "BITPIX  = 12", "NAXIS   = 0"),
		"table":          file(nil, "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = 0", "PCOUNT  = 5"),
	} {
		if _, err := Read(bytes.NewReader(content)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v, want ErrFormat", name, err)
		}
	}
}

// The checksum convention on a file made to match, and after one bit flips.
func TestChecksum(t *testing.T) {
	data := []byte{0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0}
	cards := []string{"BITPIX  = 32", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 1", "DATASUM = '263'"}
	content := file(data, cards...)
	hdus, err := Read(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	// 7 + (2³²-1) + 256 with the carry added back is 263.
	if got := hdus[0].DataSum(); got != 263 {
		t.Errorf("DataSum = %d, want 263", got)
	}
	if d, c := hdus[0].Verify(); d != Matches || c != Absent {
		t.Errorf("Verify = %s, %s; want matches, absent", d, c)
	}
	hdus[0].Data[3] ^= 1
	if d, _ := hdus[0].Verify(); d != Differs {
		t.Errorf("Verify after a flipped bit = %s, want differs", d)
	}
}

// The map's primary and image HDU: the checksum cards came with an earlier
// state of the image and do not match this one; its data sum to its counts.
func TestFermiChecksum(t *testing.T) {
	hdus, err := Read(bytes.NewReader(counts(t)))
	if err != nil {
		t.Fatal(err)
	}
	if len(hdus) != 2 {
		t.Fatalf("%d HDUs, want 2", len(hdus))
	}
	d, c := hdus[1].Verify()
	if d != Differs || c != Differs || hdus[1].Header.Text("DATASUM") != "265181" || hdus[1].DataSum() != 24803 {
		t.Errorf("DATASUM %s (%s, computed %d), CHECKSUM %s; want the stale 265181, computed 24803",
			d, hdus[1].Header.Text("DATASUM"), hdus[1].DataSum(), c)
	}
	m, err := hdus[1].Image()
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for _, v := range m.Pixels {
		sum += v
	}
	if m.Width != 401 || m.Height != 201 || sum != 24803 || m.At(370, 73) != 31 {
		t.Errorf("image %d × %d, sum %g, brightest %g; want 401 × 201, 24803, 31", m.Width, m.Height, sum, m.At(370, 73))
	}
}

// Pixel to sky and back is the identity, in both projections; known points.
func TestWCS(t *testing.T) {
	hdus, err := Read(bytes.NewReader(counts(t)))
	if err != nil {
		t.Fatal(err)
	}
	car, err := hdus[1].Header.WCS()
	if err != nil {
		t.Fatal(err)
	}
	tan := &WCS{Projection: "TAN", Pixel: [2]float64{100, 80}, Value: [2]float64{266.4, -29.0}, Degrees: [2]float64{-0.05, 0.05}}
	for _, w := range []*WCS{car, tan} {
		for _, p := range [][2]float64{{0, 0}, {200.5, 100.5}, {400, 200}, {13.25, 180.75}} {
			lon, lat := w.Sky(p[0], p[1])
			x, y, ok := w.At(lon, lat)
			if !ok || math.Hypot(x-p[0], y-p[1]) > 1e-9 {
				t.Errorf("%s: pixel %v → (%g, %g) → (%g, %g)", w.Projection, p, lon, lat, x, y)
			}
		}
	}
	if lon, lat := car.Sky(200.5, 100.5); math.Abs(lon) > 1e-12 || math.Abs(lat) > 1e-12 {
		t.Errorf("the reference pixel lies at (%g, %g), want (0, 0)", lon, lat)
	}
	// One degree north of the tangent point is tan(1°) away.
	if _, y, _ := tan.At(266.4, -28); math.Abs((y-80)*0.05-math.Tan(math.Pi/180)*180/math.Pi) > 1e-9 {
		t.Errorf("TAN: one degree is %g degrees of the plane, want %g", (y-80)*0.05, math.Tan(math.Pi/180)*180/math.Pi)
	}
	if got := Separation(359.9, 0, 0.1, 0); math.Abs(got-0.2) > 1e-9 {
		t.Errorf("Separation across 0° = %g, want 0.2", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file([]byte{1, 2}, "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 1",
		"CTYPE1  = 'GLON-CAR'", "CTYPE2  = 'GLAT-CAR'", "CRPIX1  = 1.", "CRPIX2  = 1.",
		"CRVAL1  = 0.", "CRVAL2  = 0.", "CDELT1  = -0.1", "CDELT2  = 0.1"))
	f.Add(file(nil, "BITPIX  = -64", "NAXIS   = 0", "DATASUM = '0'", "CHECKSUM= '0000000000000000'"))
	f.Fuzz(func(t *testing.T, content []byte) {
		hdus, err := Read(bytes.NewReader(content))
		if err != nil {
			return
		}
		for i := range hdus {
			hdus[i].Verify()
			if w, err := hdus[i].Header.WCS(); err == nil {
				w.Sky(1, 1)
			}
			if m, err := hdus[i].Image(); err == nil && len(m.Pixels) != m.Width*m.Height {
				t.Fatalf("%d pixels for %d × %d", len(m.Pixels), m.Width, m.Height)
			}
		}
	})
}
