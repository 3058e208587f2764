package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// predefinedDataset packs in one task and unpacks in the next, with predefined
// modules alone.
const predefinedDataset = `version: 3
tasks:
  - name: make
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - data:
          - {type: permanent, movement: input, local: first, remote: "file://DIR/first"}
          - {type: job_temp, movement: output, local: made.tar.zst, remote: ""}
        modules:
          - {name: hello, class: floe.hello, parameters: {greeting: job $(job) says hello}}
          - {name: sum, class: floe.checksum, parameters: {files: first, manifest: sums}}
          - {name: pack, class: floe.pack, parameters: {archive: made.tar.zst, files: first sums}}
  - name: read
    depends: [make]
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - data:
          - {type: job_temp, movement: input, local: made.tar.zst, remote: ""}
          - {type: permanent, movement: output, local: all, remote: "file://DIR/out/all.$(job)"}
        modules:
          - {name: unpack, class: floe.unpack, parameters: {archive: made.tar.zst}}
          - {name: sum, class: floe.checksum, parameters: {manifest: sums, verify: true}}
          - {name: merge, class: floe.merge, parameters: {files: first first*, output: all}}
          - {name: delete, class: floe.delete, parameters: {files: made.tar.zst}}
`

// TestSystemPredefinedModules runs them where they are meant to run: in a pilot
// that a pass launched, isolated where this machine allows it.
func TestSystemPredefinedModules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("first", "a line\n")
	const jobs = 2
	id := w.submit(predefinedDataset, jobs)
	w.joinSite(1, 2)
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	for job := range jobs {
		if got, err := os.ReadFile(filepath.Join(w.dir, "out", fmt.Sprintf("all.%d", job))); err != nil || string(got) != "a line\n" {
			t.Errorf("output of job %d: %q, %v", job, got, err)
		}
		if log := w.ok("logs", fmt.Sprintf("%d.%d.make", id, job)); !strings.Contains(log, fmt.Sprintf("job %d says hello\n", job)) {
			t.Errorf("log of job %d: %q", job, log)
		}
	}
	got := w.counts(id)
	for name, want := range map[string]count{"make/pack/files": {jobs, 2 * jobs}, "read/unpack/files": {jobs, 2 * jobs}, "read/merge/bytes": {jobs, 7 * jobs}, "read/delete/files": {jobs, jobs}} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("statistic %s (-want +got):\n%s\nall: %v", name, diff, got)
		}
	}
	// A misspelt parameter never becomes a dataset.
	file := w.write("wrong.yaml", strings.Replace(predefinedDataset, "archive: made.tar.zst, files", "archve: made.tar.zst, files", 1))
	if r := w.floe("submit", file); r.code != exitFailure || !strings.Contains(r.err, `did you mean "archive"?`) {
		t.Errorf("floe submit: exit %d, %s", r.code, r.err)
	}
}
