package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// localSteering is two tasks with a file between them. The second is run only
// where the first left it.
const localSteering = `version: 3
options: {out: /nowhere, fail: "0"}
tasks:
  - name: make
    trays:
      - iterations: 2
        modules:
          - name: write
            src: /bin/sh
            args: ["-c", "echo making $(job).$(iter); echo $(job) >part.$(iter); echo '{\"parts\": 1}' >$FLOE_STATISTICS"]
            data: [{type: job_temp, movement: output, local: part.$(iter), remote: ""}]
  - name: merge
    depends: [make]
    trays:
      - modules:
          - name: cat
            src: /bin/sh
            args: ["-c", "echo merging >&2; cat part.0 part.1 >whole; exit $options(fail)"]
            data:
              - {type: job_temp, movement: input, local: part.0, remote: ""}
              - {type: job_temp, movement: input, local: part.1, remote: ""}
              - {type: permanent, movement: output, local: whole, remote: "file://$options(out)/whole.$(job)"}
`

// runLocally runs floe run in a directory that holds the file job.yaml.
func runLocally(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(localSteering), 0o600); err != nil {
		t.Fatal(err)
	}
	return runFloe(t, append([]string{"run", filepath.Join(dir, "job.yaml"), "--option", "out=" + dir}, args...)...)
}

// runFloe runs a command in this process.
func runFloe(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c := newRoot()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&errs)
	err := c.ExecuteContext(t.Context())
	if err != nil {
		errs.WriteString(err.Error())
	}
	return exitCode(err), out.String(), errs.String()
}

