package condor

import (
	"bytes"
	"context"
	"encoding/json"

	"floe/glidein/batch"
	"floe/protocol"
)

// machine is what a pool says of one machine's slot; numbers are of the whole machine,
// memory in MiB.
type machine struct {
	Name   string  `json:"Machine"`
	Cores  float64 `json:"TotalCpus"` // a startd may be told to say halves
	Memory int64   `json:"TotalMemory"`
	GPUs   int     `json:"TotalGPUs"`
}

// Queues implements batch.Lister: HTCondor has none, so the pool is one without a name.
// A pool that has no machines of its own, such as that of a compute element, or none at
// this hour, is a queue of which nothing is known.
func (s *System) Queues(ctx context.Context) ([]batch.Queue, error) {
	var options []string
	if s.pool != "" {
		options = []string{"-pool", s.pool}
	}
	a, err := s.tool.Run(ctx, nil, "condor_status", append(options, "-json", "-attributes", "Machine,TotalCpus,TotalMemory,TotalGPUs")...)
	if err != nil {
		return nil, err
	}
	if a.Exit != 0 {
		return nil, a.Fail(batch.ErrTransient)
	}
	q, err := parseMachines(a.Stdout)
	if err != nil {
		return nil, a.Garbled(err.Error())
	}
	return []batch.Queue{q}, nil
}

func parseMachines(out []byte) (batch.Queue, error) {
	q := batch.Queue{Default: true}
	if len(bytes.TrimSpace(out)) == 0 {
		return q, nil
	}
	var slots []machine
	if err := json.Unmarshal(out, &slots); err != nil {
		return batch.Queue{}, err
	}
	names := map[string]bool{}
	for _, m := range slots {
		names[m.Name] = true
		q.Cores = max(q.Cores, min(int(m.Cores), protocol.MaxCores))
		q.GPUs = max(q.GPUs, min(m.GPUs, protocol.MaxGPUs))
		if m.Memory < int64(protocol.MaxByteSize)>>20 {
			q.Memory = max(q.Memory, protocol.ByteSize(m.Memory<<20))
		}
	}
	q.Nodes = len(names)
	return q, nil
}
