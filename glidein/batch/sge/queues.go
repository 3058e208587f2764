package sge

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	"floe/glidein/batch"
)

var queueName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// Queues implements batch.Lister: each cluster queue of qconf -sql, as qconf -sq has it.
// Grid Engine chooses one by itself where a job names none.
func (s *System) Queues(ctx context.Context) ([]batch.Queue, error) {
	a, err := s.tool.Run(ctx, nil, "qconf", "-sql")
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	var queues []batch.Queue
	for _, name := range strings.Fields(string(a.Stdout)) {
		if !queueName.MatchString(name) {
			return nil, a.Garbled(name)
		}
		one, err := s.tool.Run(ctx, nil, "qconf", "-sq", name)
		if err != nil {
			return nil, err
		}
		if one.Exit != 0 {
			return nil, one.Fail(batch.ErrTransient)
		}
		queues = append(queues, parseQueue(name, string(one.Stdout)))
	}
	return batch.MergeQueues(queues), nil
}

// parseQueue reads the lines of qconf -sq: a key, blanks, a value, folded by a
// backslash. A value is followed by others for single hosts, in brackets.
func parseQueue(name, text string) batch.Queue {
	q := batch.Queue{Name: name}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		general, hosts, _ := strings.Cut(strings.TrimSpace(value), ",")
		switch key {
		case "h_rt":
			q.Walltime = batch.ParseSpan(general)
		case "h_vmem":
			q.Memory = batch.ParseBytes(general)
		case "slots":
			q.Cores, _ = strconv.Atoi(general)
			for _, m := range hostSlots.FindAllStringSubmatch(hosts, -1) {
				n, _ := strconv.Atoi(m[1])
				q.Cores = max(q.Cores, n)
				q.Nodes++
			}
		}
	}
	return q
}

var hostSlots = regexp.MustCompile(`\[[^\]=]+=([0-9]+)\]`)