func TestRunOneJob(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	code, out, errs := runLocally(t, dir, "--job", "4")
	if code != exitOK {
		t.Fatalf("floe run = %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"make\tok\t", "merge\tok\t", "make\twrite:1/parts\t1\n", "file://" + dir + "/whole.4\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("stdout has no %q:\n%s", want, out)
		}
	}
	for _, want := range []string{"task 0 make\n", "making 4.1\n", "merging\n"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr, where the payloads are heard, has no %q:\n%s", want, errs)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "whole.4")); err != nil || string(b) != "4\n4\n" {
		t.Errorf("output = %q, %v", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "floe-run-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRunShowsVerdictAndEvidence(t *testing.T) {
	dir := t.TempDir()
	code, out, errs := runLocally(t, dir, "--option", "fail=7", "-q")
	if code != exitFailure || !strings.Contains(out, "merge\tpayload\t") || !strings.Contains(errs, "task merge: payload: module cat: ") || !strings.Contains(errs, "exit code 7") {
		t.Errorf("floe run of a failing job = %d\nstdout: %s\nstderr: %s", code, out, errs)
	}
	if strings.Contains(errs, "making") {
		t.Errorf("-q shows what payloads print: %s", errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "whole.0")); err == nil {
		t.Error("the output of a failed task was published")
	}
}

func TestRunOneTaskAgain(t *testing.T) {
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	code, _, errs := runLocally(t, dir, "--dir", work, "--task", "merge")
	if code != exitFailure || !strings.Contains(errs, "task merge: data: ") || !strings.Contains(errs, `"part.0"`) {
		t.Errorf("floe run --task merge without its inputs = %d: %s", code, errs)
	}
	if code, _, errs = runLocally(t, dir, "--dir", work, "--task", "make"); code != exitOK {
		t.Fatalf("floe run --task make = %d: %s", code, errs)
	}
	code, out, errs := runLocally(t, dir, "--dir", work, "--task", "merge", "-o", "json")
	var result struct {
		OK    bool
		Dir   string
		Tasks []struct {
			Name, Verdict string
			Outputs       []struct{ Published string }
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != exitOK {
		t.Fatalf("floe run -o json = %d, %v\n%s%s", code, err, out, errs)
	}
	if !result.OK || result.Dir != work || len(result.Tasks) != 1 || result.Tasks[0].Verdict != "ok" || result.Tasks[0].Outputs[0].Published != "file://"+dir+"/whole.0" {
		t.Errorf("floe run -o json = %+v", result)
	}
	if b, err := os.ReadFile(filepath.Join(work, "job-0", "task-1", "log")); err != nil || !strings.Contains(string(b), "merging") {
		t.Errorf("log that stays = %q, %v", b, err)
	}
}

func TestRunRefusesMistakes(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--task", "marge"}, exitUsage, "the tasks are make, merge"},
		{[]string{"--job", "3", "--jobs", "3"}, exitUsage, "the last job is 2"},
		{[]string{"-o", "xml"}, exitUsage, "want text or json"},
	} {
		if code, _, errs := runLocally(t, t.TempDir(), test.args...); code != test.code || !strings.Contains(errs, test.err) {
			t.Errorf("floe run %q = %d, want %d: %s", test.args, code, test.code, errs)
		}
	}
	var errs bytes.Buffer
	c := newRoot()
	c.SetArgs([]string{"run"})
	c.SetErr(&errs)
	if err := c.ExecuteContext(t.Context()); exitCode(err) != exitUsage {
		t.Errorf("floe run without a file: %v", err)
	}
}

// predefinedSteering uses each predefined module once.
const predefinedSteering = `version: 3
options: {out: /nowhere}
tasks:
  - name: files
    trays:
      - modules:
          - {class: floe.hello, parameters: {greeting: Hello $(job)}}
          - {class: floe.transfer, parameters: {source: "file://$options(out)/in.csv", destination: in.csv}}
          - {class: floe.merge, parameters: {files: [in.csv, in*], output: merged.csv, header: 1}}
          - {class: floe.checksum, parameters: {files: "*.csv", manifest: sums}}
          - {class: floe.checksum, parameters: {manifest: sums, verify: true}}
          - {class: floe.pack, parameters: {archive: "out.$(job).tgz", files: [merged.csv, sums]}}
          - {class: floe.delete, parameters: {files: "*.csv sums"}}
          - {class: floe.unpack, parameters: {archive: "out.$(job).tgz"}}
          - {class: floe.transfer, parameters: {source: "out.$(job).tgz", destination: "file://$options(out)/out.$(job).tgz"}}
`

func TestRunPredefinedModules(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for name, text := range map[string]string{"job.yaml": predefinedSteering, "in.csv": "e,x\n1,2\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := runFloe(t, "run", filepath.Join(dir, "job.yaml"), "--job", "3", "--option", "out="+dir)
	if code != exitOK {
		t.Fatalf("floe run = %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"Hello 3\n", "merged 1 files into merged.csv, 8 bytes", "are as sums says"} {
		if !strings.Contains(errs, want) {
			t.Errorf("the payloads did not say %q:\n%s", want, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out.3.tgz")); err != nil {
		t.Error(err)
	}
}

func TestRunSaysWhatTheSiteSays(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	text := "version: 3\ntasks: [{name: t, trays: [{modules: [{src: /bin/echo, args: \"from $system(downloads)\"}]}]}]\n"
	if err := os.WriteFile(filepath.Join(dir, "job.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runFloe(t, "run", filepath.Join(dir, "job.yaml"), "--system", "downloads=/data/in"); code != exitOK || !strings.Contains(errs, "from /data/in\n") {
		t.Errorf("floe run --system = %d: %s", code, errs)
	}
	if code, _, errs := runFloe(t, "run", filepath.Join(dir, "job.yaml")); code != exitFailure || !strings.Contains(errs, `says nothing of "downloads"`) {
		t.Errorf("floe run = %d: %s", code, errs)
	}
	work := filepath.Join(dir, "job.run")
	site := filepath.Join(dir, "site.toml")
	if err := os.WriteFile(site, []byte("[queue]\ntype = \"local\"\nname = \"q\"\n[system.values]\ndownloads = \"/data/site\"\n[env]\nSITE_WORD = \"hello\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runFloe(t, "run", filepath.Join(dir, "job.yaml"), "--config", site, "--dir", work); code != exitOK {
		t.Fatalf("floe run --config = %d: %s", code, errs)
	}
	awaitRun(t, work)
	if b, err := os.ReadFile(filepath.Join(work, "job-0", "batch-1", "output")); err != nil || !strings.Contains(string(b), "from /data/site\n") {
		t.Errorf("output of the batch job: %q, %v", b, err)
	}
}
