package hardware

import (
	"bufio"
	"strconv"
	"strings"
)

// coreVariables say how many cores the batch system granted on this node, in
// the words of Slurm, PBS and Torque, Grid Engine and LSF. Those of one task
// come before those of the whole node.
var coreVariables = []string{
	"SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE",
	"PBS_NCPUS", "NCPUS", "PBS_NP",
	"NSLOTS",
	"LSB_DJOB_NUMPROC",
}

// cores is the smallest of affinity, quota and grant, at least one.
func (m *measurement) cores() int {
	least := 0
	witness := func(n int, source string) {
		if n <= 0 {
			return
		}
		m.find("cores", strconv.Itoa(n), source)
		if least == 0 || n < least {
			least = n
		}
	}
	if n, err := m.Kernel.Affinity(); err == nil {
		witness(n, "affinity mask")
	}
	for _, dir := range m.cgroupDirs("cpu") {
		if quota, ok := m.quota(dir); ok {
			// A quota of half a core still runs one process at a time.
			witness(max(1, int(quota+0.001)), dir+" quota")
		}
	}
	for _, dir := range m.cgroupDirs("cpuset") {
		for _, name := range []string{"cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"} {
			if list := m.read(dir + "/" + name); list != "" {
				witness(countList(list), dir+"/"+name)
				break
			}
		}
	}
	for _, name := range coreVariables {
		if n, err := strconv.Atoi(m.env(name)); err == nil {
			witness(n, "$"+name)
			break
		}
	}
	if n, err := strconv.Atoi(m.machineAd()["cpus"]); err == nil {
		witness(n, "HTCondor machine ad")
	}
	return max(1, least)
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

// machineAd reads HTCondor's description of the slot: lower-case names to
// unquoted values, empty where there is none.
func (m *measurement) machineAd() map[string]string {
	path := m.env("_CONDOR_MACHINE_AD")
	if path == "" {
		return nil
	}
	return parseAd(m.read(path))
}

// parseAd reads the lines NAME = VALUE of a ClassAd.
func parseAd(text string) map[string]string {
	ad := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if ok {
			ad[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ad
}

// model is the processor's name as the kernel shows it.
func (m *measurement) model() string {
	for line := range strings.SplitSeq(m.read("/proc/cpuinfo"), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
