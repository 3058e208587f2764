package batchtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// Start starts a real batch system with scripts/batch-systems/NAME.sh, sets what
// its tools need in the environment, and stops it with the test. Where the script
// cannot work (no root, no packages), the test is skipped and says why;
// FLOE_TEST_BATCH=NAME,NAME makes that a failure. Packages that are tested at the
// same time have it one after the other.
func Start(t T, name string) {
	t.Helper()
	must := false
	for _, n := range strings.Split(os.Getenv("FLOE_TEST_BATCH"), ",") {
		must = must || n == name || n == "all"
	}
	if !must {
		t.Skipf("the real %s is tested with FLOE_TEST_BATCH=%s, or all", name, name)
	}
	script := script(t, name)
	run := func(verb string) []byte {
		c := exec.Command(script, verb)
		var said strings.Builder
		c.Stderr = &said
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s%s", script, verb, err, out, said.String())
		}
		return out
	}
	lock := flock.New(filepath.Join(os.TempDir(), "floe-test-"+name+".lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Unlock() }) // it falls with the process, too
	t.Cleanup(func() { run("stop") })
	run("start")
	for line := range strings.Lines(string(run("env"))) {
		for _, word := range strings.Fields(strings.TrimPrefix(line, "export ")) {
			if key, value, ok := strings.Cut(word, "="); ok {
				t.Setenv(key, strings.ReplaceAll(value, "$PATH", os.Getenv("PATH")))
			}
		}
	}
}

// script finds scripts/batch-systems from a package's directory.
func script(t T, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		file := filepath.Join(dir, "scripts", "batch-systems", name+".sh")
		if _, err := os.Stat(file); err == nil {
			return file
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("no scripts/batch-systems/%s.sh above %s", name, dir)
	return ""
}
