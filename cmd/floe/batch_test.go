package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestBatchTest(t *testing.T) {
	dir := t.TempDir()
	plugin := filepath.Join(dir, "plugin")
	// It takes jobs and forgets them.
	if err := os.WriteFile(plugin, []byte(`#!/bin/sh
read -r r
case $r in
*'"verb":"properties"'*) echo '{"version": 1, "name": "forgetful", "lists": true}' ;;
*'"verb":"write-submit-file"'*) echo '{"submit_file": "/dev/null"}' ;;
*'"verb":"submit"'*) echo '{"ids": ["1"]}' ;;
*'"verb":"status"'*) echo '{"jobs": []}' ;;
*) echo "no such job" >&2; exit 4 ;;
esac
`), 0o700); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runFloe(t, "batch", "test", "--bad-queue", "none", "--wait", "2s", plugin)
	for _, want := range []string{
		"forgetful: no arrays, lists jobs by their names, ", "broken    LifeOfAJob: a job runs in its directory", `the job read the ticket ""`,
		"left out  QueuedJobIsRemoved: ", "kept      UnknownJob: ", "broken    Refused: ", "want ErrRefused", "kept      NothingThere: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("floe batch test lacks %q:\n%s", want, out)
		}
	}
	if code != exitFailure || !strings.Contains(errs, "broken: LifeOfAJob, ") {
		t.Errorf("floe batch test of a broken plugin = %d, %s; want %d and the names", code, errs, exitFailure)
	}

	through := filepath.Join(dir, "exec.toml")
	if err := os.WriteFile(through, []byte("[queue]\ntype = \"exec\"\nexec.command = [\"./plugin\"]\n[system]\npilot = \""+plugin+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := runFloe(t, "batch", "test", "--config", through, "--wait", "2s"); code != exitFailure || !strings.Contains(out, "forgetful: no arrays, ") {
		t.Errorf("floe batch test of a site with a plugin = %d\n%s%s", code, out, errs)
	}

	site := filepath.Join(dir, "site.toml")
	if err := os.WriteFile(site, []byte("[queue]\ntype = \"local\"\n[system]\npilot = \""+plugin+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var outcomes []struct{ Part, Verdict string }
	code, out, errs = runFloe(t, "batch", "test", "--config", site, "--wait", "5m", "-o", "json")
	if err := json.Unmarshal([]byte(out), &outcomes); err != nil || code != exitOK || len(outcomes) < 8 || outcomes[0] != (struct{ Part, Verdict string }{"LifeOfAJob", "kept"}) {
		t.Errorf("floe batch test of a local system = %d, %v\n%s%s", code, err, out, errs)
	}

	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "NAME=VALUE", []string{"--set", "x", plugin}},
		{exitUsage, "no such file", []string{"--dir", filepath.Join(dir, "none"), plugin}},
		{exitUsage, "one of them", []string{"--config", site, plugin}},
		{exitUsage, "neither a plugin nor a configuration", nil},
		{exitFailure, "no such file", []string{filepath.Join(dir, "none")}},
		{exitFailure, "on the PATH", []string{"no-such-plugin"}},
		{exitFailure, "cannot understand its answer", []string{"echo"}},
	} {
		t.Chdir(dir)
		if len(test.args) == 0 {
			t.Chdir(t.TempDir())
		}
		code, _, errs := runFloe(t, append([]string{"batch", "test"}, test.args...)...)
		if code != test.code || !strings.Contains(errs, test.want) {
			t.Errorf("floe batch test %v = %d, %s; want %d and %q", test.args, code, errs, test.code, test.want)
		}
	}
}

// TestBatchTestOfTheExample is the command of docs/plugins.md.
func TestBatchTestOfTheExample(t *testing.T) {
	if _, err := exec.LookPath("tsp"); err != nil {
		t.Skip("no tsp (Debian: task-spooler)")
	}
	dir, err := os.MkdirTemp("", "tsp") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TS_SOCKET", filepath.Join(dir, "socket"))
	t.Setenv("TS_SLOTS", "2")
	t.Cleanup(func() { _ = exec.Command("tsp", "-K").Run() }) // there may be none
	t.Chdir("../../docs/examples/plugin")
	code, out, errs := runFloe(t, "batch", "test", "--slots", "2", "--bad-queue", "none", "--wait", "5m", "./task-spooler")
	if code != exitOK || !strings.Contains(out, " kept, 0 broken, ") {
		t.Errorf("floe batch test ./task-spooler = %d\n%s%s", code, out, errs)
	}
}
