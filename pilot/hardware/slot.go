package hardware

import (
	"bufio"
	"context"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
)

// slot is what the batch system says of this job in other ways than by plain
// variables. It is read once.
type slot struct {
	// machine and job are HTCondor's ads: lower-case names to unquoted values.
	machine, job map[string]string
	// asked is what PBS or Grid Engine answers about the job: resources by name.
	asked map[string]string
	// used is how much of its walltime the job has used, where PBS says so.
	used time.Duration
}

// readSlot asks what there is to ask. A batch system's server is asked at most once,
// and only where its variables leave the end of the slot open.
func (m *measurement) readSlot(ctx context.Context) {
	m.slot.machine = m.ad("_CONDOR_MACHINE_AD")
	m.slot.job = m.ad("_CONDOR_JOB_AD")
	switch {
	case m.env("FLOE_BATCH_END") != "" || m.env("FLOE_WALLTIME") != "" || m.env("PBS_WALLTIME") != "" || !m.End.IsZero():
	case m.env("PBS_JOBID") != "":
		if out, err := m.Run(ctx, "qstat", "-f", m.env("PBS_JOBID")); err == nil {
			m.slot.asked, m.slot.used = parseJob(string(out))
		}
	case m.env("SGE_ROOT") != "" && m.env("JOB_ID") != "":
		if out, err := m.Run(ctx, "qstat", "-j", m.env("JOB_ID")); err == nil {
			m.slot.asked = parseResourceList(string(out))
		}
	}
}

// ad reads the ClassAd that a variable names.
func (m *measurement) ad(variable string) map[string]string {
	file := m.env(variable)
	if file == "" {
		return nil
	}
	return parseAd(m.read(file))
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

// whole reads a value of an ad or of a table; an expression is no number.
func whole(table map[string]string, name string) int64 {
	n, err := strconv.ParseInt(table[name], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// feature reads one of the files that grid sites keep in the directories
// $JOBFEATURES and $MACHINEFEATURES, each holding one number. Source:
// HSF-TN-2016-02, Machine/Job Features.
func (m *measurement) feature(variable, name string) int64 {
	dir := m.env(variable)
	if !path.IsAbs(dir) { // some sites serve them by http
		return 0
	}
	n, err := strconv.ParseInt(m.read(path.Join(dir, name)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// parseJob reads qstat -f of PBS: what was asked for, by name, and the walltime
// used.
func parseJob(text string) (asked map[string]string, used time.Duration) {
	asked = make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok {
			continue
		}
		if name == "resources_used.walltime" {
			used, _ = parseSpan(value)
		} else if resource, ok := strings.CutPrefix(name, "Resource_List."); ok {
			asked[resource] = value
		}
	}
	return asked, used
}

// parseResourceList reads the hard resource list of Grid Engine's qstat -j.
func parseResourceList(text string) map[string]string {
	asked := make(map[string]string)
	for line := range strings.Lines(text) {
		list, ok := strings.CutPrefix(line, "hard resource_list:")
		if !ok {
			continue
		}
		for pair := range strings.SplitSeq(list, ",") {
			if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok {
				asked[name] = value
			}
		}
	}
	return asked
}

var pbsSize = regexp.MustCompile(`^([0-9]{1,12})(b|kb|mb|gb|tb)?$`)

// parseSize reads PBS's 4gb, which is 4 GiB; 0 for anything else.
func parseSize(s string) protocol.ByteSize {
	found := pbsSize.FindStringSubmatch(strings.ToLower(s))
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseInt(found[1], 10, 64) // the pattern lets only digits pass
	shift := 10 * strings.Index("bkmgt", (found[2] + "b")[:1])
	if n > int64(protocol.MaxByteSize)>>shift {
		return 0
	}
	return protocol.ByteSize(n) << shift
}
