package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"floe/pilot/library"
	"floe/protocol"
)

// attempt is one payload with its directory.
type attempt struct {
	t       *testing.T
	dir     Dir
	limits  Limits
	options Options
	task    Task
}

func newAttempt(t *testing.T, modules ...Module) *attempt {
	t.Helper()
	dir, err := MakeDir(filepath.Join(t.TempDir(), "attempt"))
	if err != nil {
		t.Fatal(err)
	}
	return &attempt{
		t: t, dir: dir,
		limits:  Limits{Grace: 300 * time.Millisecond, Walltime: 2 * time.Minute},
		options: Options{Poll: 50 * time.Millisecond, Library: library.Program()},
		task: Task{
			ID: protocol.TaskID{Dataset: 12, Job: 7, Task: 1}, Name: "generate", Jobs: 100, Seed: 4711, Attempt: 2,
			Trays: []Tray{{Name: "main", Modules: modules}},
		},
	}
}

// file stages a file into the work directory.
func (a *attempt) file(name, text string) {
	a.t.Helper()
	path := filepath.Join(a.dir.Work(), name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *attempt) run(ctx context.Context) Outcome {
	a.t.Helper()
	out := Run(ctx, a.task, a.limits, a.dir, a.options)
	if a.t.Failed() || testing.Verbose() {
		a.t.Logf("%v: %s\n%s", out.Verdict, out.Evidence, a.log())
	}
	return out
}

func (a *attempt) log() string {
	b, err := os.ReadFile(a.dir.LogPath())
	if err != nil {
		a.t.Error(err)
	}
	return string(b)
}

// script is a module that runs a shell script.
func script(text string) Module {
	return Module{Name: "step", Src: "/bin/sh", Args: raw([]string{"-c", text})}
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// alive tells whether a process lives whose pid the payload recorded in its work
// directory, where it also is.
func (a *attempt) alive(file string) bool {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join(a.dir.Work(), file))
	if err != nil {
		a.t.Fatalf("the payload never wrote %s: %v\n%s", file, err, a.log())
	}
	own := strings.TrimSpace(string(b))
	if _, err := strconv.Atoi(own); err != nil {
		a.t.Fatalf("%s holds %q", file, b)
	}
	work, err := os.Stat(a.dir.Work())
	if err != nil {
		a.t.Fatal(err)
	}
	for _, family := range everyProcess() {
		for _, pid := range family {
			at, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
			if err != nil || !os.SameFile(at, work) {
				continue
			}
			// The last number is that of the innermost namespace.
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, numbers, _ := strings.Cut(string(status), "\nNSpid:")
			numbers, _, _ = strings.Cut(numbers, "\n")
			if f := strings.Fields(numbers); len(f) > 0 && f[len(f)-1] == own {
				p, ok := readProcess(pid)
				return ok && p.state != 'Z'
			}
		}
	}
	return false
}

// await waits until a file of the payload is there.
func (a *attempt) await(file string) {
	a.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(filepath.Join(a.dir.Work(), file)); err == nil && len(b) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			a.t.Errorf("no %s after a minute", file)
			return
		}
	}
}

func TestEndings(t *testing.T) { bothWays(t, endings) }

