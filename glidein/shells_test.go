package glidein_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// shells are what sh is on some system, old ones among them.
var shells = [][]string{
	{"sh"}, {"dash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"mksh"}, {"ksh93"}, {"posh"},
}

// TestScriptUnderEveryShell runs the batch script as a batch system does, under each
// shell that is here: the pilot gets its arguments and variables as they were written,
// and nobody else may read what it makes.
func TestScriptUnderEveryShell(t *testing.T) {
	const odd = "it's \"odd\"; $(false) `false` \\ *\n ~ ü"
	p, _, c := newPass(t, 1, 1)
	c.want = 1
	pilot := filepath.Join(t.TempDir(), "floe pilot's")
	if err := os.WriteFile(pilot, []byte("#!/bin/sh\numask\nprintf '%s|' \"$GREETING\" \"$@\"\ncat \"$2\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.Config.System.Pilot = pilot
	p.Config.System.Scratch = odd
	p.Config.Env = map[string]string{"GREETING": odd}
	run(t, p)
	dir := filepath.Join(p.Config.Directory, "jobs", "floe-l1")
	want := strings.Join([]string{odd, "--ticket-file", "ticket", "--launch", "l1", "--scratch", odd, "--cache", "/cache"}, "|")
	for _, shell := range shells {
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			if _, err := exec.LookPath(shell[0]); err != nil {
				t.Skip(err)
			}
			job := exec.Command(shell[0], append(shell[1:], "./pilot.sh")...)
			job.Dir, job.Env = dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
			out, err := job.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			umask, said, _ := strings.Cut(string(out), "\n")
			if !strings.HasSuffix(umask, "77") {
				t.Errorf("umask %s, want 077", umask)
			}
			if d := cmp.Diff(want, said[:min(len(want), len(said))]); d != "" {
				t.Errorf("what the pilot got (-want +got):\n%s", d)
			}
			if !strings.HasSuffix(said, "|secret\n") {
				t.Errorf("the ticket is not where its argument says: %q", said[max(0, len(said)-20):])
			}
		})
	}
}
