package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"floe/protocol"
)

// needPython skips a test where the examples' interpreter is missing.
func needPython(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the example's programs")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
}

// example packs the software of an example, and returns where the example is and what
// submitting it takes: where the software is, and where outputs go.
func (w *world) example(name string) (dir string, options []string) {
	w.t.Helper()
	dir, err := filepath.Abs("../../docs/examples/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	build := exec.Command("sh", filepath.Join(dir, "build.sh"), w.dir)
	build.Stderr = os.Stderr
	text, err := build.Output()
	var software struct{ Path, Digest string }
	if err == nil {
		err = json.Unmarshal(text, &software)
	}
	if err != nil {
		w.t.Fatalf("build the example: %v", err)
	}
	return dir, []string{
		"--option", "software=file://" + software.Path, "--option", "software_digest=sha256:" + strings.TrimPrefix(software.Digest, "sha256:"),
		"--option", "outdir=file://" + w.dir + "/out",
	}
}

// TestSystemSky searches the Fermi-LAT map: a dataset of trials, and a second one
// that merges the files that were accepted of the first.
func TestSystemSky(t *testing.T) {
	needPython(t)
	t.Parallel()
	w := newWorld(t)
	example, options := w.example("sky")
	const jobs = 3
	trials, err := os.ReadFile(filepath.Join(example, "trials.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	options = append(options, "--option", "indir=file://"+example+"/data")
	w.joinSite(1, 2)
	few := strings.Replace(string(trials), "trials: 4", "trials: 1", 1)
	first := w.submit(few, jobs, options...)
	if code := w.finish(first); code != exitOK {
		t.Fatalf("wait for the trials: exit %d\n%s", code, w.story())
	}
	merge := exec.Command("python3", filepath.Join(example, "make_merge.py"), "file://"+example+"/data", "file://"+w.dir+"/out")
	merge.Stdin, merge.Stderr = strings.NewReader(w.ok("outputs", fmt.Sprint(first), "-o", "json")), os.Stderr
	document, err := merge.Output()
	if err != nil {
		t.Fatalf("make_merge.py: %v", err)
	}
	second := w.submit(string(document), 1, append(options[:6:6], "--parent", fmt.Sprint(first))...)
	if code := w.finish(second); code != exitOK {
		t.Fatalf("wait for the merge: exit %d\n%s", code, w.story())
	}
	if d := w.dataset(second); d.Parent != first {
		t.Errorf("parent of the merge: %d, want %d", d.Parent, first)
	}
	for _, o := range ask[[]protocol.Output](w, "outputs", fmt.Sprint(second)) {
		bytes, err := os.ReadFile(strings.TrimPrefix(o.URL, "file://"))
		if err != nil || protocol.DigestOf(bytes) != o.Digest {
			t.Errorf("%s: %v, or not what was recorded", o.URL, err)
		}
	}
	var report map[string]any
	text, err := os.ReadFile(filepath.Join(w.dir, "out", "report.json"))
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil || len(report) == 0 {
		t.Errorf("report.json: %v, %v", report, err)
	}
}

// TestSystemDemo interrupts scripts/demo while its jobs run, as Ctrl-C does:
// nothing of it goes on.
func TestSystemDemo(t *testing.T) {
	needPython(t)
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	log, err := os.Create(filepath.Join(w.dir, "demo.log"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(root, "scripts", "demo"))
	c.Env, c.Stdout, c.Stderr, c.Dir = append(os.Environ(), "FLOE_DEMO_JOBS=200"), log, log, w.dir
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's foreground group
	demo := w.watch(c, log)
	mine := fmt.Sprintf("-%d/", demo.Pid) // the run's directory ends so
	t.Cleanup(func() {
		runs, _ := filepath.Glob(filepath.Join(root, ".cache", "demo", "photon", "*"+strings.TrimSuffix(mine, "/")))
		for _, run := range runs {
			_ = os.RemoveAll(run)
		}
	})
	w.until("the demo's pilot runs", func() bool {
		select {
		case <-demo.ended:
			t.Fatalf("the demo ended: %s", w.log("demo"))
		default:
		}
		return slices.ContainsFunc(processesOf(mine), func(line string) bool { return strings.Contains(line, "floe-pilot") })
	})
	if err := syscall.Kill(-demo.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-demo.ended
	if code := demo.state.ExitCode(); code != exitInterrupted {
		t.Errorf("the demo ended with %v, want exit status %d", demo.state, exitInterrupted)
	}
	w.until("nothing of the demo runs", func() bool { return len(processesOf(mine)) == 0 })
}

// processesOf are the command lines of processes that name something.
func processesOf(what string) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []string
	for _, file := range files {
		b, _ := os.ReadFile(file)
		if text := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(text, what) {
			found = append(found, text)
		}
	}
	return found
}
