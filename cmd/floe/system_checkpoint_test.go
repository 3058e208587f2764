package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// half is a task that saves half of its work and waits; the attempt that goes on from
// there is done.
const half = `version: 3
tasks:
  - name: halves
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.5}
    trays:
      - modules:
          - src: DIR/halves.sh
            data: [{type: permanent, movement: output, local: left, remote: "file://DIR/out/$(job)"}]
`

// TestSystemCheckpoint takes a pilot away from a task that has saved its work: the
// next one goes on from there.
func TestSystemCheckpoint(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		signal syscall.Signal
		begin  string
		fates  string
	}{
		{"drained", syscall.SIGTERM, "trap 'echo half >state; floe-task checkpoint saved state; exit 1' TERM; ", "preempted ok"},
		{"killed", syscall.SIGKILL, "echo half >state; floe-task checkpoint saved state; ", "lost ok"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.joinSite(1, 1)
			w.write("halves.sh", `
				if [ -n "$FLOE_CHECKPOINT" ]; then
					cat "$FLOE_CHECKPOINT" >left; floe-task statistic resumed 1; exit
				fi
				`+test.begin+`floe-task progress 0.5 "half of it"
				`+w.gate("half"))
			id := w.submit(half, 1)
			w.until("half is done", func() bool { return w.exists("gate/half.reached") })
			w.until("people see it", func() bool {
				task := w.task(id, "0.halves")
				said := task.Progress
				return said != nil && said.Fraction == 0.5 && said.Text == "half of it" && (said.Checkpoint != nil || test.signal == syscall.SIGTERM)
			})
			if explained := ask[protocol.Explanation](w, "explain", fmt.Sprintf("%d.0.halves", id)); !strings.Contains(strings.Join(explained.Lines, "\n"), "50 % are done (half of it)") {
				t.Errorf("explain: %q", explained.Lines)
			}
			for _, pid := range w.pilotPIDs() {
				if err := syscall.Kill(pid, test.signal); err != nil {
					t.Fatal(err)
				}
			}
			if code := w.finish(id); code != exitOK {
				t.Errorf("wait: exit %d, want 0", code)
			}
			task := w.task(id, "0.halves")
			if fates(&task) != test.fates || task.Attempts[0].Pilot == task.Attempts[1].Pilot {
				t.Errorf("attempts: %+v, want %s under two pilots", task.Attempts, test.fates)
			}
			if b, err := os.ReadFile(filepath.Join(w.dir, "out/0")); err != nil || string(b) != "half\n" {
				t.Errorf("output %q, %v", b, err)
			}
			if diff := cmp.Diff(map[string]count{"halves/resumed": {1, 1}}, w.counts(id)); diff != "" {
				t.Errorf("statistics (-want +got):\n%s", diff)
			}
			if s := ask[protocol.StatisticsReply](w, "statistics", fmt.Sprint(id)); s.Used.KeptMillis <= 0 || s.Used.KeptMillis != task.Attempts[1].Usage.KeptMillis {
				t.Errorf("statistics say that %d ms were kept, the attempt %d", s.Used.KeptMillis, task.Attempts[1].Usage.KeptMillis)
			}
		})
	}
}

// TestSystemPilotFrozen freezes a pilot beyond its lease, while others take its task:
// when it is back its attempt does not count, and nothing counts twice.
func TestSystemPilotFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.joinSite(2, 1)
	id := w.submitDiamond(1, "[ $FLOE_ATTEMPT = 1 ] || exit 0\n"+w.gate("make"))
	w.until("the job runs", func() bool { return w.exists("gate/make.reached") })
	payload := w.reached("make")
	holder := w.task(id, "0.make").Pilot
	frozen := 0
	for _, pid := range w.pilotPIDs() {
		if isAncestor(pid, payload) {
			frozen = pid
		}
	}
	if frozen == 0 {
		t.Fatalf("none of the pilots %v runs %d", w.pilotPIDs(), payload)
	}
	if err := syscall.Kill(frozen, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	// The payload ends well while nobody watches it; then its pilot wakes up.
	w.open("make")
	w.until("the payload has ended", func() bool { return startOf(payload) == "" })
	if err := syscall.Kill(frozen, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.until("the pilot has left", func() bool { return startOf(frozen) == "" })
	w.checkDiamond(id, 1)
	task := w.task(id, "0.make")
	if fates(&task) != "lost ok" || task.Attempts[0].Pilot != holder || task.Attempts[1].Pilot == holder {
		t.Errorf("attempts of the task whose pilot was frozen: %+v", task.Attempts)
	}
}

// isAncestor tells whether one process is above another.
func isAncestor(pid, of int) bool {
	for of > 1 {
		if of == pid {
			return true
		}
		of = parentOf(of)
	}
	return false
}

func parentOf(pid int) (parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscanf(string(b[bytes.LastIndexByte(b, ')')+1:]), " %c %d", new(rune), &parent)
	return parent
}
