package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"floe/glidein/batch"
	"floe/glidein/batch/ssh/sshtest"
)

// TestSystemLoginNode has a site whose batch system is behind ssh: passes here,
// pilots there, in a directory of their own.
func TestSystemLoginNode(t *testing.T) {
	t.Parallel()
	server, there := sshtest.Serve(t, ""), sshtest.Short(t)
	w := newWorld(t)
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	// ssh reads the configuration of the user's own directory, not that of HOME.
	words := make([]string, len(server.Options))
	for i, o := range server.Options {
		words[i] = batch.Quote(o)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("bin/ssh", "#!/bin/sh\nexec "+ssh+" "+strings.Join(words, " ")+" \"$@\"\n")
	w.env = append(w.env, "PATH="+filepath.Join(w.dir, "bin")+":"+os.Getenv("PATH"))
	far := *w
	far.site = there
	t.Cleanup(far.endPilots)
	w.joinSiteAs("here", 1, 1, "ssh = \""+sshtest.Host+":"+there+"\"", "")
	id := w.submit(`version: 3
tasks:
  - name: where
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays: [{modules: [{src: /bin/sh, args: [-c, 'pwd; echo done']}]}]
`, 2)
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
	}
	if log := w.ok("logs", "1.1.where"); !strings.Contains(log, filepath.Join(there, "scratch")) || !strings.Contains(log, "done\n") {
		t.Errorf("log %q, want the task to have run below %s", log, there)
	}
	if _, err := os.Stat(filepath.Join(there, siteKeyFile)); err == nil {
		t.Error("the site's key was copied to the login node")
	}
	far.endPilots()
	w.until("what the pilot printed has come back", func() bool {
		outputs, _ := filepath.Glob(filepath.Join(w.site, "ended", "*", batch.Output))
		left, _ := filepath.Glob(filepath.Join(there, "jobs", "*"))
		return len(outputs) > 0 && len(left) == 0
	})
}
