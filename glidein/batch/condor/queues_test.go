package condor

import (
	"testing"

	"floe/glidein/batch"

	"github.com/google/go-cmp/cmp"
)

func TestParsePool(t *testing.T) {
	got, err := parsePool("8, 16000, undefined, a.example\n8, 16000, undefined, a.example\n64.0, 257000, 4, b.example\n")
	want := batch.Queue{Default: true, Nodes: 2, Cores: 64, Memory: 257000 << 20, GPUs: 4}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("pool, %v (-want +got):\n%s", err, d)
	}
	if q, err := parsePool("\n"); err != nil || q.Closed == "" {
		t.Errorf("pool without machines = %+v, %v", q, err)
	}
	if _, err := parsePool("Error: communication error\n"); err == nil {
		t.Error("an error was taken for machines")
	}
}
