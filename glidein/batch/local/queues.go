package local

import (
	"context"
	"runtime"

	"floe/glidein/batch"
)

// Queues implements batch.Lister: the machine itself, which has no name.
func (s *System) Queues(context.Context) ([]batch.Queue, error) {
	return []batch.Queue{{Default: true, Nodes: 1, Cores: runtime.NumCPU()}}, nil
}
