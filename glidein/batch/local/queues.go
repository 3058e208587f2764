package local

import (
	"context"
	"runtime"
	"syscall"

	"floe/glidein/batch"
	"floe/protocol"
)

// Queues implements batch.Lister: the machine itself, which has no name.
func (s *System) Queues(context.Context) ([]batch.Queue, error) {
	q := batch.Queue{Default: true, Nodes: 1, Cores: runtime.NumCPU()}
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil {
		q.Memory = protocol.ByteSize(info.Totalram) * protocol.ByteSize(info.Unit)
	}
	return []batch.Queue{q}, nil
}
