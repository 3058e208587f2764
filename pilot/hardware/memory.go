package hardware

import (
	"strconv"
	"strings"

	"floe/protocol"
)

// Batch systems write MB and mean MiB.
const mib = protocol.ByteSize(1) << 20

// memory is the smallest of the node's memory, the cgroups' limits, the limit on
// address space and the grant; 0 where nothing is known.
func (m *measurement) memory(cores int) protocol.ByteSize {
	least := protocol.ByteSize(0)
	witness := func(n protocol.ByteSize, source string) {
		if n <= 0 || n > protocol.MaxByteSize {
			return
		}
		m.find("memory", n.String(), source)
		if least == 0 || n < least {
			least = n
		}
	}
	witness(memTotal(m.read("/proc/meminfo")), "/proc/meminfo")
	for _, dir := range m.cgroupDirs("memory") {
		for _, name := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
			// "max" and version 1's page-rounded largest number are no limits.
			if n, err := strconv.ParseInt(m.read(dir+"/"+name), 10, 64); err == nil {
				witness(protocol.ByteSize(n), dir+"/"+name)
			}
		}
	}
	if n, err := m.Kernel.AddressSpace(); err == nil {
		witness(n, "limit on address space")
	}
	if n, ok := m.mebibytes("SLURM_MEM_PER_NODE"); ok {
		witness(n, "$SLURM_MEM_PER_NODE")
	} else if n, ok := m.mebibytes("SLURM_MEM_PER_CPU"); ok {
		witness(n*protocol.ByteSize(cores), "$SLURM_MEM_PER_CPU × cores")
	}
	if n, err := strconv.ParseInt(m.machineAd()["memory"], 10, 32); err == nil {
		witness(protocol.ByteSize(n)*mib, "HTCondor machine ad")
	}
	return least
}

func (m *measurement) mebibytes(variable string) (protocol.ByteSize, bool) {
	n, err := strconv.ParseInt(m.env(variable), 10, 32)
	return protocol.ByteSize(n) * mib, err == nil && n > 0
}

// memTotal reads the total of /proc/meminfo.
func memTotal(text string) protocol.ByteSize {
	for line := range strings.SplitSeq(text, "\n") {
		rest, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 48)
		if err != nil {
			return 0
		}
		return protocol.ByteSize(n) << 10
	}
	return 0
}

// disk is the space left in the scratch directory, or the slot's share of it
// where HTCondor names one.
func (m *measurement) disk() protocol.ByteSize {
	if m.Scratch == "" {
		return 0
	}
	free, err := m.Kernel.Free(m.Scratch)
	if err != nil {
		m.problem("scratch directory %s: %v; no disk is offered", m.Scratch, err)
		return 0
	}
	m.find("disk", free.String(), "free in "+m.Scratch)
	if n, err := strconv.ParseInt(m.machineAd()["disk"], 10, 48); err == nil && n > 0 {
		share := protocol.ByteSize(n) << 10
		m.find("disk", share.String(), "HTCondor machine ad")
		free = min(free, share)
	}
	return free
}
