package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

// needCard skips a test where a pilot finds no device of OpenCL that passes its test,
// a processor under PoCL at least.
func needCard(t *testing.T) {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin(t), "floe-pilot"), "hwdetect", "--card", "OCL-0.0", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Resources protocol.Resources
		Report    struct{ Problems []string }
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Resources.GPUs) == 0 {
		t.Skipf("OpenCL finds no device, or clinfo and pocl-opencl-icd are not installed: %q", found.Report.Problems)
	}
	if !found.Resources.GPUs[0].Tested {
		t.Fatalf("%+v does not pass the self-test: %q", found.Resources.GPUs[0], found.Report.Problems)
	}
}

// TestSystemCards is Figure 9 of the paper: the pilot with a card follows the photons,
// others do the rest of the same jobs. Where photons may take cores instead, they do
// not wait for a card.
func TestSystemCards(t *testing.T) {
	needPython(t)
	needCard(t)
	t.Parallel()
	w := newWorld(t)
	w.isolation = "auto" // payloads reach their cards all the same
	dir, options := w.example("photon")
	text, err := os.ReadFile(filepath.Join(dir, "photon.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	either := string(text)
	for from, to := range map[string]string{
		"signal_muons: 6": "signal_muons: 1", "signal_emax: 10000": "signal_emax: 600",
		"background_muons: 12": "background_muons: 1", "oversize: 20": "oversize: 30",
	} {
		if !strings.Contains(either, from) {
			t.Fatalf("photon.yaml has no %q", from)
		}
		either = strings.Replace(either, from, to, 1)
	}
	start, end := strings.Index(either, "      alternatives:\n"), strings.Index(either, "    trays:\n      - name: photons")
	if start < 0 || end < start {
		t.Fatal("photon.yaml offers photons no alternative")
	}
	card := either[:start] + either[end:]

	w.joinSite(1, 2)
	first := w.submit(either, 1, options...)
	if code := w.finish(first); code != exitOK {
		t.Fatalf("wait for photons on cores: exit %d\n%s", code, w.story())
	}
	if c := w.counts(first)["photons/cards"]; c != (count{1, 0}) {
		t.Errorf("photons without a card used cards: %+v", c)
	}

	const jobs = 3
	second := w.submit(card, jobs, options...)
	w.until("cores have done all that needs no card", func() bool {
		for job := range jobs {
			if w.task(second, fmt.Sprintf("%d.signal", job)).State != protocol.TaskOK || w.task(second, fmt.Sprintf("%d.background", job)).State != protocol.TaskOK {
				return false
			}
		}
		return true
	})
	if said := w.ok("explain", fmt.Sprintf("%d.0.photons", second)); !strings.Contains(said, "GPUs") {
		t.Errorf("why photons wait: %q, want that a card is missing", said)
	}
	w.besides("cards").joinSiteAs("cards", 1, 1, "gpus = 1\ngpu_memory = \"1GB\"\ntags = [\"opencl-gpu\"]", "cards = [\"OCL-0.0\"]")
	if code := w.finish(second); code != exitOK {
		t.Fatalf("wait for photons on a card: exit %d\n%s\n%s", code, w.story(), w.besides("cards").story())
	}
	if c := w.counts(second)["photons/cards"]; c != (count{jobs, jobs}) {
		t.Errorf("photons used cards: %+v, want one in each of %d jobs", c, jobs)
	}
	for job := range jobs {
		for name, want := range map[string]struct {
			site protocol.SiteID // empty is any
			gpus int
		}{"background": {"here", 0}, "signal": {"here", 0}, "photons": {"cards", 1}, "detector-a": {"", 0}, "detector-b": {"", 0}} {
			a := w.task(second, fmt.Sprintf("%d.%s", job, name)).Attempts
			if len(a) != 1 || want.site != "" && a[0].Site != want.site || a[0].Usage.GPUs != want.gpus {
				t.Errorf("%s of job %d: attempts %+v, want one at site %q with %d cards", name, job, a, want.site, want.gpus)
			}
		}
	}
}
