package batch

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
)

// Queue is one queue or partition as its batch system describes it. What it does not
// say is zero.
type Queue struct {
	Name string
	// Default is where jobs go that name no queue.
	Default bool
	// Closed is why it takes no jobs, in the system's words; empty when it does.
	Closed string
	// Walltime is the longest that a job may take; zero is no limit, or not said.
	Walltime time.Duration
	// Nodes are how many it has; Cores, Memory and GPUs those of its largest ones.
	Nodes  int
	Cores  int
	Memory protocol.ByteSize
	GPUs   int
}

// Lister is a System that can say which queues it has. It is asked when a site is
// set up, not in a pass.
type Lister interface {
	// Queues lists them, the default first, others by name. Errors are those of Status.
	Queues(ctx context.Context) ([]Queue, error)
}

// MergeQueues makes one queue of all lines of a name, the largest of each.
func MergeQueues(lines []Queue) []Queue {
	var all []Queue
	for _, l := range lines {
		at := slices.IndexFunc(all, func(q Queue) bool { return q.Name == l.Name })
		if at < 0 {
			all = append(all, l)
			continue
		}
		q := &all[at]
		q.Default = q.Default || l.Default
		q.Closed = cmp.Or(q.Closed, l.Closed)
		if q.Walltime == 0 || l.Walltime == 0 {
			q.Walltime = 0
		} else {
			q.Walltime = max(q.Walltime, l.Walltime)
		}
		q.Nodes += l.Nodes
		q.Cores, q.Memory, q.GPUs = max(q.Cores, l.Cores), max(q.Memory, l.Memory), max(q.GPUs, l.GPUs)
	}
	slices.SortFunc(all, func(a, b Queue) int {
		if a.Default != b.Default {
			if a.Default {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return all
}

// ParseSpan reads a walltime as batch systems print it: DAYS-HH:MM:SS, HH:MM:SS, MM:SS,
// or seconds. What stands for no limit, and what cannot be read, is zero.
func ParseSpan(s string) time.Duration {
	days, rest, dashed := strings.Cut(strings.TrimSpace(s), "-")
	if !dashed {
		days, rest = "0", days
	}
	total, err := strconv.ParseInt(days, 10, 32)
	if err != nil || total < 0 {
		return 0
	}
	seconds := int64(0)
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return 0
	}
	if dashed { // 2-12 is two days and twelve hours
		for len(parts) < 3 {
			parts = append(parts, "0")
		}
	}
	for _, p := range parts {
		n, err := strconv.ParseInt(p, 10, 32)
		if err != nil || n < 0 {
			return 0
		}
		seconds = seconds*60 + n
	}
	const most = int64(10 * 366 * 24 * 3600) // longer is no limit
	if seconds += total * 24 * 3600; seconds > most {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// ParseBytes reads a size as batch systems print it: a number and b, k, m, g or t, with
// or without a b behind, in powers of 1024. What cannot be read is zero.
func ParseBytes(s string) protocol.ByteSize {
	s = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "b")
	unit := float64(1)
	for i, letter := range []string{"k", "m", "g", "t"} {
		if t, ok := strings.CutSuffix(s, letter); ok {
			s, unit = t, float64(int64(1)<<(10*(i+1)))
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n*unit > float64(protocol.MaxByteSize) {
		return 0
	}
	return protocol.ByteSize(n * unit)
}
