package main

import (
	"bufio"
	"bytes"
	_ "embed" // the kernel and its host
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"sort"
	"strconv"
	"strings"
)

// A card is a device of OpenCL, which kernel.cl runs on. A program without cgo
// cannot load OpenCL's library; Python can, and the other tasks of the example need
// it, too. So this program makes the tables and the light steps, and card.py carries
// them to the card and its hits back.
var (
	//go:embed kernel.cl
	kernelSource string
	//go:embed card.py
	cardHost string
)

// cardBunch is how many photons one launch of the kernel follows: enough to fill a
// large card, and few enough that none takes longer than a display's driver allows.
const cardBunch = 1 << 17

// Words of a hit of the kernel, and the size of what comes before a bunch's hits.
const (
	hitWords    = 5
	bunchHeader = 20
)

// cardRequest is the first line of what card.py reads.
type cardRequest struct {
	Card    string `json:"card"`
	Options string `json:"options"`
	Kernel  int    `json:"kernel"`
	Buffers []int  `json:"buffers"`
	Steps   int    `json:"steps"`
	Photons uint64 `json:"photons"`
	Bunch   uint64 `json:"bunch"`
	Seed    uint64 `json:"seed"`
}

// A cardDevice is what card.py says of a device.
type cardDevice struct {
	ID       string `json:"id"`
	Platform string `json:"platform"`
	Device   string `json:"device"`
	Driver   string `json:"driver"`
	GPU      bool   `json:"gpu"`
	Vendor   int    `json:"vendor"`
}

// kernelConstants are what the kernel is compiled with, by name. Those with a point
// or an exponent are single precision.
func kernelConstants(ice *medium, sensors *array) map[string]any {
	return map[string]any{
		"BINS": bins, "LAYERS": ice.layers, "STRINGS": stringCount, "SENSORS": sensorsPerString, "GRID": gridSide,
		"TOP": ice.top, "LAYER_HEIGHT": float64(layerHeight), "WALK_RADIUS": float64(walkRadius), "WALK_HEIGHT": float64(walkHeight),
		"PATH_LIMIT": float64(pathLimit), "CELL": float64(cellSize),
		"TOP_SENSOR": float64(topSensorZ), "SENSOR_SPACING": float64(sensorSpacing), "RADIUS": sensors.radius,
		"SCATTER_G": float64(scatterG), "LIU_SHARE": float64(liuFraction),
		"SHOWER_A": float64(showerAngleA), "SHOWER_B": float64(showerAngleB), "SHOWER_SCALE": float64(showerScale), "SPEED": float64(speedOfLight),
	}
}

// compilerOptions writes constants as definitions. Nothing that makes arithmetic
// faster and looser is asked for.
func compilerOptions(constants map[string]any) string {
	names := make([]string, 0, len(constants))
	for name := range constants {
		names = append(names, name)
	}
	sort.Strings(names)
	options := []string{"-cl-std=CL1.2"}
	for _, name := range names {
		text := fmt.Sprint(constants[name])
		if f, ok := constants[name].(float64); ok {
			text = strconv.FormatFloat(f, 'e', 9, 64) + "f"
		}
		options = append(options, "-D "+name+"="+text)
	}
	return strings.Join(options, " ")
}

// kernelBuffers are the tables that the kernel reads, in the order of its arguments.
func kernelBuffers(steps []Step, light *spectrum, ice *medium, sensors *array) [][]byte {
	cherenkov := make([]float64, bins)
	for bin := range cherenkov {
		cherenkov[bin] = 1 / phaseIndex(wavelength(bin))
	}
	var rows []float64
	shapes, firsts := make([]int32, len(steps)), make([]uint64, 0, len(steps)+1)
	var total uint64
	for i := range steps {
		s := &steps[i]
		rows = append(rows, s.X, s.Y, s.Z, s.DX, s.DY, s.DZ, s.Time, s.Length)
		shapes[i] = -1
		if s.Shower {
			shapes[i] = int32(s.Shape)
		}
		firsts = append(firsts, s.First)
		total = s.First + s.Count
	}
	firsts = append(firsts, total)
	var buffers [][]byte
	for _, table := range [][]float64{ice.scatter, ice.absorb, ice.slowness[:], light.cumulative[:], cherenkov, sensors.x[:], sensors.y[:]} {
		buffers = append(buffers, singles(table))
	}
	for _, table := range []any{sensors.cell, singles(rows), shapes, firsts} {
		b, _ := binary.Append(nil, binary.NativeEndian, table) // of sized elements
		buffers = append(buffers, b)
	}
	return buffers
}

// singles writes numbers in single precision.
func singles(table []float64) []byte {
	out := make([]byte, 0, 4*len(table))
	for _, v := range table {
		out = binary.NativeEndian.AppendUint32(out, math.Float32bits(float32(v)))
	}
	return out
}

