package pilot

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"floe/pilot/hardware"
	"floe/protocol"
)

// withCards makes a pilot of a node with two cards, of which it is told after a
// failure what is wrong.
func withCards(faults map[string]string, asked *[]string) func(*Config) {
	return func(c *Config) {
		c.Measure = func(context.Context, hardware.Options) (protocol.Resources, hardware.Report) {
			return protocol.Resources{
				Cores: 2, Disk: protocol.GB, OS: "linux",
				GPUs: []protocol.GPU{{ID: "GPU-1", Tested: true}, {ID: "GPU-2", Tested: true}},
			}, hardware.Report{}
		}
		c.Faults = func(_ context.Context, _ hardware.Options, cards []string) map[string]string {
			*asked = append(*asked, cards...)
			return faults
		}
	}
}

func onOneCard(l *protocol.Lease) { l.Granted.GPUs = 1 }

func TestABadCardIsRetiredAndNotTheNode(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("echo CUDA error: unspecified launch failure; exit 3", ""), onOneCard)
	var asked []string
	p := f.newPilot(withCards(map[string]string{"GPU-1": "2 uncorrected memory errors"}, &asked))
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 1 || reports[0].Verdict != protocol.VerdictNode || !strings.Contains(reports[0].Evidence, "card GPU-1: 2 uncorrected memory errors; the task: ") {
		t.Fatalf("reports = %+v, want one with the verdict node and the card as evidence", reports)
	}
	if !slices.Equal(asked, []string{"GPU-1"}) {
		t.Errorf("cards %v were looked at, want the one that the task had", asked)
	}
	want := []protocol.GPU{{ID: "GPU-1"}, {ID: "GPU-2", Tested: true}}
	if last := f.last(); !slices.Equal(last.Free.GPUs, want) || last.Free.Cores != 2 {
		t.Errorf("afterwards the pilot offers %+v, want two cores and the other card", last.Free)
	}
}

func TestATaskThatFailsOnASoundCardIsToBlame(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("exit 3", ""), onOneCard)
	var asked []string
	if err := f.newPilot(withCards(nil, &asked)).live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reports := f.reports(); len(reports) != 1 || reports[0].Verdict != protocol.VerdictPayload || len(asked) != 1 {
		t.Errorf("reports = %+v after looking at %v, want the verdict payload", reports, asked)
	}
	if free := f.last().Free; !slices.Equal(free.GPUs, []protocol.GPU{{ID: "GPU-1", Tested: true}, {ID: "GPU-2", Tested: true}}) {
		t.Errorf("afterwards the pilot offers %+v, want both cards", free.GPUs)
	}
}

func TestNoCardIsLookedAtAfterSuccessOrWithoutOne(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("true", ""), onOneCard)
	f.lease(document("exit 3", ""))
	var asked []string
	if err := f.newPilot(withCards(map[string]string{"GPU-1": "broken"}, &asked)).live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(asked) > 0 {
		t.Errorf("cards %v were looked at", asked)
	}
}

func TestATaskWhoseCardWasRetiredOnTheWayDoesNotRunWithoutOne(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	ran := filepath.Join(t.TempDir(), "ran")
	f.lease(document("touch "+ran, ""), onOneCard)
	p := f.newPilot(func(c *Config) {
		c.Measure = func(context.Context, hardware.Options) (protocol.Resources, hardware.Report) {
			return protocol.Resources{Cores: 2, Disk: protocol.GB, OS: "linux", GPUs: []protocol.GPU{{ID: "GPU-1"}}}, hardware.Report{}
		}
	})
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reports := f.reports(); len(reports) != 1 || reports[0].Verdict != protocol.VerdictNode || !strings.Contains(reports[0].Evidence, "of 1 cards granted, 0 are sound") {
		t.Errorf("reports = %+v, want one with the verdict node", reports)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the task ran without its card")
	}
}
