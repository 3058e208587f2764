package hardware

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"floe/protocol"
)

// amd lists the cards that amd-smi knows, with what the kernel's driver says of
// them: ROCm's runtime counts cards as the driver lists them and takes its UUIDs,
// which older amd-smi did not print. Without amd-smi the driver alone will do.
func (m *measurement) amd(ctx context.Context) ([]card, error) {
	nodes := m.kfdNodes()
	out, err := m.Run(ctx, "amd-smi", "static", "--asic", "--bus", "--vram", "--json")
	if err != nil && strings.Contains(string(out)+err.Error(), "--vram") {
		// Before ROCm 6.0 it did not know of memory.
		out, err = m.Run(ctx, "amd-smi", "static", "--asic", "--bus", "--json")
	}
	switch {
	case errors.Is(err, exec.ErrNotFound) && len(nodes) > 0:
		return kfdCards(nodes), nil
	case errors.Is(err, exec.ErrNotFound):
		return nil, err
	case errors.Is(err, errNoAnswer):
		return nil, fmt.Errorf("%w: a card or its driver hangs", err)
	case err != nil:
		return nil, err
	}
	cards, err := parseAMD(out)
	if err != nil {
		return nil, err
	}
	if len(cards) == 0 {
		return nil, fmt.Errorf("%w: amd-smi lists none", errNone)
	}
	cards = m.withDriver(cards, nodes)
	if out, err := m.Run(ctx, "amd-smi", "metric", "--ecc", "--json"); err == nil {
		countErrors(cards, out)
	}
	return cards, nil
}

// withDriver completes what amd-smi says by what the driver says of the same card,
// in the driver's order.
func (m *measurement) withDriver(cards []card, nodes []card) []card {
	if len(nodes) == 0 {
		for i := range cards {
			m.sizeOf(&cards[i])
		}
		return cards
	}
	var out []card
	used := make([]bool, len(cards))
	for k, node := range nodes {
		c := node
		for i := range cards {
			// Partitions of a card may share its address; then they come in order.
			if used[i] || cards[i].bus != node.bus && (cards[i].bus != "" || len(cards) != len(nodes) || i != k) {
				continue
			}
			used[i] = true
			c.tool, c.smi, c.Model, c.fault = cards[i].tool, cards[i].smi, cards[i].Model, cards[i].fault
			if cards[i].Memory > 0 {
				c.Memory = cards[i].Memory
			}
			break
		}
		m.sizeOf(&c)
		out = append(out, c)
	}
	for i, c := range cards {
		if !used[i] {
			m.problem("gpu %s: amd-smi lists it and the kernel's compute driver (/sys/class/kfd) does not; it is not offered", c.ID)
		}
	}
	return out
}

// sizeOf completes a card's memory and says what it lacks.
func (m *measurement) sizeOf(c *card) {
	if c.Memory == 0 && c.bus != "" {
		if n, err := strconv.ParseInt(m.read("/sys/bus/pci/devices/"+c.bus+"/mem_info_vram_total"), 10, 64); err == nil && n > 0 {
			c.Memory = min(protocol.ByteSize(n), protocol.MaxByteSize)
		}
	}
	if c.Memory == 0 && c.fault == "" && !c.unified {
		c.fault = "nothing says how much memory it has"
	}
}

