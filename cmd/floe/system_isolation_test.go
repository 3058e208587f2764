package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

// curious fails if it sees what it should not, with what that is as its last line.
const curious = `for file in DIR/site/site.toml DIR/site/spool DIR/c1 DIR/admin; do
	if [ -e $file ]; then echo "sees $file"; exit 3; fi
done
if [ $(ls -d /proc/[0-9]* | wc -l) -gt 8 ]; then echo "sees other processes"; exit 4; fi
touch $HOME/planted 2>/dev/null
echo made >/tmp/here && cp /tmp/here result
echo "{\"pid\": $$}" >$FLOE_STATISTICS
`

const curiousTask = `version: 3
tasks:
  - name: look
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/curious.sh
            data: [{type: permanent, movement: output, local: result, remote: "file://DIR/out/result"}]
`

// TestSystemIsolation lets a pass launch a pilot whose payload sees nothing of it.
func TestSystemIsolation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shown, err := exec.Command(filepath.Join(bin(t), "floe-pilot"), "hwdetect", "--scratch", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), "isolation  none") {
		t.Skip("this machine does not allow it")
	}
	w.isolation = "require"
	w.write("curious.sh", strings.ReplaceAll(curious, "DIR", w.dir))
	w.joinSite(1, 2)
	id := w.submit(curiousTask, 1)
	code := w.finish(id)
	task := w.task(id, "0.look")
	if code != exitOK || task.State != protocol.TaskOK || !w.exists("out/result") {
		t.Errorf("wait: exit %d, task %v, %+v\n%s", code, task.State, task.Attempts, w.floe("logs", fmt.Sprintf("%d.0.look", id)).out)
	}
	if w.exists("planted") {
		t.Error("the payload wrote into the home directory")
	}
}
