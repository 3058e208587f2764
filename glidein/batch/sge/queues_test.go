package sge

import (
	"testing"
	"time"

	"floe/glidein/batch"

	"github.com/google/go-cmp/cmp"
)

func TestParseQueue(t *testing.T) {
	got := parseQueue("all.q", "qname                 all.q\nhostlist              @allhosts\nslots                 1,[a.example=8], \\\n                      [b.example=16]\ns_rt                  INFINITY\nh_rt                  48:00:00\nh_vmem                4G\n")
	want := batch.Queue{Name: "all.q", Walltime: 48 * time.Hour, Nodes: 2, Cores: 16, Memory: 4 << 30}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("queue (-want +got):\n%s", d)
	}
	if got := parseQueue("x", "h_rt INFINITY\nslots 4\n"); got != (batch.Queue{Name: "x", Cores: 4}) {
		t.Errorf("queue without limits = %+v", got)
	}
}
