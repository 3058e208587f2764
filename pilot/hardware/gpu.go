package hardware

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"floe/protocol"
)

// maxGPUs is how many cards a registration may list. Source: coordinator/state.
const maxGPUs = 64

// card is a GPU as its vendor's tool lists it.
type card struct {
	protocol.GPU
	// vendor is who made it, tool what listed it.
	vendor, tool string
	// index is the number batch systems and runtimes give it; 0:1 is the second
	// instance of the first card.
	index string
	// smi is the number amd-smi gives it.
	smi string
	// parent and parentID are index and UUID of the card that an instance is a
	// part of, empty for a whole card.
	parent, parentID string
	// bus is the address on the PCI bus, as the kernel writes it.
	bus string
	// mig says that the card is divided; only its instances can be used.
	mig bool
	// unified says that the card has no memory but the node's.
	unified bool
	// fault is why no task may be sent to the card, empty where there is none.
	fault string
}

// Vendors of cards.
const (
	vendorNVIDIA = "NVIDIA"
	vendorAMD    = "AMD"
)

// errNone: the tool works and says that there is no card.
var errNone = errors.New("no card")

// gpus lists the cards that this slot may use, those of NVIDIA first.
// Of res it takes the memory of cards that have none of their own.
func (m *measurement) gpus(ctx context.Context, res *protocol.Resources) []protocol.GPU {
	nvidia := m.withoutMemory(m.probe(ctx, vendorNVIDIA, m.nvidia))
	amd := m.probe(ctx, vendorAMD, m.amd)
	cards := slices.Concat(m.nvidiaVisible(nvidia), m.amdVisible(amd, len(nvidia) == 0))
	cards = append(cards, m.opencl(ctx, len(nvidia) > 0, len(amd) > 0)...)
	cards = m.chosen(cards)
	if len(cards) > maxGPUs {
		m.problem("gpus: %d devices; only the first %d are offered", len(cards), maxGPUs)
		cards = cards[:maxGPUs]
	}
	if m.only != nil {
		cards = slices.DeleteFunc(cards, func(c card) bool { return !slices.Contains(m.only, c.ID) })
	}
	m.share(cards, res)
	results := m.test(ctx, cards)
	m.adviseOpenCL(results)
	var gpus []protocol.GPU
	sound := int64(0)
	for i, c := range cards {
		g, result := c.GPU, results[i]
		if result.fault != "" {
			m.problem("gpu %s: %s", c.ID, result.fault)
			m.faults[c.ID] = result.fault
		} else {
			g.Tested = true
			sound++
			if c.vendor == vendorNVIDIA || c.vendor == vendorAMD {
				m.features = append(m.features, "gpu-"+strings.ToLower(c.vendor))
			}
			m.find(GPUTestFinding, g.ID, result.by)
		}
		m.find("gpu", g.Model, fmt.Sprintf("%s: %s, %v, capability %d, tested %v", c.tool, g.ID, g.Memory, g.Capability, g.Tested))
		gpus = append(gpus, g)
	}
	m.compareGPUs(sound)
	return gpus
}

// chosen keeps the cards that the site names, where it names any.
func (m *measurement) chosen(cards []card) []card {
	if len(m.Cards) == 0 {
		return cards
	}
	var kept []card
	for n, id := range m.Cards {
		switch i := slices.IndexFunc(cards, func(c card) bool { return c.ID == id }); {
		case slices.Contains(m.Cards[:n], id):
		case i < 0:
			m.problem("gpu %s: the site names it, and it is not there or not given to this slot", id)
		default:
			kept = append(kept, cards[i])
		}
	}
	return kept
}

// adviseOpenCL advertises OpenCL for cards by the self-tests, where these ran, and not
// by what is listed.
func (m *measurement) adviseOpenCL(results []tested) {
	if slices.ContainsFunc(results, func(t tested) bool { return t.opencl }) {
		m.features = append(m.features, tagOpenCLGPU)
	} else if slices.ContainsFunc(results, func(t tested) bool { return t.ran }) {
		m.features = slices.DeleteFunc(m.features, func(f string) bool { return f == tagOpenCLGPU })
	}
}

// share gives cards without memory of their own half of what this slot has of the
// node's, in equal parts. The other half is what tasks can ask for beside: so what a
// card and the tasks around it were granted is there.
func (m *measurement) share(cards []card, res *protocol.Resources) {
	n := protocol.ByteSize(0)
	for i := range cards {
		if cards[i].unified && cards[i].fault == "" {
			n++
		}
	}
	if n == 0 {
		return
	}
	part := res.Memory / 2 / n
	for i := range cards {
		if c := &cards[i]; c.unified && c.fault == "" {
			if c.Memory = part; part == 0 && m.only == nil {
				c.fault = "it has no memory but the node's, and nothing says how much that is"
			}
		}
	}
	if res.Memory -= part * n; part > 0 {
		m.find("memory", res.Memory.String(), fmt.Sprintf("%v less for cards that share it", part*n))
		for i := range m.report.Comparisons {
			if c := &m.report.Comparisons[i]; c.What == "memory" {
				c.Offered = fmt.Sprintf("%v, and %v on cards", res.Memory, part*n)
			}
		}
	}
}

// Faults looks again at cards that were found before, and says of each that is no
// longer sound what is wrong with it. Others, which may be at work, are not tested.
func Faults(ctx context.Context, o Options, ids []string) map[string]string {
	m := &measurement{Options: o, only: ids}
	m.fill()
	found := m.gpus(ctx, new(protocol.Resources))
	for _, id := range ids {
		if !slices.ContainsFunc(found, func(g protocol.GPU) bool { return g.ID == id }) {
			m.faults[id] = strings.Join(append([]string{"it is no longer there"}, m.report.Problems...), "; ")
		}
	}
	return m.faults
}

// compareGPUs sets the cards that the batch system promised beside those found sound.
func (m *measurement) compareGPUs(sound int64) {
	promised, by := m.promisedGPUs()
	if promised == 0 && sound == 0 {
		return
	}
	c := Comparison{What: "gpus", Found: fmt.Sprint(sound), FoundBy: "the vendors' tools", Offered: fmt.Sprint(sound)}
	if promised > 0 {
		c.Promised, c.PromisedBy = fmt.Sprint(promised), by
		m.report.Findings = append(m.report.Findings, Finding{"gpus", c.Promised, by, true})
	}
	if promised > sound {
		c.Warning = fmt.Sprintf("gpus: %d promised (%s), %d sound and visible", promised, by, sound)
	}
	m.report.Comparisons = append(m.report.Comparisons, c)
}

// probe asks for the cards of a vendor. A node without the vendor's tool has none;
// a tool that fails is a problem, and none is offered: half a driver must not get
// tasks.
func (m *measurement) probe(ctx context.Context, vendor string, ask func(context.Context) ([]card, error)) []card {
	cards, err := ask(ctx)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil
	case errors.Is(err, errNone):
		m.find("gpu", "none", err.Error())
		return nil
	case err != nil:
		m.problem("gpus: %v; no card of %s is offered", err, vendor)
		return nil
	}
	for i := range cards {
		cards[i].vendor = vendor
	}
	return cards
}

// firstFault returns the first text that is a driver's complaint in place of a
// value. [N/A] and [Not Supported] are answers; [Unknown Error] and ERR! are not.
func firstFault(names, texts []string) string {
	for i, text := range texts {
		for _, sign := range []string{"Error", "ERR!", "lost", "requires reset"} {
			if strings.Contains(text, sign) {
				return fmt.Sprintf("%s is %s", names[min(i, len(names)-1)], text)
			}
		}
	}
	return ""
}
