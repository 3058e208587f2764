package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

const imageTask = `version: 3.2
tasks:
  - name: look
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    container: small/1.0
    trays:
      - modules:
          - src: /opt/look.sh
            data: [{type: permanent, movement: output, local: result, remote: "file://DIR/out/result"}]
`

// TestSystemImages publishes a root file system, and a task runs in it: only on a pilot
// that can, of a site that says so. A container that nobody published is refused.
func TestSystemImages(t *testing.T) {
	t.Parallel()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("no busybox (Debian: busybox-static)")
	}
	w := newWorld(t)
	shown, err := exec.Command(filepath.Join(bin(t), "floe-pilot"), "hwdetect", "--scratch", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(shown), "own namespaces: unpacked images") {
		t.Skipf("this machine does not allow it:\n%s", shown)
	}
	w.isolation = "auto"
	image := filepath.Join(w.dir, "image")
	for _, dir := range []string{"bin", "opt", "etc"} {
		if err := os.MkdirAll(filepath.Join(image, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"bin/busybox": string(busybox), "etc/os-release": "ID=small\n",
		"opt/look.sh": "#!/bin/sh\ncat /etc/os-release >result && floe-task statistic seen 1 && test ! -e /usr\n",
	} {
		if err := os.WriteFile(filepath.Join(image, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "cat", "test"} {
		if err := os.Symlink("busybox", filepath.Join(image, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	file := w.write("early.yaml", imageTask)
	if r := w.floe("submit", file); r.code != exitFailure || !strings.Contains(r.err, "no software named small") {
		t.Errorf("submit before publishing: exit %d, %s", r.code, r.err)
	}
	ann := w.publisher("ann")
	w.ok("software", "trust", "ann", ann.key.String(), "--keys", filepath.Join(w.nodes["c1"].dir, "keys"))
	if r := ann.as("software", "publish", "small", "1.0", image, "--platform", "linux-"+machine(w)); r.code != exitOK {
		t.Fatalf("publish: exit %d, %s", r.code, r.err)
	}
	w.joinSiteAs("here", 1, 1, fmt.Sprintf("tags = [%q]", protocol.ImageTreeTag), "")
	id := w.submit(imageTask, 1)
	code := w.finish(id)
	task := w.task(id, "0.look")
	result, err := os.ReadFile(filepath.Join(w.dir, "out", "result"))
	if code != exitOK || task.State != protocol.TaskOK || err != nil || string(result) != "ID=small\n" {
		t.Errorf("wait: exit %d, task %v, %+v, result %q, %v\n%s", code, task.State, task.Attempts, result, err, w.floe("logs", fmt.Sprintf("%d.0.look", id)).out)
	}
	if !strings.Contains(w.ok("statistics", fmt.Sprint(id)), "seen") {
		t.Error("the statistic that was told in the image did not arrive")
	}
}
