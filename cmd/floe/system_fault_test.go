package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// faults is a task for each way in which a payload goes wrong.
const faults = `version: 3
tasks:
  - {name: crash, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: DIR/crash.sh}]}]}
  - {name: exit, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: DIR/exit.sh}]}]}
  - {name: hang, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.0006}, trays: [{modules: [{src: DIR/hang.sh}]}]}
  - {name: hog, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: DIR/hog.py}]}]}
  - {name: daemon, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: DIR/daemon.sh}]}]}
  - name: silent
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: DIR/silent.sh
            data: [{type: permanent, movement: output, local: result, remote: "file://DIR/out/result"}]
  - {name: nan, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: DIR/nan.sh}]}]}
`

// TestSystemPayloadFaults gives a pilot payloads that go wrong in every way we know
// of. Each is judged by what it did, tried again as its budget allows, and held;
// reset runs it again once it is mended.
func TestSystemPayloadFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const daemons = 20
	mended := "[ -e " + w.dir + "/mended ] && exit 0\n"
	w.write("crash.sh", mended+"echo about to crash\nkill -SEGV $$\n")
	w.write("exit.sh", mended+"echo no such event\nexit 42\n")
	// Too long for the time it asked for; in the second attempt short.
	w.write("hang.sh", "[ $FLOE_ATTEMPT = 1 ] && exec sleep 60\nexit 0\n")
	// 200 MB fit into what was asked for after two raises: 100, 150, 225.
	w.write("hog.py", "import time\nhog = bytearray(200_000_000)\nfor i in range(0, len(hog), 4096): hog[i] = 1\ntime.sleep(1)\n")
	// Twenty, each two generations away and in a session of its own. The first process
	// waits until all have begun, while their parents come and go.
	w.write("daemon.sh", fmt.Sprintf("i=0\nwhile [ $i -lt %[2]d ]; do\n\tsetsid sh -c 'sh -c \"echo \\$\\$ >>%[1]s/daemons; exec sleep 120\" &' &\n\ti=$((i+1))\ndone\n"+
		"while [ ! -e %[1]s/daemons ] || [ $(wc -l <%[1]s/daemons) -lt %[2]d ]; do sleep 0.02; done\necho '{\"left\": 1}' >$FLOE_STATISTICS\n", w.dir, daemons))
	w.write("silent.sh", "[ -e "+w.dir+"/mended ] && echo here >result\nexit 0\n")
	w.write("nan.sh", "[ -e "+w.dir+"/mended ] && echo '{\"mass\": 1.5}' >$FLOE_STATISTICS && exit 0\necho '{\"mass\": NaN}' >$FLOE_STATISTICS\n")
	w.joinSite(1, 2)
	id := w.submit(faults, 1)
	if code := w.finish(id); code != exitWaitFailed {
		t.Errorf("wait: exit %d, want %d", code, exitWaitFailed)
	}
	if d := w.dataset(id); d.State != protocol.DatasetErrors || d.JobCounts["error"] != 1 {
		t.Errorf("the dataset is %v, jobs %v", d.State, d.JobCounts)
	}
	for _, test := range []struct {
		task     string
		state    protocol.TaskState
		fates    string
		evidence string // of the first attempt
		exit     int
		signal   syscall.Signal
	}{
		{"crash", protocol.TaskError, "payload payload payload", "SIGSEGV", 0, syscall.SIGSEGV},
		{"exit", protocol.TaskError, "payload payload payload", "exit code 42; log ends: no such event", 42, 0},
		{"hang", protocol.TaskOK, "walltime ok", "limit", 0, syscall.SIGTERM},
		{"hog", protocol.TaskOK, "memory memory ok", "limit", 0, syscall.SIGKILL},
		{"daemon", protocol.TaskOK, "ok", "", 0, 0},
		{"silent", protocol.TaskError, "payload payload payload", "result", 0, 0},
		{"nan", protocol.TaskError, "payload payload payload", "mass", 0, 0},
	} {
		task := w.task(id, "0."+test.task)
		if task.State != test.state || fates(&task) != test.fates {
			t.Errorf("task %s is %v after %q, want %v after %q", test.task, task.State, fates(&task), test.state, test.fates)
		}
		if len(task.Attempts) == 0 {
			continue
		}
		first := task.Attempts[0]
		if !strings.Contains(first.Evidence, test.evidence) || first.ExitCode != test.exit || first.Signal != int(test.signal) {
			t.Errorf("first attempt of %s: evidence %q, exit %d, signal %d, want %q, %d, %d",
				test.task, first.Evidence, first.ExitCode, first.Signal, test.evidence, test.exit, test.signal)
		}
	}
	left, err := os.ReadFile(filepath.Join(w.dir, "daemons"))
	pids := strings.Fields(string(left))
	if err != nil || len(pids) != daemons {
		t.Errorf("daemons that were left behind: %q, %v, want %d", pids, err, daemons)
	}
	for _, text := range pids {
		if pid, err := strconv.Atoi(text); err != nil || startOf(pid) != "" {
			t.Errorf("process %s that a payload left behind still runs", text)
		}
	}
	if text := w.ok("logs", fmt.Sprintf("%d.0.crash", id), "--attempt", "2"); !strings.Contains(text, "about to crash") {
		t.Errorf("log of a crashed attempt: %q", text)
	}
	if explained := ask[protocol.Explanation](w, "explain", fmt.Sprintf("%d.0.exit", id)); !strings.Contains(strings.Join(explained.Lines, "\n"), "budget is spent") {
		t.Errorf("explain of a task in error: %q", explained.Lines)
	}

	w.write("mended", "")
	if did := ask[protocol.ActionReply](w, "reset", fmt.Sprint(id), "--reason", "mended"); did.Tasks != 4 || !did.Applied {
		t.Errorf("reset: %+v, want 4 tasks", did)
	}
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait after the reset: exit %d, want 0", code)
	}
	if diff := cmp.Diff(map[string]count{"daemon/left": {1, 1}, "nan/mass": {1, 1.5}}, w.counts(id)); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
}

