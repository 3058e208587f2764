package main

import "math"

// A bunch is the state of photons between birth and end, one array per
// quantity: the layout a GPU reads without gaps.
type bunch struct {
	id         []uint64
	bin        []uint8
	x, y, z    []float64 // m
	dx, dy, dz []float64
	time       []float64 // ns
	depth      []float64 // absorption lengths left
}

func newBunch(size int) *bunch {
	floats := make([]float64, 8*size)
	cut := func(i int) []float64 { return floats[i*size : (i+1)*size] }
	return &bunch{
		id: make([]uint64, size), bin: make([]uint8, size),
		x: cut(0), y: cut(1), z: cut(2), dx: cut(3), dy: cut(4), dz: cut(5), time: cut(6), depth: cut(7),
	}
}

// A Hit is a photon that reached a sensor.
type Hit struct {
	Photon  uint64
	Event   int32
	String  int16 // from 0
	Sensor  int16 // from 0 at the top
	Bin     uint8
	Time    float64 // ns since the muon's start
	CosEta  float64 // 1: from below, onto the photomultiplier
	Scatter uint32  // how often it scattered
}

// An end says how a photon's walk ended.
type end int

const (
	endAbsorbed end = iota
	endEscaped
	endHit
)

// birth puts photon id of step s at place i of the bunch.
func birth(seed, id uint64, s *Step, light *spectrum, ice *medium, b *bunch, i int) {
	r := block(seed, id, 0, streamBirth)
	q := block(seed, id, 1, streamBirth)
	bin := light.bin(uniform(r[0]))
	along := s.Length * uniform(r[1])
	if s.Shape > 0 {
		along += showerScale * erlang(seed, id, s.Shape)
	}
	dx, dy, dz := s.DX, s.DY, s.DZ
	if s.Shower {
		dx, dy, dz = turn(dx, dy, dz, showerAngle(uniform(r[2])), 2*math.Pi*uniform(r[3]))
	}
	dx, dy, dz = turn(dx, dy, dz, 1/phaseIndex(wavelength(bin)), 2*math.Pi*uniform(q[0]))
	b.id[i], b.bin[i] = id, uint8(bin)
	b.x[i], b.y[i], b.z[i] = s.X+along*s.DX, s.Y+along*s.DY, s.Z+along*s.DZ
	b.dx[i], b.dy[i], b.dz[i] = dx, dy, dz
	b.time[i] = s.Time + along/speedOfLight
	b.depth[i] = -math.Log(uniform(q[1]))
}

// erlang draws a sum of shape exponentials, at most eight, from blocks 2 and 3.
func erlang(seed, id uint64, shape int) float64 {
	var sum float64
	var words [4]uint32
	for k := range shape {
		if k%4 == 0 {
			words = block(seed, id, uint32(2+k/4), streamBirth)
		}
		sum -= math.Log(uniform(words[k%4]))
	}
	return sum
}

// turn rotates a unit direction by a polar angle of cosine c and an azimuth.
func turn(dx, dy, dz, c, azimuth float64) (float64, float64, float64) {
	s := math.Sqrt(math.Max(1-c*c, 0))
	sin, cos := math.Sincos(azimuth)
	u, v := s*cos, s*sin
	if across := math.Sqrt(dx*dx + dy*dy); across > 1e-6 {
		return dx*c + (dx*dz*u-dy*v)/across, dy*c + (dy*dz*u+dx*v)/across, dz*c - across*u
	}
	return u, v * math.Copysign(1, dz), c * math.Copysign(1, dz)
}

// scatterAngle returns the cosine of a scatter: for the given share the
// simplified Liu function, else Henyey–Greenstein, both of mean g.
// Source: Aartsen et al. 2013, section 5.
func scatterAngle(choice, u float64) float64 {
	if choice < liuFraction {
		return 2*math.Pow(u, (1-scatterG)/(1+scatterG)) - 1
	}
	t := (1 - scatterG*scatterG) / (1 + scatterG*(2*u-1))
	return (1 + scatterG*scatterG - t*t) / (2 * scatterG)
}

// walk follows photon i of the bunch to its end. It reads nothing but its
// arguments and writes nothing but the photon's place in the bunch.
func walk(seed uint64, ice *medium, sensors *array, b *bunch, i int) (hit Hit, how end) {
	x, y, z := b.x[i], b.y[i], b.z[i]
	dx, dy, dz := b.dx[i], b.dy[i], b.dz[i]
	time, left := b.time[i], b.depth[i]
	bin := int(b.bin[i])
	scatter := ice.scatter[bin*ice.layers : (bin+1)*ice.layers]
	absorb := ice.absorb[bin*ice.layers : (bin+1)*ice.layers]
	slowness := ice.slowness[bin]
	layer := ice.layer(z)
	for n := uint32(0); ; n++ {
		words := block(seed, b.id[i], n, streamWalk)
		path := -math.Log(uniform(words[0])) // in scattering lengths
		for path > 0 {
			if layer < 0 || layer >= ice.layers || x*x+y*y > walkRadius*walkRadius || math.Abs(z) > walkHeight {
				return hit, endEscaped
			}
			s, a := scatter[layer], absorb[layer]
			length, next := pathLimit, layer
			if dz > 0 {
				if d := (ice.top - layerHeight*float64(layer) - z) / dz; d < length {
					length, next = math.Max(d, 0), layer-1
				}
			} else if dz < 0 {
				if d := (ice.top - layerHeight*float64(layer+1) - z) / dz; d < length {
					length, next = math.Max(d, 0), layer+1
				}
			}
			scattered, absorbed := false, false
			if d := path / s; d < length {
				length, next, scattered = d, layer, true
			}
			if d := left / a; d < length {
				length, absorbed = d, true
			}
			if string := sensors.near(x, y); string >= 0 {
				if sensor, along := sensors.touch(string, x, y, z, dx, dy, dz, length); sensor >= 0 {
					return Hit{
						Photon: b.id[i], String: int16(string), Sensor: int16(sensor), Bin: uint8(bin),
						Time: time + along*slowness, CosEta: dz, Scatter: n,
					}, endHit
				}
			}
			x, y, z, time = x+length*dx, y+length*dy, z+length*dz, time+length*slowness
			b.x[i], b.y[i], b.z[i], b.time[i] = x, y, z, time
			if absorbed {
				return hit, endAbsorbed
			}
			left -= length * a
			path -= length * s
			if scattered {
				break
			}
			layer = next
		}
		dx, dy, dz = turn(dx, dy, dz, scatterAngle(uniform(words[1]), uniform(words[2])), 2*math.Pi*uniform(words[3]))
		b.dx[i], b.dy[i], b.dz[i] = dx, dy, dz
	}
}
