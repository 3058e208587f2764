package pbs

import (
	"testing"
	"time"

	"floe/glidein/batch"

	"github.com/google/go-cmp/cmp"
)

func TestParseQueues(t *testing.T) {
	got := parseQueues(`Queue: workq
    queue_type = Execution
    total_jobs = 0
    resources_max.walltime = 24:00:00
    resources_max.ncpus = 32
    resources_max.mem = 64gb
    enabled = True
    started = True

Queue: old
    queue_type = Execution
    enabled = True
    started = False

Queue: feed
    queue_type = Route
    resources_max.walltime = 01:00:00
`, "Server: pbs\n    server_state = Active\n    default_queue = workq\n")
	want := []batch.Queue{
		{Name: "workq", Default: true, Walltime: 24 * time.Hour, Cores: 32, Memory: 64 << 30},
		{Name: "feed"},
		{Name: "old", Closed: "not started"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("queues (-want +got):\n%s", d)
	}
}
