package pilot

import (
	"context"
	"os"
	"os/exec"
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

// The node has a driver that knows two cards, and a tool that lists them. A task
// breaks its card; the tool sees nothing of it, the self-test does.
func TestACardThatATaskBreaksIsFoundByTheSelfTest(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	dir := t.TempDir()
	compile := exec.Command(gcc, "-O2", "-shared", "-fPIC", "-DCUDA", "hardware/testdata/selftest/fakecard.c", "-o", filepath.Join(dir, "libcuda.so.1"), "-lm")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", compile, err, out)
	}
	const one, two = "GPU-11111111-aaaa-bbbb-cccc-000000000001", "GPU-22222222-aaaa-bbbb-cccc-000000000002"
	tool := "#!/bin/sh\nprintf '0, " + one + ", Fake, 1024, 0, [N/A], 7.5\\n1, " + two + ", Fake, 1024, 0, [N/A], 7.5\\n'\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(tool), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("LD_LIBRARY_PATH", dir)
	t.Setenv("FAKECARD_FILE", filepath.Join(dir, "broken"))
	t.Setenv("CUDA_VISIBLE_DEVICES", one+","+two) // whatever cards this machine has

	f := newFakeCoordinators(t)
	f.lease(document("echo $CUDA_VISIBLE_DEVICES stuck > "+filepath.Join(dir, "broken")+"; exit 3", ""), onOneCard)
	p := f.newPilot(func(c *Config) { c.Cards = []string{one, two} })
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	const evidence = "card " + one + ": self-test: its memory does not keep what is written: 1 of 32768 words differ; the task: "
	if len(reports) != 1 || reports[0].Verdict != protocol.VerdictNode || !strings.Contains(reports[0].Evidence, evidence) {
		t.Fatalf("reports = %+v, want one with the verdict node and the evidence %q", reports, evidence)
	}
	free := f.last().Free.GPUs
	if len(free) != 2 || free[0].ID != one || free[0].Tested || free[1].ID != two || !free[1].Tested {
		t.Errorf("afterwards the pilot offers %+v, want the second card alone", free)
	}
	if first := f.first().Free.GPUs; len(first) != 2 || !first[0].Tested || !first[1].Tested {
		t.Errorf("before the task the pilot offers %+v, want both cards", first)
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

// The node's tool says that a card does nothing and a second one works without pause;
// modules go on until the tool was asked for their cards.
func TestWhatCardsDoIsReported(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	tool := "#!/bin/sh\necho \"$@\" >> " + asked + "\nprintf '0, GPU-1, 0, 1234\\n1, GPU-2, 100, 5\\n'\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(tool), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f := newFakeCoordinators(t)
	until := func(cards string) string {
		return document("until grep -qse --id="+cards+" "+asked+"; do sleep 0.02; done", "")
	}
	f.lease(until("GPU-1"), onOneCard)
	f.lease(until("GPU-1,GPU-2"), func(l *protocol.Lease) { l.Granted.GPUs = 2 })
	f.lease(document("true", ""))
	var faults []string
	if err := f.newPilot(withCards(nil, &faults)).live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 3 {
		t.Fatalf("%d reports, want 3", len(reports))
	}
	for _, r := range reports {
		if r.Verdict != protocol.VerdictOK || len(r.Modules) != 1 {
			t.Fatalf("report = %+v, want ok with one module", r)
		}
		for _, u := range []protocol.Usage{r.Usage, r.Modules[0].Usage} {
			busy, peak := u.GPUMillis, u.PeakGPUMemory
			switch known := busy != nil && peak != nil; {
			case r.Usage.GPUs == 0 && (busy != nil || peak != nil):
				t.Errorf("without a card: %+v", u)
			case r.Usage.GPUs == 1 && (!known || *busy != 0 || *peak != 1234<<20):
				t.Errorf("on the idle card: %+v", u)
			case r.Usage.GPUs == 2 && (!known || *busy <= 0 || *peak != (1234+5)<<20):
				t.Errorf("on both cards: %+v, busy %v", u, busy)
			}
		}
	}
}
