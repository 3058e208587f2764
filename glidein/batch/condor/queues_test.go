package condor

import (
	"testing"

	"floe/glidein/batch"

	"github.com/google/go-cmp/cmp"
)

// TestMachines: slots of machines, as condor_status 23.9 prints them, are one queue
// without a name.
func TestMachines(t *testing.T) {
	for text, want := range map[string]batch.Queue{
		"": {Default: true},
		"[\n{\n  \"Machine\": \"vm\",\n  \"TotalCpus\": 2.0,\n  \"TotalGPUs\": 2,\n  \"TotalMemory\": 21695\n}\n,\n" +
			"{\n  \"Machine\": \"vm\",\n  \"TotalCpus\": 2.0,\n  \"TotalGPUs\": 2,\n  \"TotalMemory\": 21695\n}\n,\n" +
			"{\n  \"Machine\": \"large\",\n  \"TotalCpus\": 64.0,\n  \"TotalMemory\": 21000\n}\n]\n": {Default: true, Nodes: 2, Cores: 64, GPUs: 2, Memory: 21695 << 20},
	} {
		got, err := parseMachines([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: queue (-want +got):\n%s", text, d)
		}
	}
	if q, err := parseMachines([]byte("<html>")); err == nil {
		t.Errorf("of no list was made %+v", q)
	}
}

func FuzzMachines(f *testing.F) {
	f.Add([]byte(`[{"Machine":"vm","TotalCpus":2.0,"TotalGPUs":2,"TotalMemory":21695}]`))
	f.Add([]byte(`[{"Machine":"vm","TotalCpus":-1e300,"TotalGPUs":-2,"TotalMemory":-1}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := parseMachines(b); err == nil && (q.Nodes < 0 || q.Cores < 0 || q.GPUs < 0 || q.Memory < 0) {
			t.Fatalf("parsed %+v", q)
		}
	})
}
