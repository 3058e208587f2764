package hardware

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"floe/protocol"
)

// kfdTopology is where the kernel's compute driver for AMD lists processors and
// cards, one directory for each.
const kfdTopology = "sys/class/kfd/kfd/topology/nodes"

// deviceMI300A is the number of the card whose memory, 128 GB of it, is that of the
// node, and which says to have most of it. Other processors of AMD set the memory of
// their graphics apart before the kernel counts its own.
// Source: pci.ids; ROCm, MI300A system optimization.
const deviceMI300A = 0x74a0

// kfdNodes lists the cards that the driver lets this process use, in its order,
// which is that of ROCR_VISIBLE_DEVICES. Others' files cannot be read.
func (m *measurement) kfdNodes() []card {
	entries, err := fs.ReadDir(m.Root, kfdTopology)
	if err != nil {
		return nil
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var nodes []card
	for _, n := range numbers {
		dir := fmt.Sprintf("/%s/%d", kfdTopology, n)
		p := parseProperties(m.read(dir + "/properties"))
		if p["simd_count"] == 0 || m.read(dir+"/gpu_id") == "0" {
			continue // a processor, or a card that is kept from us
		}
		c := card{tool: "kfd", index: strconv.Itoa(len(nodes))}
		c.ID = protocol.AMDIndex + c.index
		if id := p["unique_id"]; id != 0 {
			c.ID = fmt.Sprintf("GPU-%016x", id)
		}
		c.Model = "AMD " + gfxName(p["gfx_target_version"])
		at := p["location_id"]
		c.bus = fmt.Sprintf("%04x:%02x:%02x.%x", p["domain"], at>>8&0xff, at>>3&0x1f, at&7)
		c.Memory, c.unified = m.kfdMemory(dir), p["device_id"] == deviceMI300A
		nodes = append(nodes, c)
	}
	return nodes
}

// kfdCards are the driver's cards where nothing else tells of them.
func kfdCards(nodes []card) []card {
	for i := range nodes {
		if nodes[i].Memory == 0 && !nodes[i].unified {
			nodes[i].fault = "the driver does not say how much memory it has"
		}
	}
	return nodes
}

// kfdMemory sums the banks of a card's own memory: heaps 1 and 2, visible to the
// host or not.
func (m *measurement) kfdMemory(dir string) protocol.ByteSize {
	sum := protocol.ByteSize(0)
	for bank := range 4 {
		p := parseProperties(m.read(fmt.Sprintf("%s/mem_banks/%d/properties", dir, bank)))
		if heap := p["heap_type"]; (heap == 1 || heap == 2) && p["size_in_bytes"] < uint64(protocol.MaxByteSize)/4 {
			sum += protocol.ByteSize(p["size_in_bytes"])
		}
	}
	return sum
}

// parseProperties reads lines of a name and a number.
func parseProperties(text string) map[string]uint64 {
	out := make(map[string]uint64)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[name] = n
		}
	}
	return out
}

// gfxName writes 90402 as gfx942, and 90010 as gfx90a.
func gfxName(version uint64) string {
	return fmt.Sprintf("gfx%d%x%x", version/10000, version/100%100, version%100)
}
