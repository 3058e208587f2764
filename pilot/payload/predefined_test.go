package payload

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// TestPredefinedModulesInATask runs a chain of them.
func TestPredefinedModulesInATask(t *testing.T) { bothWays(t, predefinedInATask) }

func predefinedInATask(t *testing.T, isolation *Isolation) {
	a := newAttempt(t,
		Module{Name: "hello", Class: "floe.hello", Parameters: named("GREETING", "Hello pole")},
		Module{Name: "pack", Class: "floe.pack", Args: raw(map[string]any{"archive": "d.tar.zst", "files": "1 2", "directory": "d"}), Parameters: named("only_for_expressions", 1)},
		Module{Name: "unpack", Class: "floe.unpack", Parameters: named("archive", "d.tar.zst", "directory", "e")},
		Module{Name: "merge", Class: "floe.merge", Parameters: named("files", []string{"e/*"}, "output", "all")},
		Module{Name: "delete", Class: "floe.delete", Parameters: named("files", "d", "directories", "yes")},
	)
	a.options.Isolation = isolation
	a.task.Trays[0].Environment = Environment{Shell: "/nonexistent/env-shell.sh"} // they need none
	if err := os.MkdirAll(filepath.Join(a.dir.Work(), "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	a.file("d/1", "one\n")
	a.file("d/2", "two\n")
	out := a.run(t.Context())
	if out.Verdict != protocol.VerdictOK {
		t.Fatalf("Run = %v, %s\n%s", out.Verdict, out.Evidence, a.log())
	}
	if b, err := os.ReadFile(filepath.Join(a.dir.Work(), "all")); err != nil || string(b) != "one\ntwo\n" {
		t.Errorf("merged %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(a.dir.Work(), "d")); err == nil {
		t.Error("d was not deleted")
	}
	want := []protocol.Statistic{
		{Name: "delete/files", Value: 1},
		{Name: "merge/bytes", Value: 8},
		{Name: "merge/files", Value: 2},
		{Name: "pack/bytes", Value: 8},
		{Name: "pack/files", Value: 2},
		{Name: "unpack/bytes", Value: 8},
		{Name: "unpack/files", Value: 2},
	}
	got := map[string]float64{}
	for _, s := range out.Statistics {
		got[s.Name] = s.Value
	}
	for _, s := range want {
		if got[s.Name] != s.Value {
			t.Errorf("statistic %s = %v, want %v", s.Name, got[s.Name], s.Value)
		}
	}
	if !strings.Contains(a.log(), "Hello pole") || len(out.Modules) != 5 {
		t.Errorf("%d modules ran; the log is\n%s", len(out.Modules), a.log())
	}
}

func TestPredefinedModuleFailures(t *testing.T) {
	tests := []struct {
		promise  string
		module   Module
		verdict  protocol.Verdict
		evidence string
	}{
		{"an unknown parameter", Module{Class: "floe.pack", Parameters: named("archve", "a.tar")}, protocol.VerdictPayload, "did you mean archive?"},
		{"an unknown module", Module{Class: "floe.pak"}, protocol.VerdictPayload, "did you mean floe.pack?"},
		{"a parameter that is missing", Module{Class: "floe.merge", Parameters: named("output", "x")}, protocol.VerdictPayload, "needs the parameter files"},
		{"a list as args", Module{Class: "floe.hello", Args: raw([]int{1})}, protocol.VerdictPayload, "no list as args"},
		{"a file that is not there", Module{Class: "floe.unpack", Parameters: named("archive", "a.tar")}, protocol.VerdictPayload, "a.tar: no such file"},
		{"a source that is not there", Module{Class: "floe.transfer", Parameters: named("source", "file:///nonexistent/f", "destination", "f")}, protocol.VerdictData, "/nonexistent/f"},
		{"storage that refuses", Module{Class: "floe.transfer", Parameters: named("source", "f", "destination", "file:///proc/nowhere/f")}, protocol.VerdictSite, "/proc/nowhere"},
	}
	for _, tt := range tests {
		t.Run(tt.promise, func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t, script("touch began"), tt.module)
			a.file("f", "x")
			out := a.run(t.Context())
			if out.Verdict != tt.verdict || !strings.Contains(out.Evidence, tt.evidence) {
				t.Errorf("Run = %v, %s; want %v and %q", out.Verdict, out.Evidence, tt.verdict, tt.evidence)
			}
			_, err := os.Stat(filepath.Join(a.dir.Work(), "began"))
			if mistake := strings.Contains(tt.evidence, "did you mean") || strings.Contains(tt.evidence, "parameter"); mistake && err == nil {
				t.Error("a mistake in the steering file was told after the first module had run")
			}
		})
	}
}

// TestPredefinedModulesNeedTheLibrary: a program without it must not run itself instead.
func TestPredefinedModulesNeedTheLibrary(t *testing.T) {
	a := newAttempt(t, Module{Class: "floe.hello"})
	a.options.Library = nil
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictFramework {
		t.Errorf("Run = %v, %s; want framework", out.Verdict, out.Evidence)
	}
}

// TestOnlyTheLibraryBlames: a class that writes a result like the library's, for
// itself or for a module to come, decides nothing.
func TestOnlyTheLibraryBlames(t *testing.T) {
	const forged = `{"error": "the node is broken", "verdict": "node"}`
	a := newAttempt(t,
		script(`for i in 1 2 3; do echo '`+forged+`' > ../module-$i.result; echo '{"forged": 1}' > ../module-$i.statistics; done`),
		Module{Name: "hello", Class: "floe.hello"}, script("exit 3"))
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictPayload || strings.Contains(out.Evidence, "the node is broken") {
		t.Errorf("Run = %v, %s; want the payload's exit code 3", out.Verdict, out.Evidence)
	}
	python := interpreters(t)[0].path
	const source = "import os\nclass A(object):\n  def Execute(self, stats):\n" +
		"    open('../module-1.result', 'w').write('''" + forged + "''')\n    os._exit(3)\n"
	if out, _ := runClass(t, python, source, Module{Class: "A"}); out.Verdict != protocol.VerdictPayload {
		t.Errorf("Run = %v, %s; want payload", out.Verdict, out.Evidence)
	}
}

// TestPredefinedModuleIsEnded: a module in the midst of its work heeds the limits.
func TestPredefinedModuleIsEnded(t *testing.T) {
	a := newAttempt(t, Module{Name: "sum", Class: "floe.checksum", Parameters: named("files", "endless")})
	a.file("endless", "")
	if err := os.Truncate(filepath.Join(a.dir.Work(), "endless"), 1<<43); err != nil {
		t.Skipf("no large sparse files here: %v", err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	go func() {
		a.await("../module-1.json")
		stop(ErrDrain)
	}()
	if out := a.run(ctx); out.Verdict != protocol.VerdictPreempted {
		t.Errorf("Run = %v, %s; want preempted", out.Verdict, out.Evidence)
	}
}

func TestBindingOfPredefinedModules(t *testing.T) {
	m := Module{Class: "floe.merge", Parameters: named("Files", "a b", "output", 7, "header", "2")}
	got, err := bindPredefined(&m, arguments{})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, value := range got {
		texts[name] = string(value)
	}
	want := map[string]string{"files": `["a","b"]`, "output": `"7"`, "header": "2", "optional": "false"}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("bindPredefined (-want +got):\n%s", diff)
	}
}
