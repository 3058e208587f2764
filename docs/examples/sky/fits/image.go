package fits

import (
	"encoding/binary"
	"fmt"
	"math"
)

// An Image is a two-dimensional array of physical values, row by row from the
// bottom as FITS stores it.
type Image struct {
	Width, Height int
	Pixels        []float64
}

// At returns the pixel in column x and row y, both from 0.
func (m *Image) At(x, y int) float64 { return m.Pixels[y*m.Width+x] }

// Image reads a two-dimensional data unit.
func (u *HDU) Image() (*Image, error) {
	if kind := u.Header.Text("XTENSION"); kind != "" && kind != "IMAGE" {
		return nil, fmt.Errorf("%w: extension %s is not an image", ErrFormat, kind)
	}
	if axes, err := u.Header.Int("NAXIS"); err != nil || axes != 2 {
		return nil, fmt.Errorf("%w: an image has two axes, not %s", ErrFormat, u.Header["NAXIS"])
	}
	width, err := u.Header.Int("NAXIS1")
	if err != nil {
		return nil, err
	}
	height, err := u.Header.Int("NAXIS2")
	if err != nil {
		return nil, err
	}
	scale, err := u.Header.Float("BSCALE", 1)
	if err != nil {
		return nil, err
	}
	zero, err := u.Header.Float("BZERO", 0)
	if err != nil {
		return nil, err
	}
	bitpix, err := u.Header.Int("BITPIX")
	if err != nil {
		return nil, err
	}
	m := &Image{Width: width, Height: height, Pixels: make([]float64, width*height)}
	for i := range m.Pixels {
		m.Pixels[i] = zero + scale*pixel(u.Data, i, bitpix)
	}
	return m, nil
}

// pixel decodes big-endian value i; dataSize has checked bitpix and length.
func pixel(data []byte, i, bitpix int) float64 {
	switch bitpix {
	case 8:
		return float64(data[i])
	case 16:
		return float64(int16(binary.BigEndian.Uint16(data[2*i:])))
	case 32:
		return float64(int32(binary.BigEndian.Uint32(data[4*i:])))
	case 64:
		return float64(int64(binary.BigEndian.Uint64(data[8*i:])))
	case -32:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(data[4*i:])))
	case -64:
		return math.Float64frombits(binary.BigEndian.Uint64(data[8*i:]))
	}
	return math.NaN()
}
