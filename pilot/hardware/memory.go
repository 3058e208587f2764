package hardware

import (
	"context"
	"strconv"
	"strings"

	"floe/protocol"
)

// Batch systems write MB and mean MiB.
const mib = protocol.ByteSize(1) << 20

// memory is the smallest of the node's memory, the cgroups' limits, the limit on
// address space and the grant; 0 where nothing is known.
func (m *measurement) memory(cores int) protocol.ByteSize {
	q := quantity{m: m, what: "memory", text: sizeText}
	see := func(n protocol.ByteSize, source string) {
		// Version 1's page-rounded largest number is no limit.
		if n <= protocol.MaxByteSize {
			q.see(int64(n), source)
		}
	}
	see(memTotal(m.read("/proc/meminfo")), "/proc/meminfo")
	for _, dir := range m.cgroupDirs("memory") {
		for _, name := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
			if n, err := strconv.ParseInt(m.read(dir+"/"+name), 10, 64); err == nil {
				see(protocol.ByteSize(n), dir+"/"+name)
			}
		}
	}
	if n, err := m.Kernel.AddressSpace(); err == nil {
		see(n, "limit on address space")
	}
	if n := m.mebibytes("SLURM_MEM_PER_NODE"); n > 0 {
		q.promise(n, "$SLURM_MEM_PER_NODE")
	} else {
		q.promise(m.mebibytes("SLURM_MEM_PER_CPU")*int64(cores), "$SLURM_MEM_PER_CPU × cores")
	}
	if n := whole(m.slot.machine, "memory"); n < 1<<31 {
		q.promise(n*int64(mib), "HTCondor machine ad")
	}
	q.promise(int64(parseSize(m.slot.asked["mem"])), "qstat, mem")
	if n := m.feature("JOBFEATURES", "max_rss_bytes"); n <= int64(protocol.MaxByteSize) {
		q.promise(n, "$JOBFEATURES/max_rss_bytes")
	}
	return protocol.ByteSize(q.settle(true))
}

func sizeText(n int64) string { return protocol.ByteSize(n).String() }

// mebibytes reads a variable of MiB as bytes; 0 is none.
func (m *measurement) mebibytes(variable string) int64 {
	n := m.envNumber(variable)
	if n >= 1<<31 {
		return 0
	}
	return n * int64(mib)
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

// disk is the space left in the scratch directory, or the slot's share of it where
// the batch system names one.
func (m *measurement) disk(ctx context.Context) protocol.ByteSize {
	if m.Scratch == "" {
		return 0
	}
	free, err := within(ctx, func() (protocol.ByteSize, error) { return m.Kernel.Free(m.Scratch) })
	if err != nil {
		m.problem("scratch directory %s: %v; no disk is offered", m.Scratch, err)
		return 0
	}
	q := quantity{m: m, what: "disk", text: sizeText}
	if free == 0 {
		m.problem("scratch directory %s: its disk is full", m.Scratch)
		return 0
	}
	q.see(int64(free), "free in "+m.Scratch)
	if n := whole(m.slot.machine, "disk"); n < 1<<50 {
		q.promise(n<<10, "HTCondor machine ad")
	}
	if n := m.feature("JOBFEATURES", "scratch_limit_bytes"); n <= int64(protocol.MaxByteSize) {
		q.promise(n, "$JOBFEATURES/scratch_limit_bytes")
	}
	return protocol.ByteSize(q.settle(false))
}
