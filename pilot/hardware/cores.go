package hardware

import (
	"strconv"
	"strings"

	"floe/protocol"
)

// coreVariables say how many cores the batch system granted on this node, in
// the words of Slurm, PBS and Torque, Grid Engine and LSF. Those of one task come
// before those of the whole node, and of those before the ones that count several
// nodes.
var coreVariables = []string{
	"SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE",
	"PBS_NCPUS", "NCPUS", "PBS_NUM_PPN", "PBS_NP",
	"NSLOTS",
	"LSB_DJOB_NUMPROC",
}

// cores is the smallest of affinity, quota and grant, at least one.
func (m *measurement) cores() int {
	q := quantity{m: m, what: "cores", text: func(n int64) string { return strconv.FormatInt(n, 10) }}
	if n, err := m.Kernel.Affinity(); err == nil {
		q.see(int64(n), "affinity mask")
	}
	for _, dir := range m.cgroupDirs("cpu") {
		if quota, ok := m.quota(dir); ok {
			// A quota of half a core still runs one process at a time.
			q.see(max(1, int64(quota+0.001)), dir+" quota")
		}
	}
	for _, dir := range m.cgroupDirs("cpuset") {
		for _, name := range []string{"cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"} {
			if list := m.read(dir + "/" + name); list != "" {
				q.see(int64(countList(list)), dir+"/"+name)
				break
			}
		}
	}
	m.grantedCores(&q)
	return int(max(1, min(q.settle(true), protocol.MaxCores)))
}

// grantedCores hands on what the batch system says of cores.
func (m *measurement) grantedCores(q *quantity) {
	for _, name := range coreVariables {
		if n := m.envNumber(name); n > 0 {
			q.promise(n, "$"+name)
			break
		}
	}
	q.promise(whole(m.slot.machine, "cpus"), "HTCondor machine ad")
	q.promise(whole(m.slot.asked, "ncpus"), "qstat, ncpus")
	q.promise(m.feature("JOBFEATURES", "allocated_cpu"), "$JOBFEATURES/allocated_cpu")
}

// quota reads the processor quota of a cgroup in cores.
func (m *measurement) quota(dir string) (float64, bool) {
	limit, period := "", ""
	if text := m.read(dir + "/cpu.max"); text != "" {
		limit, period, _ = strings.Cut(text, " ")
	} else {
		limit, period = m.read(dir+"/cpu.cfs_quota_us"), m.read(dir+"/cpu.cfs_period_us")
	}
	l, err1 := strconv.ParseFloat(limit, 64)
	p, err2 := strconv.ParseFloat(strings.TrimSpace(period), 64)
	if err1 != nil || err2 != nil || !(l > 0 && p > 0) || l/p > 1<<20 {
		return 0, false
	}
	return l / p, true
}

// countList counts the members of a kernel list such as 0-3,8; 0 for anything else.
func countList(s string) int {
	n := 0
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.ParseUint(first, 10, 20)
		if err != nil {
			return 0
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(last, 10, 20); err != nil || b < a {
				return 0
			}
		}
		n += int(b-a) + 1
	}
	return n
}

// processor is the processor's name and features as the kernel shows them.
func (m *measurement) processor() (model string, features []string) {
	for line := range strings.SplitSeq(m.read("/proc/cpuinfo"), "\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		switch strings.TrimSpace(name) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags", "Features": // x86, Arm
			features = strings.Fields(value)
		}
		if model != "" && features != nil {
			break
		}
	}
	return model, features
}