func endings(t *testing.T, isolation *Isolation) {
	tests := []struct {
		promise  string
		module   Module
		files    map[string]string
		edit     func(a *attempt)
		verdict  protocol.Verdict
		evidence []string
		exit     int
		signal   syscall.Signal
	}{
		{promise: "a program that exits zero is ok", module: script("echo hello"), verdict: protocol.VerdictOK},
		{
			promise: "another exit code is the payload's, with its last lines", module: script("echo one; echo the reason >&2; exit 3"),
			verdict: protocol.VerdictPayload, evidence: []string{"module step: exit code 3", "the reason"}, exit: 3,
		},
		{
			promise: "a crash names its signal", module: script("kill -SEGV $$"),
			verdict: protocol.VerdictPayload, evidence: []string{"SIGSEGV"}, signal: syscall.SIGSEGV,
		},
		{
			promise: "walltime ends a payload that ignores SIGTERM", module: script("trap '' TERM; while :; do sleep 0.1; done"),
			edit:    func(a *attempt) { a.limits.Walltime = time.Second },
			verdict: protocol.VerdictWalltime, evidence: []string{"walltime limit of 1s"}, signal: syscall.SIGKILL,
		},
		{
			promise: "a payload that ends itself cleanly at the walltime has finished", module: script("trap 'exit 0' TERM; while :; do sleep 0.05; done"),
			edit: func(a *attempt) { a.limits.Walltime = time.Second }, verdict: protocol.VerdictOK,
		},
		{
			promise: "a file that no kernel runs is the payload's fault", module: Module{Name: "step", Src: "prog"},
			files: map[string]string{"prog": "\x00\x01\x02"}, verdict: protocol.VerdictPayload, evidence: []string{"exec format error"},
		},
		{
			promise: "a missing interpreter is the node's fault", module: Module{Name: "step", Src: "prog"},
			files: map[string]string{"prog": "#!/nonexistent/perl7\n"}, verdict: protocol.VerdictNode, evidence: []string{"no interpreter"},
		},
		{
			promise: "a src that is nowhere is the payload's fault", module: Module{Name: "step", Src: "prog"},
			verdict: protocol.VerdictPayload, evidence: []string{"src prog: no such file", "work/prog"},
		},
		{promise: "nothing to run is said", module: Module{Name: "step"}, verdict: protocol.VerdictPayload, evidence: []string{"neither class nor src"}},
		{
			promise: "no Python on the node is the node's fault", module: Module{Name: "step", Src: "x.py"}, files: map[string]string{"x.py": "1"},
			edit: func(a *attempt) { a.options.Environ = []string{"PATH=/nonexistent"} }, verdict: protocol.VerdictNode, evidence: []string{"no python3"},
		},
		{
			promise: "a missing env_shell is the software's fault", module: Module{Name: "step", Src: "/bin/true", Environment: Environment{Shell: "/nonexistent/env-shell.sh"}},
			verdict: protocol.VerdictSoftware, evidence: []string{"env_shell"},
		},
		{
			promise: "an unusable library is the environment's fault",
			module:  Module{Name: "step", Src: "/bin/sh", Args: raw([]string{"-c", "echo x: error while loading shared libraries: libx.so.3 >&2; exit 127"}), Environment: Environment{Software: []string{"/"}}},
			verdict: protocol.VerdictSoftware, evidence: []string{"libx.so.3"}, exit: 127,
		},
		{
			promise: "statistics that are no numbers name their key", module: script(`echo '{"events": 5, "mean": NaN}' > $FLOE_STATISTICS`),
			verdict: protocol.VerdictPayload, evidence: []string{`"mean"`, "NaN"},
		},
		{
			promise: "too much disk is the disk verdict", module: script("dd if=/dev/zero of=big bs=1048576 count=8 2>/dev/null; echo x > done; while :; do sleep 0.05; done"),
			edit:    func(a *attempt) { a.limits.Disk = 4 * protocol.MB },
			verdict: protocol.VerdictDisk, evidence: []string{"scratch disk, limit 4MB"}, signal: syscall.SIGTERM,
		},
		{
			promise: "a config outside the work directory is refused", module: Module{Name: "step", Src: "/bin/true", Configs: []Parameter{{"../x", raw(1)}}},
			verdict: protocol.VerdictPayload, evidence: []string{"below the work directory"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t, tt.module)
			a.options.Isolation = isolation
			for name, text := range tt.files {
				a.file(name, text)
			}
			if tt.edit != nil {
				tt.edit(a)
			}
			out := a.run(t.Context())
			if out.Verdict != tt.verdict || out.ExitCode != tt.exit || out.Signal != int(tt.signal) {
				t.Errorf("Run = %v, exit %d, signal %d, want %v, exit %d, signal %d; evidence %q\n%s",
					out.Verdict, out.ExitCode, out.Signal, tt.verdict, tt.exit, tt.signal, out.Evidence, a.log())
			}
			for _, part := range tt.evidence {
				if !strings.Contains(out.Evidence, part) {
					t.Errorf("evidence = %q, want %q in it", out.Evidence, part)
				}
			}
		})
	}
}

const hog = `
import sys, time
blocks = []
for i in range(200):
    blocks.append(bytearray(b"x") * (2 << 20))
    time.sleep(0.01)
open("survived", "w").write("x")
`

func TestMemoryLimit(t *testing.T) { bothWays(t, memoryLimit) }

