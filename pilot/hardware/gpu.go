package hardware

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"floe/protocol"
)

// gpuFields is what is asked of nvidia-smi, in this order. The last two are
// unknown to drivers before 510 and are left out for those.
var gpuFields = []string{"index", "uuid", "name", "memory.total", "ecc.errors.uncorrected.volatile.total", "mig.mode.current", "compute_cap"}

// gpuOldFields is how many of them every driver knows.
const gpuOldFields = 5

// gpus lists the cards this slot may use, in the order of
// CUDA_VISIBLE_DEVICES where that is set.
func (m *measurement) gpus(ctx context.Context) []protocol.GPU {
	visible, restricted := m.LookupEnv("CUDA_VISIBLE_DEVICES")
	if !restricted {
		// HTCondor's word, for wrappers that do not pass CUDA's.
		visible, restricted = m.LookupEnv("_CONDOR_AssignedGPUs")
	}
	cards, err := m.cards(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		m.problem("gpus: %v; none is offered", err)
		return nil
	}
	if restricted {
		cards = selectCards(cards, visible)
		m.find("gpu", fmt.Sprint(len(cards)), "visible devices "+strconv.Quote(visible))
	}
	var gpus []protocol.GPU
	for _, c := range cards {
		g := c.GPU
		g.Tested = m.sound(ctx, c)
		m.find("gpu", g.Model, fmt.Sprintf("nvidia-smi: %s, %v, capability %d, tested %v", g.ID, g.Memory, g.Capability, g.Tested))
		gpus = append(gpus, g)
	}
	return gpus
}

// card is a GPU as the driver lists it.
type card struct {
	protocol.GPU
	index  string
	mig    bool
	errors string // why the card is not sound, empty when it is
}

func (m *measurement) cards(ctx context.Context) ([]card, error) {
	ask := func(fields []string) ([]byte, error) {
		return m.Run(ctx, "nvidia-smi", "--query-gpu="+strings.Join(fields, ","), "--format=csv,noheader,nounits")
	}
	out, err := ask(gpuFields)
	if err != nil && (strings.Contains(err.Error(), "not a valid field") || strings.Contains(string(out), "not a valid field")) {
		out, err = ask(gpuFields[:gpuOldFields])
	}
	if err != nil {
		return nil, err
	}
	cards, problems := parseCards(string(out))
	for _, p := range problems {
		m.problem("gpus: %s", p)
	}
	for _, c := range cards {
		if c.mig {
			list, err := m.Run(ctx, "nvidia-smi", "-L")
			if err != nil {
				return nil, err
			}
			return splitCards(cards, string(list)), nil
		}
	}
	return cards, nil
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
		c := card{index: strconv.FormatUint(index, 10)}
		c.ID, c.Model = f[1], f[2]
		if !strings.HasPrefix(c.ID, "GPU-") {
			c.ID = c.index
		}
		// [N/A] and [Not Supported] are answers; [Unknown Error] and ERR! are not.
		for i, text := range f {
			if strings.Contains(text, "Error") || strings.Contains(text, "ERR!") || strings.Contains(text, "lost") {
				c.errors = fmt.Sprintf("%s is %s", gpuFields[min(i, len(gpuFields)-1)], text)
			}
		}
		if n, err := strconv.ParseInt(f[3], 10, 32); err == nil {
			c.Memory = protocol.ByteSize(n) * mib
		} else if c.errors == "" {
			c.errors = "memory.total is " + f[3]
		}
		if n, err := strconv.ParseInt(f[4], 10, 64); err == nil && n > 0 {
			c.errors = fmt.Sprintf("%d uncorrected memory errors", n)
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
	gpuLine      = regexp.MustCompile(`^GPU ([0-9]+):`)
	instanceLine = regexp.MustCompile(`^\s+MIG\s+(\S+)\s+Device\s+[0-9]+:\s+\(UUID:\s+(MIG-[^)]+)\)`)
	profileSize  = regexp.MustCompile(`\.([0-9]+)gb`)
)

// splitCards replaces cards in MIG mode by their instances, which list (the
// output of nvidia-smi -L) names. A card without instances cannot be used.
func splitCards(cards []card, list string) []card {
	instances := make(map[string][]protocol.GPU)
	index := ""
	for line := range strings.SplitSeq(list, "\n") {
		if found := gpuLine.FindStringSubmatch(line); found != nil {
			index = found[1]
		} else if found := instanceLine.FindStringSubmatch(line); found != nil {
			g := protocol.GPU{ID: found[2], Model: "MIG " + found[1]}
			if size := profileSize.FindStringSubmatch(found[1]); size != nil {
				n, _ := strconv.ParseInt(size[1], 10, 16) // the pattern lets only digits pass
				g.Memory = protocol.ByteSize(n) << 30
			}
			instances[index] = append(instances[index], g)
		}
	}
	var out []card
	for _, c := range cards {
		if !c.mig {
			out = append(out, c)
			continue
		}
		for _, g := range instances[c.index] {
			g.Model = c.Model + " " + g.Model
			g.Capability = c.Capability
			out = append(out, card{GPU: g, index: g.ID, errors: c.errors})
		}
	}
	return out
}

// selectCards keeps the cards that CUDA would show: indexes or beginnings of
// UUIDs in the order given, up to the first that names no card.
func selectCards(cards []card, visible string) []card {
	var out []card
	for name := range strings.SplitSeq(visible, ",") {
		name = strings.TrimSpace(name)
		// HTCondor writes CUDA0 for the first card.
		name = strings.TrimPrefix(name, "CUDA")
		found := false
		for _, c := range cards {
			if name != "" && (c.index == name || len(name) > 4 && strings.HasPrefix(c.ID, name)) {
				out, found = append(out, c), true
				break
			}
		}
		if !found {
			break
		}
	}
	return out
}

// sound tells whether tasks may be sent to the card.
func (m *measurement) sound(ctx context.Context, c card) bool {
	if c.errors != "" {
		m.problem("gpu %s: %s", c.ID, c.errors)
		return false
	}
	if m.GPUTest == "" {
		return true
	}
	if out, err := m.Run(ctx, "env", "CUDA_VISIBLE_DEVICES="+c.ID, m.GPUTest); err != nil {
		m.problem("gpu %s: self-test %s: %v %s", c.ID, m.GPUTest, err, firstLine(string(out)))
		return false
	}
	return true
}
