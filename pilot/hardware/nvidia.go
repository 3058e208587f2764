package hardware

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"floe/protocol"
)

// gpuFields is what is asked of nvidia-smi, in this order. Drivers before 510 do not
// know the last, those before 450 not the last two; they are asked for fewer.
var gpuFields = []string{"index", "uuid", "name", "memory.total", "ecc.errors.uncorrected.volatile.total", "mig.mode.current", "compute_cap"}

// gpuOldFields is how many of them every driver knows.
const gpuOldFields = 5

// nvidia lists the cards and instances that nvidia-smi knows.
func (m *measurement) nvidia(ctx context.Context) ([]card, error) {
	out, err := m.query(ctx)
	cards, complaints := parseCards(out)
	switch {
	case errors.Is(err, exec.ErrNotFound) && m.exists("/proc/driver/nvidia/version"):
		// So it looks from inside a container, too.
		return nil, fmt.Errorf("%w: the driver of NVIDIA is loaded, but nvidia-smi is not on PATH; in a container, start it with --nv", errNone)
	case err != nil && len(cards) == 0:
		if strings.Contains(out+err.Error(), "lost") || strings.Contains(out+err.Error(), "device handle") {
			cards, complaints = m.oneByOne(ctx, complaints)
		}
		if len(cards) == 0 {
			return nil, explain(err, out)
		}
	case len(cards) == 0 && strings.Contains(out, "No devices were found"):
		return nil, explain(nil, out)
	}
	for _, c := range complaints {
		m.problem("gpus: %s", c)
	}
	for _, c := range cards {
		if c.mig {
			return m.instances(ctx, cards)
		}
	}
	return cards, nil
}

// query asks for fields of all cards, or of those that more names.
func (m *measurement) query(ctx context.Context, more ...string) (string, error) {
	ask := func(fields []string) (string, error) {
		out, err := m.Run(ctx, "nvidia-smi", append(more, "--query-gpu="+strings.Join(fields, ","), "--format=csv,noheader,nounits")...)
		return string(out), err
	}
	for n := len(gpuFields); ; n-- {
		out, err := ask(gpuFields[:n])
		if err == nil || n == gpuOldFields || !strings.Contains(out+err.Error(), "not a valid field") {
			return out, err
		}
	}
}

// oneByOne asks for each card alone, after one that is gone has kept nvidia-smi from
// answering for the others.
func (m *measurement) oneByOne(ctx context.Context, complaints []string) (cards []card, all []string) {
	list, err := m.Run(ctx, "nvidia-smi", "-L")
	if err != nil && len(list) == 0 {
		return nil, complaints
	}
	for line := range strings.Lines(string(list)) {
		found := gpuLine.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		out, err := m.query(ctx, "--id="+found[2])
		more, bad := parseCards(out)
		if err != nil && len(bad) == 0 {
			bad = append(bad, err.Error())
		}
		cards = append(cards, more...)
		complaints = append(complaints, bad...)
	}
	return cards, complaints
}

// explain says what a failure of nvidia-smi means, and what helps.
func explain(err error, out string) error {
	text := firstLine(out)
	if err != nil {
		text = err.Error()
	}
	for _, known := range []struct{ sign, means string }{
		{"couldn't communicate", "the driver is not loaded or does not fit the kernel"},
		{"version mismatch", "the driver was updated under a running one; unload it or boot"},
		{"libnvidia-ml", "the driver's libraries are not there; in a container, start it with --nv"},
		{"Insufficient Permissions", "this user may not use the devices"},
		{"lost", "a card fell off the bus; the node needs a boot"},
		{"device handle", "a card does not answer; the node needs a boot"},
	} {
		if strings.Contains(text, known.sign) || strings.Contains(out, known.sign) {
			return fmt.Errorf("%s (%s)", strings.TrimSuffix(text, "."), known.means)
		}
	}
	if strings.Contains(out+text, "No devices were found") {
		// A slot that was given none of the node's cards sees this, too.
		return fmt.Errorf("%w: nvidia-smi: No devices were found", errNone)
	}
	if errors.Is(err, errNoAnswer) {
		return fmt.Errorf("%w: a card or its driver hangs", err)
	}
	if err == nil {
		return fmt.Errorf("nvidia-smi: %q is no list of cards", text)
	}
	return err
}

// parseCards reads the CSV of nvidia-smi. A line that is not a card, such as
// a driver's complaint about one of several, is returned as a problem.
func parseCards(text string) (cards []card, problems []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.Split(line, ",")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		index, err := strconv.ParseUint(f[0], 10, 10)
		if err != nil || len(f) < gpuOldFields {
			problems = append(problems, line)
			continue
		}
		c := card{index: strconv.FormatUint(index, 10), tool: "nvidia-smi", fault: firstFault(gpuFields, f)}
		c.ID, c.Model = f[1], f[2]
		if !strings.HasPrefix(c.ID, "GPU-") {
			c.ID = c.index
		}
		if n, err := strconv.ParseInt(f[3], 10, 32); err == nil && n > 0 {
			c.Memory = protocol.ByteSize(n) * mib
		} else if c.unified = c.fault == "" && slices.Contains(notAvailable, f[3]); c.fault == "" && !c.unified {
			c.fault = "memory.total is " + f[3]
		}
		if n, err := strconv.ParseInt(f[4], 10, 64); err == nil && n > 0 {
			c.fault = fmt.Sprintf("%d uncorrected memory errors", n)
		}
		if len(f) > gpuOldFields {
			c.mig = f[5] == "Enabled"
		}
		if len(f) > gpuOldFields+1 {
			c.Capability = parseCapability(f[6])
		}
		cards = append(cards, c)
	}
	return cards, problems
}

