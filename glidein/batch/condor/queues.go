package condor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"floe/glidein/batch"
	"floe/protocol"
)

// Queues implements batch.Lister: a pool has one, without a name. HTCondor's machines
// tell what they have; it has no walltime of its own.
func (s *System) Queues(ctx context.Context) ([]batch.Queue, error) {
	a, err := s.tool.Run(ctx, nil, "condor_status", "-startd", "-af:,", "TotalCpus", "TotalMemory", "TotalGPUs", "Machine")
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	queue, err := parsePool(string(a.Stdout))
	if err != nil {
		return nil, a.Garbled(err.Error())
	}
	return []batch.Queue{queue}, nil
}

// parsePool reads a line per slot: cores, megabytes and cards of its machine, and the
// machine.
func parsePool(text string) (batch.Queue, error) {
	q := batch.Queue{Default: true}
	machines := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.SplitN(line, ",", 4)
		if len(f) != 4 {
			return q, fmt.Errorf("%q is not 4 fields", line)
		}
		number := func(s string) int64 {
			n, _ := strconv.ParseFloat(strings.TrimSpace(s), 64) // undefined is none
			return int64(n)
		}
		q.Cores, q.GPUs = max(q.Cores, int(number(f[0]))), max(q.GPUs, int(number(f[2])))
		q.Memory = max(q.Memory, protocol.ByteSize(number(f[1])<<20))
		machines[strings.TrimSpace(f[3])] = true
	}
	if q.Nodes = len(machines); q.Nodes == 0 {
		q.Closed = "the pool has no machines"
	}
	return q, nil
}
