package pbs

import (
	"context"
	"strconv"
	"strings"

	"floe/glidein/batch"
)

// Queues implements batch.Lister: the execution queues of qstat -Q -f, and the server's
// default of qstat -B -f.
func (s *System) Queues(ctx context.Context) ([]batch.Queue, error) {
	a, err := s.tool.Run(ctx, nil, "qstat", "-Q", "-f")
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	server, err := s.tool.Run(ctx, nil, "qstat", "-B", "-f")
	if err != nil {
		return nil, err
	}
	return parseQueues(string(a.Stdout), string(server.Stdout)), nil
}

// parseQueues reads both answers: a line with a name, then "    key = value" lines.
func parseQueues(text, server string) []batch.Queue {
	first := ""
	for line := range strings.Lines(server) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "default_queue = "); ok {
			first = value
		}
	}
	var queues []batch.Queue
	routing := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "Queue: "); ok {
			queues = append(queues, batch.Queue{Name: name, Default: name == first})
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok || len(queues) == 0 {
			continue
		}
		q := &queues[len(queues)-1]
		switch key {
		case "queue_type":
			routing[q.Name] = strings.EqualFold(value, "route")
		case "enabled", "started":
			if strings.EqualFold(value, "false") {
				q.Closed = "not " + key
			}
		case "resources_max.walltime":
			q.Walltime = batch.ParseSpan(value)
		case "resources_max.ncpus":
			q.Cores, _ = strconv.Atoi(value)
		case "resources_max.mem":
			q.Memory = batch.ParseBytes(value)
		case "resources_max.ngpus":
			q.GPUs, _ = strconv.Atoi(value)
		}
	}
	// What a routing queue allows, those behind it say.
	for i := range queues {
		if routing[queues[i].Name] {
			queues[i].Walltime = 0
		}
	}
	return batch.MergeQueues(queues)
}
