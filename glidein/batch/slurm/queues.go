package slurm

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"floe/glidein/batch"
	"floe/protocol"
)

// queueFormat are partition (with * where it is the default), availability, time
// limit, nodes, cores, memory in MiB and generic resources.
const queueFormat = "%P|%a|%l|%D|%c|%m|%G"

// Queues implements batch.Lister.
func (s *System) Queues(ctx context.Context) ([]batch.Queue, error) {
	a, err := s.tool.Run(ctx, nil, "sinfo", "--noheader", "--exact", "--format="+queueFormat)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	queues, err := parseQueues(string(a.Stdout))
	if err != nil {
		return nil, a.Garbled(err.Error())
	}
	return queues, nil
}

// cards finds the count in gpu:2, gpu:a100:4(S:0-1), beside other resources.
var cards = regexp.MustCompile(`(?:^|,)gpu(?::[^,:()]*)?:([0-9]+)`)

func parseQueues(text string) ([]batch.Queue, error) {
	var lines []batch.Queue
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.SplitN(line, "|", 7)
		if len(f) != 7 {
			return nil, fmt.Errorf("%q is not 7 fields", line)
		}
		q := batch.Queue{Walltime: batch.ParseSpan(f[2])}
		q.Name, q.Default = strings.CutSuffix(f[0], "*")
		if f[1] != "up" {
			q.Closed = f[1]
		}
		q.Nodes, _ = strconv.Atoi(f[3])
		q.Cores, _ = strconv.Atoi(strings.TrimSuffix(f[4], "+"))
		megabytes, _ := strconv.ParseInt(strings.TrimSuffix(f[5], "+"), 10, 40)
		q.Memory = protocol.ByteSize(megabytes << 20)
		for _, m := range cards.FindAllStringSubmatch(f[6], -1) {
			n, _ := strconv.Atoi(m[1])
			q.GPUs += n
		}
		lines = append(lines, q)
	}
	return batch.MergeQueues(lines), nil
}