// parseAMD reads the JSON of amd-smi static: a list of cards, one card alone (ROCm
// 5), or a list called gpu_data (since ROCm 7). Sizes are numbers of MiB, texts, or
// pairs of value and unit.
func parseAMD(text []byte) ([]card, error) {
	entries, before, err := amdEntries(text)
	if err != nil {
		return nil, err
	}
	fault := ""
	if strings.Contains(before, "required groups") {
		fault = "this user may not use it: " + firstLine(before)
	}
	var cards []card
	for i, e := range entries {
		c := card{tool: "amd-smi", index: strconv.Itoa(i), fault: fault, bus: strings.ToLower(e.text("bus", "bdf"))}
		if n, ok := e.number("gpu"); ok {
			c.index = strconv.FormatInt(n, 10)
		}
		c.smi, c.ID = c.index, protocol.AMDIndex+c.index
		if serial, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(e.text("asic", "asic_serial")), "0x"), 16, 64); err == nil && serial != 0 {
			c.ID = fmt.Sprintf("GPU-%016x", serial)
		}
		c.unified = strings.ToLower(e.text("asic", "device_id")) == fmt.Sprintf("0x%x", deviceMI300A)
		c.Model = e.text("asic", "market_name")
		if gfx := e.text("asic", "target_graphics_version"); c.Model == "" || strings.HasPrefix(c.Model, "0x") {
			c.Model = strings.TrimSpace("AMD " + gfx)
		}
		for _, path := range [][]string{{"vram", "size"}, {"vram", "vram_size_mb"}, {"vram", "vram_size"}} {
			if n, ok := e.number(path...); ok && n > 0 && n < 1<<32 {
				c.Memory = protocol.ByteSize(n) * mib
			}
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// amdEntries splits an answer of amd-smi into what it says of each card, and what
// it printed before: warnings go to the same place as the answer.
func amdEntries(text []byte) (entries []tree, before string, err error) {
	start := 0
	for start < len(text) && text[start] != '[' && text[start] != '{' {
		next := bytes.IndexByte(text[start:], '\n')
		if next < 0 {
			return nil, "", fmt.Errorf("amd-smi: %q is no list of cards", firstLine(string(text)))
		}
		start += next + 1
	}
	before = strings.TrimSpace(string(text[:start]))
	var answer any
	if err := json.NewDecoder(bytes.NewReader(text[start:])).Decode(&answer); err != nil {
		return nil, "", fmt.Errorf("amd-smi: its answer: %w", err)
	}
	if top, ok := answer.(map[string]any); ok {
		switch {
		case top["gpu_data"] != nil:
			answer = top["gpu_data"]
		case top["error"] != nil:
			return nil, "", fmt.Errorf("amd-smi: %v", top["error"])
		default:
			answer = []any{top}
		}
	}
	list, ok := answer.([]any)
	if !ok {
		return nil, "", fmt.Errorf("amd-smi: its answer is no list of cards")
	}
	for _, e := range list {
		fields, ok := e.(map[string]any)
		switch {
		case !ok:
			continue
		case fields["error"] != nil:
			return nil, "", fmt.Errorf("amd-smi: %v", fields["error"])
		case fields["gpu"] != nil:
			entries = append(entries, tree{fields})
		}
	}
	return entries, before, nil
}

// countErrors marks cards with memory errors that could not be corrected.
func countErrors(cards []card, text []byte) {
	entries, _, err := amdEntries(text)
	if err != nil {
		return
	}
	for _, e := range entries {
		n, ok := e.number("ecc", "total_uncorrectable_count")
		gpu, known := e.number("gpu")
		if !ok || !known || n <= 0 {
			continue
		}
		for i := range cards {
			if cards[i].smi == strconv.FormatInt(gpu, 10) {
				cards[i].fault = fmt.Sprintf("%d uncorrected memory errors", n)
			}
		}
	}
}

// tree is decoded JSON of which little is certain.
type tree struct{ value any }

func (t tree) at(path ...string) any {
	v := t.value
	for _, name := range path {
		fields, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = fields[name]
	}
	return v
}

// text returns a text, empty for N/A.
func (t tree) text(path ...string) string {
	s, _ := t.at(path...).(string)
	if s = strings.TrimSpace(s); s == "N/A" {
		return ""
	}
	return s
}

// number returns a whole number, written as such, as a text with or without a unit,
// or as value and unit.
func (t tree) number(path ...string) (int64, bool) {
	v := t.at(path...)
	if pair, ok := v.(map[string]any); ok {
		v = pair["value"]
	}
	switch v := v.(type) {
	case float64:
		if v >= 0 && v < 1<<53 {
			return int64(v), true
		}
	case string:
		number, _, _ := strings.Cut(strings.TrimSpace(v), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		return n, err == nil
	}
	return 0, false
}