func memoryLimit(t *testing.T, isolation *Isolation) {
	for _, groups := range []bool{false, true} {
		t.Run(fmt.Sprintf("groups=%v", groups), func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t, Module{Name: "hog", Src: "hog.py"})
			a.options.Isolation = isolation
			a.file("hog.py", hog)
			a.limits.Memory = 100 * protocol.MB
			if groups {
				if a.options.Groups = FindGroups(); a.options.Groups == nil {
					t.Skip("no control group may be made here")
				}
			}
			out := a.run(t.Context())
			if out.Verdict != protocol.VerdictMemory || out.Signal != int(syscall.SIGKILL) {
				t.Errorf("Run = %v, signal %d, want memory by signal 9; %s", out.Verdict, out.Signal, out.Evidence)
			}
			if _, err := os.Stat(filepath.Join(a.dir.Work(), "survived")); err == nil {
				t.Error("the hog came to its end")
			}
			if out.Usage.PeakMemory < 50*protocol.MB {
				t.Errorf("peak memory = %v, want most of the limit", out.Usage.PeakMemory)
			}
		})
	}
}

// escape forks twice, makes a session of its own, and clears its environment:
// what daemons do.
const escape = `
import os, sys, time, signal
def leave(name):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(name + ".new", "w") as f:
        f.write(str(os.getpid()))
    os.rename(name + ".new", name)
    os.execve("/bin/sh", ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], {})
leave("daemon")
while not os.path.exists("daemon"):
    time.sleep(0.005)
if len(sys.argv) > 1:
    time.sleep(1000)
`

func TestNothingSurvives(t *testing.T) { bothWays(t, nothingSurvives) }

func nothingSurvives(t *testing.T, isolation *Isolation) {
	t.Run("a daemon left behind by a module that ended", func(t *testing.T) {
		t.Parallel()
		a := newAttempt(t, Module{Name: "step", Src: "escape.py"})
		a.options.Isolation = isolation
		a.file("escape.py", escape)
		if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
			t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
		}
		if a.alive("daemon") {
			t.Error("the daemon lives")
		}
	})
	t.Run("a daemon of a payload over its walltime", func(t *testing.T) {
		t.Parallel()
		a := newAttempt(t, Module{Name: "step", Src: "escape.py", Args: raw("stay")})
		a.options.Isolation = isolation
		a.file("escape.py", escape)
		a.limits.Walltime = 2 * time.Second
		if out := a.run(t.Context()); out.Verdict != protocol.VerdictWalltime {
			t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
		}
		if a.alive("daemon") {
			t.Error("the daemon lives")
		}
	})
	t.Run("more processes than allowed", func(t *testing.T) {
		t.Parallel()
		// Bounded by itself: a test of a limit must not need the limit to end.
		a := newAttempt(t, script("echo $$ > pid; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 60 & done; wait"))
		a.options.Isolation = isolation
		a.limits.Processes = 10
		out := a.run(t.Context())
		if out.Verdict != protocol.VerdictPayload || !strings.Contains(out.Evidence, "limit 10") {
			t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
		}
		if a.alive("pid") {
			t.Error("the payload lives")
		}
	})
}

func TestDrain(t *testing.T) { bothWays(t, drain) }

func drain(t *testing.T, isolation *Isolation) {
	a := newAttempt(t, script("trap 'echo saving; exit 9' TERM; echo $$ > ready; while :; do sleep 0.05; done"), script("echo second > second"))
	a.options.Isolation = isolation
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		a.await("ready")
		cancel(ErrDrain)
	}()
	out := a.run(ctx)
	if out.Verdict != protocol.VerdictPreempted || !strings.Contains(out.Evidence, "the pilot drains") || out.ExitCode != 9 {
		t.Errorf("Run = %v, exit %d, %q, want preempted", out.Verdict, out.ExitCode, out.Evidence)
	}
	if !strings.Contains(a.log(), "saving") {
		t.Error("the payload did not get to save")
	}
	if a.alive("ready") {
		t.Error("the payload lives")
	}
}

func TestParallelPayloadsAreStrangers(t *testing.T) { bothWays(t, parallelPayloadsAreStrangers) }

