package pilot

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func leaseOf(ordinal uint32, r protocol.Requirements) *protocol.Lease {
	return &protocol.Lease{ID: protocol.LeaseID{Index: 1, Ordinal: ordinal}, Granted: r}
}

func TestPackingTakesAndGivesBack(t *testing.T) {
	all := protocol.Resources{
		Cores: 8, Memory: 16 * protocol.GB, Disk: 100 * protocol.GB,
		GPUs: []protocol.GPU{
			{ID: "small", Memory: 8 * protocol.GB, Capability: 60, Tested: true},
			{ID: "bad", Memory: 80 * protocol.GB, Capability: 90},
			{ID: "a", Memory: 40 * protocol.GB, Capability: 80, Tested: true},
			{ID: "b", Memory: 40 * protocol.GB, Capability: 80, Tested: true},
		},
	}
	p := newPacking(all, time.Time{})
	first := p.take(leaseOf(1, protocol.Requirements{Cores: 2, Memory: 4 * protocol.GB, GPUs: 1, GPUMemory: 20 * protocol.GB}))
	if first.cores != 2 || !slices.Equal(first.gpus, []string{"a"}) {
		t.Errorf("first = %+v, want two cores and the first card that is large enough", first)
	}
	second := p.take(leaseOf(2, protocol.Requirements{GPUs: 1, GPUCapability: 80}))
	if second.cores != 1 || !slices.Equal(second.gpus, []string{"b"}) {
		t.Errorf("second = %+v, want one core and a sound card that nobody has", second)
	}
	want := protocol.Resources{Cores: 5, Memory: 12 * protocol.GB, Disk: 100 * protocol.GB, GPUs: all.GPUs[:2]}
	if diff := cmp.Diff(want, p.free(time.Now())); diff != "" {
		t.Errorf("free: %s", diff)
	}
	p.take(leaseOf(3, protocol.Requirements{Cores: 64, Memory: 64 * protocol.GB, Disk: 1 << 50}))
	if f := p.free(time.Now()); f.Cores != 0 || f.Memory != 0 || f.Disk != 0 {
		t.Errorf("free of an overfull node = %+v", f)
	}
	for i := range uint32(4) {
		p.release(protocol.LeaseID{Index: 1, Ordinal: i})
	}
	if diff := cmp.Diff(all, p.free(time.Now())); diff != "" {
		t.Errorf("free in the end: %s", diff)
	}
}

func TestPackingTellsTheTimeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacking(protocol.Resources{Cores: 1}, time.Now().Add(time.Hour))
		time.Sleep(10 * time.Minute) //nolint:forbidigo // virtual time
		if f := p.free(time.Now()); f.Remaining != 3000 {
			t.Errorf("remaining = %d s, want 3000", f.Remaining)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // virtual time
		if f := p.free(time.Now()); f.Remaining != 1 {
			t.Errorf("remaining after the end = %d s; 0 would say that no end is known", f.Remaining)
		}
	})
}
