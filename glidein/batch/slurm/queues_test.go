package slurm

import (
	"testing"
	"time"

	"floe/glidein/batch"

	"github.com/google/go-cmp/cmp"
)

func TestParseQueues(t *testing.T) {
	got, err := parseQueues("long|up|14-00:00:00|10|32|257000|(null)\nshort*|up|1:00:00|10|32|257000|(null)\n" +
		"gpu|up|1-00:00:00|2|64|515000|gpu:a100:4(S:0-1),tmp:disk:1\ngpu|up|1-00:00:00|1|16|64000+|gpu:2\nold|drain|infinite|1|8|16000|(null)\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []batch.Queue{
		{Name: "short", Default: true, Walltime: time.Hour, Nodes: 10, Cores: 32, Memory: 257000 << 20},
		{Name: "gpu", Walltime: 24 * time.Hour, Nodes: 3, Cores: 64, Memory: 515000 << 20, GPUs: 4},
		{Name: "long", Walltime: 14 * 24 * time.Hour, Nodes: 10, Cores: 32, Memory: 257000 << 20},
		{Name: "old", Closed: "drain", Nodes: 1, Cores: 8, Memory: 16000 << 20},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("queues (-want +got):\n%s", d)
	}
	if _, err := parseQueues("slurm_load_partitions: Unable to contact slurm controller\n"); err == nil {
		t.Error("an error of sinfo was taken for queues")
	}
}