func parallelPayloadsAreStrangers(t *testing.T, isolation *Isolation) {
	// One ends, with a daemon of its own, while the other still has a daemon to do
	// its work: each must lose its own daemon only.
	quick := newAttempt(t, Module{Name: "step", Src: "escape.py"})
	quick.options.Isolation = isolation
	quick.file("escape.py", escape)
	long := newAttempt(t, Module{Name: "step", Src: "escape.py", Args: raw("stay")})
	long.options.Isolation = isolation
	long.file("escape.py", escape)
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	var outLong Outcome
	wg.Go(func() { outLong = long.run(ctx) })
	long.await("daemon")
	if out := quick.run(t.Context()); out.Verdict != protocol.VerdictOK {
		t.Errorf("quick = %v, %s", out.Verdict, out.Evidence)
	}
	if quick.alive("daemon") {
		t.Error("quick's daemon lives")
	}
	if !long.alive("daemon") {
		t.Error("long's daemon was killed with quick")
	}
	cancel(ErrAbandoned)
	wg.Wait()
	if outLong.Verdict != protocol.VerdictPreempted {
		t.Errorf("long = %v, %s", outLong.Verdict, outLong.Evidence)
	}
	if long.alive("daemon") {
		t.Error("long's daemon lives")
	}
}

func TestEnvironment(t *testing.T) { bothWays(t, environmentOfPayloads) }

