package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// JobRange is the jobs First to Last, both included.
type JobRange struct {
	First JobIndex `cbor:"1,keyasint" json:"first"`
	Last  JobIndex `cbor:"2,keyasint" json:"last"`
}

// ParseJobs reads a selection of jobs such as "7", "0-9,12" or "100-": numbers
// and ranges separated by commas, in any order, below jobs. "all" and the empty
// text select every job. The answer is sorted and free of overlaps.
func ParseJobs(s string, jobs uint32) ([]JobRange, error) {
	if jobs == 0 {
		return nil, nil
	}
	last := JobIndex(jobs - 1)
	if s = strings.TrimSpace(s); s == "" || s == "all" {
		return []JobRange{{0, last}}, nil
	}
	var ranges []JobRange
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(from, 10, 32)
		end := first
		if err == nil && isRange && to != "" {
			end, err = strconv.ParseUint(to, 10, 32)
		} else if isRange {
			end = uint64(last)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("jobs %q: %q is not a job or a range; write such as 0-9,12", s, part)
		case first > uint64(last):
			return nil, fmt.Errorf("jobs %q: the dataset has jobs 0 to %d", s, last)
		case end < first:
			return nil, fmt.Errorf("jobs %q: the range %q runs backwards", s, part)
		case end > uint64(last):
			return nil, fmt.Errorf("jobs %q: the dataset has jobs 0 to %d", s, last)
		}
		ranges = append(ranges, JobRange{JobIndex(first), JobIndex(end)})
	}
	slices.SortFunc(ranges, func(a, b JobRange) int { return order(a.First, b.First) })
	merged := ranges[:1]
	for _, r := range ranges[1:] {
		if m := &merged[len(merged)-1]; uint64(r.First) <= uint64(m.Last)+1 {
			m.Last = max(m.Last, r.Last)
		} else {
			merged = append(merged, r)
		}
	}
	return merged, nil
}
