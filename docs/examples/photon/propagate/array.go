package main

import "math"

// The array of sensors: 86 strings of 60 sensors each, 17 m apart from 1450 m
// to 2450 m depth; 78 strings on a triangular lattice of 125 m and 8 between
// the central ones.
// Source: IceCube's design (Aartsen et al., JINST 12 (2017) P03012). Lattice
// and spacing are ideal here and the 8 inner strings have the standard 17 m.
const (
	stringCount      = 86
	sensorsPerString = 60
	latticeSpacing   = 125.0
	sensorSpacing    = 17.0
	topSensorZ       = detectorZ - 1450.0
	sensorRadius     = 0.1651 // m, the pressure sphere of a DOM

	// Light is emitted within these bounds, about two absorption lengths
	// around the strings, and photons are followed within twice their margin.
	emissionRadius, emissionHeight = 700.0, 650.0
	walkRadius, walkHeight         = 850.0, 800.0
)

// latticeRows are the rows of the hexagon: how many strings, and where the
// first one stands in units of the lattice spacing.
var latticeRows = [...]struct {
	count int
	first float64
}{{6, -2.5}, {7, -3}, {8, -3.5}, {9, -4}, {10, -4.5}, {10, -4}, {9, -3.5}, {8, -3}, {7, -2.5}, {4, -2}}

// array holds the strings and, for each cell of a horizontal grid, the one
// string that a path of at most pathLimit beginning there can touch.
type array struct {
	x, y   [stringCount]float64
	radius float64 // of the enlarged sensors, in metres
	cell   []int8  // string index or -1, at [row*gridSide+column]
}

const (
	cellSize  = 10.0
	pathLimit = 10.0
	gridSide  = int(2 * walkRadius / cellSize)
)

// newArray places the strings, with sensors enlarged by the oversize factor.
func newArray(oversize float64) *array {
	a := &array{radius: sensorRadius * oversize}
	rowHeight := latticeSpacing * math.Sqrt(3) / 2
	n := 0
	for index, row := range latticeRows {
		for i := range row.count {
			a.x[n] = latticeSpacing * (row.first + float64(i))
			a.y[n] = rowHeight * (float64(index) - 4.5)
			n++
		}
	}
	// The inner strings lie at the centroids of the triangles around the centre.
	side := latticeSpacing / math.Sqrt(3)
	centreX, centreY := a.x[35], a.y[35]
	for i := range stringCount - n {
		angle, distance := float64(2*i+1)*math.Pi/6, side
		if i >= 6 { // two more, one ring further out
			angle, distance = float64(i-6)*math.Pi+math.Pi/6, 2*side
		}
		a.x[n+i] = centreX + distance*math.Cos(angle)
		a.y[n+i] = centreY + distance*math.Sin(angle)
	}
	a.index()
	return a
}

// index fills the grid. Strings are at least 72 m apart and a cell's reach is
// below half of that, so that one string per cell is enough.
func (a *array) index() {
	a.cell = make([]int8, gridSide*gridSide)
	for i := range a.cell {
		a.cell[i] = -1
		x := -walkRadius + cellSize*(float64(i%gridSide)+0.5)
		y := -walkRadius + cellSize*(float64(i/gridSide)+0.5)
		for s := range stringCount {
			dx := math.Max(math.Abs(a.x[s]-x)-cellSize/2, 0)
			dy := math.Max(math.Abs(a.y[s]-y)-cellSize/2, 0)
			if math.Hypot(dx, dy) <= pathLimit+a.radius {
				a.cell[i] = int8(s)
			}
		}
	}
}

// near returns the string that a path of at most pathLimit from (x, y) can
// touch, or -1.
func (a *array) near(x, y float64) int {
	column, row := int((x+walkRadius)/cellSize), int((y+walkRadius)/cellSize)
	if column < 0 || row < 0 || column >= gridSide || row >= gridSide {
		return -1
	}
	return int(a.cell[row*gridSide+column])
}

// touch returns the first sensor of string s on a path and how far along it
// the path enters that sensor; sensor is -1 if there is none within length.
func (a *array) touch(s int, x, y, z, dx, dy, dz, length float64) (sensor int, along float64) {
	px, py := x-a.x[s], y-a.y[s]
	// Closest approach to the string's axis, as a quick refusal.
	if across := dx*dx + dy*dy; across > 0 {
		t := math.Min(math.Max(-(px*dx+py*dy)/across, 0), length)
		if ex, ey := px+t*dx, py+t*dy; ex*ex+ey*ey > a.radius*a.radius {
			return -1, 0
		}
	} else if px*px+py*py > a.radius*a.radius {
		return -1, 0
	}
	low, high := math.Min(z, z+dz*length)-a.radius, math.Max(z, z+dz*length)+a.radius
	first := max(int(math.Ceil((topSensorZ-high)/sensorSpacing)), 0)
	last := min(int(math.Floor((topSensorZ-low)/sensorSpacing)), sensorsPerString-1)
	sensor, along = -1, length
	for k := first; k <= last; k++ {
		pz := z - (topSensorZ - sensorSpacing*float64(k))
		b := px*dx + py*dy + pz*dz
		c := px*px + py*py + pz*pz - a.radius*a.radius
		if c <= 0 { // born inside, or left over from rounding: it counts at once
			return k, 0
		}
		if discriminant := b*b - c; discriminant >= 0 {
			if t := -b - math.Sqrt(discriminant); t >= 0 && t <= along {
				sensor, along = k, t
			}
		}
	}
	return sensor, along
}