func environmentOfPayloads(t *testing.T, isolation *Isolation) {
	software := t.TempDir()
	for _, sub := range []string{"bin", "lib/python"} {
		if err := os.MkdirAll(filepath.Join(software, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(software, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/tool", "#!/bin/sh\nenv > env.txt\npwd >> env.txt\n")
	write("env-shell.sh", "#!/bin/sh\nFROM_SHELL=yes\nexport FROM_SHELL\nexec \"$@\"\n")
	a := newAttempt(t, Module{Name: "step", Src: "tool"})
	a.options.Isolation = isolation
	a.task.Trays[0].Environment = Environment{Software: []string{software}, Shell: "env-shell.sh"}
	a.options.Environ = []string{"PATH=/usr/bin:/bin", "FLOE_TICKET=secret", "GPU_DEVICE_ORDINAL=5", "X509_USER_PROXY=/site/proxy", "BEARER_TOKEN=abc", "KEPT=1"}
	a.options.Extra = []string{"AWS_SHARED_CREDENTIALS_FILE=/declared"}
	a.options.Cores = 3
	a.options.GPUs = []string{"GPU-1"}
	read := func() string {
		if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
			t.Fatalf("Run = %v, %s\n%s", out.Verdict, out.Evidence, a.log())
		}
		b, err := os.ReadFile(filepath.Join(a.dir.Work(), "env.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	env := read()
	for _, want := range []string{
		"FROM_SHELL=yes", "KEPT=1", "FLOE_DATASET=12", "FLOE_JOB=7", "FLOE_JOBS=100", "FLOE_TASK=generate", "FLOE_TASK_ID=12.7.1", "FLOE_SEED=4711",
		"FLOE_ATTEMPT=2", "FLOE_METAPROJECT=" + software, "PATH=" + software + "/bin:/usr/bin:/bin", "PYTHONPATH=" + software + "/lib/python",
		"LD_LIBRARY_PATH=" + software + "/lib", "TMPDIR=" + a.dir.Temp(), "FLOE_SCRATCH=" + a.dir.Work(), "OMP_NUM_THREADS=3",
		"CUDA_VISIBLE_DEVICES=GPU-1", "ROCR_VISIBLE_DEVICES=", "FLOE_GPUS=GPU-1", "AWS_SHARED_CREDENTIALS_FILE=/declared",
	} {
		if !strings.Contains(env, want+"\n") {
			t.Errorf("no %s in the payload's environment:\n%s", want, env)
		}
	}
	for _, secret := range []string{"FLOE_TICKET", "GPU_DEVICE_ORDINAL", "X509_USER_PROXY", "BEARER_TOKEN="} {
		if strings.Contains(env, secret) {
			t.Errorf("%s reached the payload", secret)
		}
	}
	a.task.Trays[0].Clear = true
	if env := read(); strings.Contains(env, "KEPT") || !strings.Contains(env, "FROM_SHELL=yes") {
		t.Errorf("cleared environment = %s", env)
	}
}

func TestStatisticsAndUsageOfModules(t *testing.T) { bothWays(t, statisticsAndUsageOfModules) }

func statisticsAndUsageOfModules(t *testing.T, isolation *Isolation) {
	a := newAttempt(t,
		Module{Name: "gen", Src: "/bin/sh", Args: raw([]string{"-c", `echo '{"events": 10, "weight (sum)": -1.5e3}' > $FLOE_STATISTICS; dd if=/dev/zero of=f bs=1000 count=1000 2>/dev/null`})},
		Module{Name: "sim", Src: "sim.sh", Args: raw(map[string]any{"hits": 7, "x": nil})},
	)
	a.options.Isolation = isolation
	a.file("sim.sh", "echo args $@; echo '{\"events\": 4}' > $FLOE_STATISTICS\n")
	out := a.run(t.Context())
	if out.Verdict != protocol.VerdictOK {
		t.Fatalf("Run = %v, %s", out.Verdict, out.Evidence)
	}
	want := []protocol.Statistic{{Name: "gen/events", Value: 10}, {Name: "sim/events", Value: 4}, {Name: "weight__sum_", Value: -1500}}
	if diff := cmp.Diff(want, out.Statistics); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}
	modules := []protocol.ModuleResult{{Tray: "main", Module: "gen"}, {Tray: "main", Module: "sim"}}
	if diff := cmp.Diff(modules, out.Modules, cmpopts.IgnoreFields(protocol.ModuleResult{}, "Usage")); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	if w := out.Modules[0].Usage.WriteBytes; w < protocol.MB {
		t.Errorf("gen wrote %v, want at least the 1MB of its child", w)
	}
	if out.Usage.WriteBytes < out.Modules[0].Usage.WriteBytes+out.Modules[1].Usage.WriteBytes || out.Usage.PeakDisk < protocol.MB {
		t.Errorf("usage = %+v", out.Usage)
	}
	if !strings.Contains(a.log(), "args --hits=7 -x") {
		t.Errorf("arguments of sim:\n%s", a.log())
	}
	record := out.Log
	if b := a.log(); record.Digest != protocol.DigestOf([]byte(b)) || int(record.Size) != len(b) {
		t.Errorf("log record %+v does not name the log of %d bytes", record, len(b))
	}
}

func TestProcessorTimeOfOrphansCounts(t *testing.T) { bothWays(t, processorTimeOfOrphansCounts) }

func processorTimeOfOrphansCounts(t *testing.T, isolation *Isolation) {
	// The work is done by a grandchild that nobody in the payload waits for.
	a := newAttempt(t, Module{Name: "step", Src: "burn.py"})
	a.options.Isolation = isolation
	a.file("burn.py", `
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.3: pass
        open("burnt", "w").write("x")
    os._exit(0)
while not os.path.exists("burnt"): time.sleep(0.01)
`)
	out := a.run(t.Context())
	if out.Verdict != protocol.VerdictOK || out.Usage.CPUMillis < 300 {
		t.Errorf("Run = %v, processor time %d ms, want at least 300", out.Verdict, out.Usage.CPUMillis)
	}
}

// mover is a stage that fails as told.
type mover struct {
	calls []string
	fail  map[string]error
}

func (m *mover) call(when string, tray, module int) error {
	name := fmt.Sprintf("%s %d.%d", when, tray, module)
	m.calls = append(m.calls, name)
	return m.fail[name]
}

func (m *mover) Before(_ context.Context, tray, module int) error {
	return m.call("before", tray, module)
}

func (m *mover) After(_ context.Context, tray, module int) error {
	return m.call("after", tray, module)
}

type dataError struct{ error }

func (dataError) Verdict() protocol.Verdict { return protocol.VerdictData }

func TestAround(t *testing.T) {
	m := &mover{fail: map[string]error{"before 0.1": dataError{errors.New("input x is damaged")}}}
	a := newAttempt(t, script("true"), script("true"))
	a.options.Around = m
	out := a.run(t.Context())
	if out.Verdict != protocol.VerdictData || !strings.Contains(out.Evidence, "input x is damaged") {
		t.Errorf("Run = %v, %s", out.Verdict, out.Evidence)
	}
	if diff := cmp.Diff([]string{"before 0.-1", "before 0.0", "after 0.0", "before 0.1"}, m.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