// notAvailable is what nvidia-smi says of what there is not.
var notAvailable = []string{"[N/A]", "N/A", "[Not Supported]"}

// withoutMemory tells cards that share the node's memory, such as GB10 and those of
// Jetson boards, from cards that ought to have some and do not say. The former are
// parts of an ARM processor.
func (m *measurement) withoutMemory(cards []card) []card {
	for i := range cards {
		if c := &cards[i]; c.unified && m.Kernel.Arch() != "aarch64" {
			c.unified, c.fault = false, "memory.total is [N/A]"
		}
	}
	return cards
}

// parseCapability reads 7.5 as 75, and 0 for anything else.
func parseCapability(s string) int {
	major, minor, ok := strings.Cut(s, ".")
	a, err1 := strconv.ParseUint(major, 10, 8)
	b, err2 := strconv.ParseUint(minor, 10, 8)
	if !ok || err1 != nil || err2 != nil || b > 9 {
		return 0
	}
	return int(a*10 + b)
}

var (
	gpuLine      = regexp.MustCompile(`^GPU ([0-9]+):.*\(UUID: (GPU-[^)]+)\)`)
	instanceLine = regexp.MustCompile(`^\s+MIG\s+(\S+)\s+Device\s+([0-9]+):\s+\(UUID:\s+(MIG-[^)]+)\)`)
	profileSize  = regexp.MustCompile(`\.([0-9]+)gb`)
)

// instances replaces cards in MIG mode by what they are divided into.
func (m *measurement) instances(ctx context.Context, cards []card) ([]card, error) {
	list, err := m.Run(ctx, "nvidia-smi", "-L")
	if err != nil {
		return nil, explain(err, string(list))
	}
	// The list has names and UUIDs, the long form how much memory is behind each.
	var sizes map[string]protocol.ByteSize
	if long, err := m.Run(ctx, "nvidia-smi", "-q", "-x"); err == nil {
		sizes = instanceSizes(long)
	}
	return splitCards(cards, string(list), sizes), nil
}

// splitCards replaces cards in MIG mode by their instances, which list (the
// output of nvidia-smi -L) names. Those whose size is not known have what their
// profile is called after. A card without instances cannot be used.
func splitCards(cards []card, list string, sizes map[string]protocol.ByteSize) []card {
	instances := make(map[string][]card)
	parent, parentID := "", ""
	for line := range strings.SplitSeq(list, "\n") {
		if found := gpuLine.FindStringSubmatch(line); found != nil {
			parent, parentID = found[1], found[2]
		} else if found := instanceLine.FindStringSubmatch(line); found != nil {
			c := card{index: parent + ":" + found[2], parent: parent, parentID: parentID, tool: "nvidia-smi"}
			c.ID, c.Model = found[3], "MIG "+found[1]
			c.Memory = sizes[parentID+":"+found[2]]
			if size := profileSize.FindStringSubmatch(found[1]); size != nil && c.Memory == 0 {
				n, _ := strconv.ParseInt(size[1], 10, 16) // the pattern lets only digits pass
				c.Memory = protocol.ByteSize(n) << 30
			}
			instances[parent] = append(instances[parent], c)
		}
	}
	var out []card
	for _, c := range cards {
		if !c.mig {
			out = append(out, c)
			continue
		}
		for _, part := range instances[c.index] {
			part.Model = c.Model + " " + part.Model
			part.Capability, part.fault = c.Capability, c.fault
			out = append(out, part)
		}
	}
	return out
}

// instanceMemory is the memory of a MIG device, which others of the same GPU instance
// share: shared counts them all. used is -1 where it is not known.
type instanceMemory struct {
	total, used protocol.ByteSize
	shared      int
}

// instanceMemories reads the memory of MIG devices from nvidia-smi -q -x, by UUID of
// the card, colon, and number of the device.
func instanceMemories(text []byte) map[string]instanceMemory {
	var log struct {
		GPUs []struct {
			UUID string `xml:"uuid"`
			MIG  []struct {
				Index    string `xml:"index"`
				Instance string `xml:"gpu_instance_id"`
				Memory   string `xml:"fb_memory_usage>total"`
				Used     string `xml:"fb_memory_usage>used"`
			} `xml:"mig_devices>mig_device"`
		} `xml:"gpu"`
	}
	if err := xml.Unmarshal(text, &log); err != nil {
		return nil
	}
	memories := make(map[string]instanceMemory)
	for _, gpu := range log.GPUs {
		sharing := make(map[string]int)
		for _, d := range gpu.MIG {
			sharing[d.Instance]++
		}
		for _, d := range gpu.MIG {
			memories[gpu.UUID+":"+d.Index] = instanceMemory{max(0, inMiB(d.Memory)), inMiB(d.Used), sharing[d.Instance]}
		}
	}
	return memories
}

// instanceSizes are the sizes of MIG devices. Compute instances share the memory of
// their GPU instance; each has its part of it, so that tasks side by side fit.
func instanceSizes(text []byte) map[string]protocol.ByteSize {
	sizes := make(map[string]protocol.ByteSize)
	for device, memory := range instanceMemories(text) {
		sizes[device] = memory.total / protocol.ByteSize(memory.shared)
	}
	return sizes
}

// inMiB reads a size with its unit, and -1 for anything else.
func inMiB(text string) protocol.ByteSize {
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || unit != "MiB" {
		return -1
	}
	return mebibytes(n)
}