// propagateOnCard is propagate on a card, an entry of FLOE_GPUS. The same input,
// seed and device give the same hits.
func propagateOnCard(card string, constants map[string]any, seed uint64, steps []Step, light *spectrum, ice *medium, sensors *array) ([]Hit, Summary, cardDevice, error) {
	sum := Summary{Steps: int64(len(steps))}
	var device cardDevice
	if len(steps) == 0 {
		return nil, sum, device, nil
	}
	last := steps[len(steps)-1]
	request := cardRequest{
		Card: card, Options: compilerOptions(constants), Kernel: len(kernelSource),
		Steps: len(steps), Photons: last.First + last.Count, Bunch: cardBunch, Seed: seed,
	}
	sum.Photons = int64(request.Photons)
	buffers := kernelBuffers(steps, light, ice, sensors)
	for _, b := range buffers {
		request.Buffers = append(request.Buffers, len(b))
	}
	var input bytes.Buffer
	if err := json.NewEncoder(&input).Encode(request); err != nil {
		return nil, sum, device, err
	}
	input.WriteString(kernelSource)
	for _, b := range buffers {
		input.Write(b)
	}
	reply, err := runHost(&input)
	if err != nil {
		return nil, sum, device, err
	}
	hits, device, err := readReply(bufio.NewReader(bytes.NewReader(reply)), steps, &sum)
	return hits, sum, device, err
}

// runHost runs card.py, and returns what it writes.
func runHost(input io.Reader, arguments ...string) ([]byte, error) {
	for _, name := range []string{"python3", "python", "python2"} {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		host := exec.Command(program, append([]string{"-c", cardHost}, arguments...)...)
		var complaints bytes.Buffer
		host.Stdin, host.Stderr = input, &complaints
		out, err := host.Output()
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(complaints.String()))
		}
		return out, nil
	}
	return nil, errors.New("a card needs python3 on PATH to be reached")
}

// readReply reads the bunches of card.py and checks that every photon has one end.
func readReply(from *bufio.Reader, steps []Step, sum *Summary) ([]Hit, cardDevice, error) {
	var device cardDevice
	line, err := from.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &device)
	}
	if err != nil {
		return nil, device, fmt.Errorf("card: its answer: %w", err)
	}
	var hits []Hit
	var done uint64
	for done < uint64(sum.Photons) {
		var head [bunchHeader]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return nil, device, fmt.Errorf("card: %d of %d photons: %w", done, sum.Photons, err)
		}
		first := binary.NativeEndian.Uint64(head[:])
		found, absorbed, escaped := binary.NativeEndian.Uint32(head[8:]), binary.NativeEndian.Uint32(head[12:]), binary.NativeEndian.Uint32(head[16:])
		size := uint64(found) + uint64(absorbed) + uint64(escaped)
		if first != done || size == 0 || size > uint64(sum.Photons)-done {
			return nil, device, fmt.Errorf("card: a bunch of %d photons from %d on, after %d of %d", size, first, done, sum.Photons)
		}
		for range found {
			h, err := readHit(from, first, size)
			if err != nil {
				return nil, device, err
			}
			hits = append(hits, h)
			sum.Scatters += int64(h.Scatter)
		}
		done += size
		sum.Absorbed += int64(absorbed)
		sum.Escaped += int64(escaped)
	}
	sum.Hits = int64(len(hits))
	sort.Slice(hits, func(i, j int) bool { return hits[i].Photon < hits[j].Photon })
	step := 0
	for i := range hits {
		if i > 0 && hits[i].Photon == hits[i-1].Photon {
			return nil, device, fmt.Errorf("card: photon %d has two hits", hits[i].Photon)
		}
		for hits[i].Photon >= steps[step].First+steps[step].Count {
			step++
		}
		hits[i].Event = steps[step].Event
	}
	return hits, device, nil
}

// readHit reads one hit of a bunch, and refuses what no photon can have done.
func readHit(from io.Reader, first, size uint64) (Hit, error) {
	var words [hitWords]uint32
	if err := binary.Read(from, binary.NativeEndian, &words); err != nil {
		return Hit{}, fmt.Errorf("card: a hit: %w", err)
	}
	h := Hit{
		Photon: first + uint64(words[0]), String: int16(words[1] & 0xff), Sensor: int16(words[1] >> 8 & 0xff), Bin: uint8(words[1] >> 16),
		Time: float64(math.Float32frombits(words[2])), CosEta: float64(math.Float32frombits(words[3])), Scatter: words[4],
	}
	if uint64(words[0]) >= size || h.String >= stringCount || h.Sensor >= sensorsPerString || h.Bin >= bins ||
		!(h.Time >= 0 && h.Time < 1e9) || !(math.Abs(h.CosEta) <= 1.0001) {
		return Hit{}, fmt.Errorf("card: a hit that cannot be: %+v", h)
	}
	return h, nil
}
