package batch

import (
	"testing"
	"time"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestParseSpan(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1:00:00": time.Hour, "1-00:00:00": 24 * time.Hour, "2-12": 60 * time.Hour, "30:00": 30 * time.Minute, "3600": time.Hour,
		"infinite": 0, "UNLIMITED": 0, "INFINITY": 0, "": 0, "-1": 0, "1:2:3:4": 0, "x:1": 0, "99999999-00:00:00": 0, "9999:99:99": 9999*time.Hour + 99*time.Minute + 99*time.Second,
	} {
		if got := ParseSpan(in); got != want {
			t.Errorf("ParseSpan(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]protocol.ByteSize{"2gb": 2 << 30, "4G": 4 << 30, "1.5M": 3 << 19, "1024": 1024, "7kb": 7168, "INFINITY": 0, "-1g": 0, "": 0, "1e300t": 0} {
		if got := ParseBytes(in); got != want {
			t.Errorf("ParseBytes(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestMergeQueues(t *testing.T) {
	got := MergeQueues([]Queue{
		{Name: "b", Walltime: time.Hour, Nodes: 1, Cores: 8, Memory: 5},
		{Name: "a", Nodes: 1},
		{Name: "c", Default: true},
		{Name: "b", Walltime: 2 * time.Hour, Nodes: 3, Cores: 4, GPUs: 2, Closed: "down"},
	})
	want := []Queue{{Name: "c", Default: true}, {Name: "a", Nodes: 1}, {Name: "b", Walltime: 2 * time.Hour, Nodes: 4, Cores: 8, Memory: 5, GPUs: 2, Closed: "down"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("merged (-want +got):\n%s", d)
	}
}