// TestSystemPilotKilled kills a pilot whose tasks run: they run again under another
// when their leases have lapsed, and count once.
func TestSystemPilotKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.joinSite(1, 2)
	const jobs = 3
	id := w.submitDiamond(jobs, "[ $FLOE_ATTEMPT = 1 ] && [ $FLOE_JOB = 0 ] || exit 0\n"+w.gate("make"))
	w.until("the first job runs", func() bool { return w.exists("gate/make.reached") })
	for _, pid := range w.pilotPIDs() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	payload := w.reached("make")
	w.until("the payload has died with its pilot", func() bool { return startOf(payload) == "" })
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	w.checkDiamond(id, jobs)
	if task := w.task(id, "0.make"); fates(&task) != "lost ok" || task.Attempts[0].Pilot == task.Attempts[1].Pilot {
		t.Errorf("attempts of the task whose pilot was killed: %+v", task.Attempts)
	}
}

// reached is the process that waits at a gate.
func (w *world) reached(gate string) int {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "gate", gate+".reached"))
	var pid int
	if _, scanErr := fmt.Sscan(string(text), &pid); err != nil || scanErr != nil {
		w.t.Fatalf("gate %s: %v, %v", gate, err, scanErr)
	}
	return pid
}

// TestSystemReset resets a task that runs: its payload is stopped, and what it
// would have reported does not count.
func TestSystemReset(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		t.Run(map[bool]string{false: "pilot listens", true: "pilot is frozen"}[frozen], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.joinSite(1, 1)
			id := w.submitDiamond(1, "echo \"{\\\"made\\\": 1, \\\"index\\\": $FLOE_JOB.25, \\\"attempt\\\": $FLOE_ATTEMPT}\" >$FLOE_STATISTICS\n[ $FLOE_ATTEMPT = 1 ] || exit 0\n"+w.gate("make"))
			w.until("the job runs", func() bool { return w.exists("gate/make.reached") })
			payload := w.reached("make")
			pilots := w.pilotPIDs()
			if len(pilots) != 1 {
				t.Fatalf("pilots: %v", pilots)
			}
			signal := func(s syscall.Signal) {
				if err := syscall.Kill(pilots[0], s); err != nil {
					t.Fatal(err)
				}
			}
			if frozen {
				signal(syscall.SIGSTOP)
			}
			did := ask[protocol.ActionReply](w, "reset", fmt.Sprintf("%d.0", id), "--task", "make", "--state", "processing", "--reason", "a test")
			if did.Tasks != 1 || did.Leases != 1 {
				t.Errorf("reset: %+v, want 1 task and 1 lease", did)
			}
			if frozen {
				// The payload ends well while nobody watches it; then its pilot wakes up.
				w.open("make")
				w.until("the payload has ended", func() bool { return startOf(payload) == "" })
				signal(syscall.SIGCONT)
			}
			w.until("the payload is stopped", func() bool { return startOf(payload) == "" })
			if code := w.finish(id); code != exitOK {
				t.Errorf("wait: exit %d, want 0", code)
			}
			counts := w.counts(id)
			if diff := cmp.Diff(map[string]count{"make/made": {1, 1}, "make/index": {1, 0.25}, "make/attempt": {1, 2}, "join/joined": {1, 1}}, counts); diff != "" {
				t.Errorf("statistics (-want +got):\n%s", diff)
			}
			task := w.task(id, "0.make")
			accepted := 0
			for _, a := range task.Attempts {
				if a.Accepted {
					accepted++
				}
			}
			if accepted != 1 || len(task.Attempts) != 2 || !task.Attempts[1].Accepted {
				t.Errorf("attempts of the task that was reset: %+v", task.Attempts)
			}
		})
	}
}

// TestSystemDrain asks a pilot to leave, as batch systems do: what it runs is
// preempted, which costs nothing, and goes on elsewhere.
func TestSystemDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.joinSite(1, 2)
	const jobs = 2
	id := w.submitDiamond(jobs, "[ $FLOE_ATTEMPT = 1 ] && [ $FLOE_JOB = 0 ] || exit 0\n"+w.gate("make"))
	w.until("the first job runs", func() bool { return w.exists("gate/make.reached") })
	payload := w.reached("make")
	pilots := w.pilotPIDs()
	for _, pid := range pilots {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	w.until("pilot and payload have ended", func() bool { return startOf(payload) == "" && startOf(pilots[0]) == "" })
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	w.checkDiamond(id, jobs)
	task := w.task(id, "0.make")
	if fates(&task) != "preempted ok" {
		t.Errorf("attempts of the task whose pilot was drained: %q", fates(&task))
	}
	if explained := ask[protocol.Explanation](w, "explain", fmt.Sprintf("%d.0.make", id)); strings.Contains(strings.Join(explained.Lines, "\n"), " used") {
		t.Errorf("a preempted attempt cost something: %q", explained.Lines)
	}
}
