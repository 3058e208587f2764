package payload

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"floe/protocol"
)

func TestJudge(t *testing.T) {
	start := func(errno syscall.Errno) error { return &os.PathError{Op: "fork/exec", Path: "x", Err: errno} }
	roomy := protocol.GB
	tests := []struct {
		promise  string
		facts    facts
		want     protocol.Verdict
		evidence string
	}{
		{"our SIGTERM makes any failure a preemption", facts{stopped: stopContext, detail: "the pilot drains", exit: 143}, protocol.VerdictPreempted, "SIGTERM"},
		{"even with a full disk", facts{stopped: stopContext, detail: "x", exit: 1, free: 0}, protocol.VerdictPreempted, "exit code 1"},
		{"the kernel's kill at the limit is a memory verdict, whoever it hit", facts{killedByGroup: 1, exit: 1}, protocol.VerdictMemory, "memory limit"},
		{"a kill for the node's memory is the node's", facts{signal: syscall.SIGKILL, killedByNode: true, free: roomy}, protocol.VerdictNode, "node ran out of memory"},
		{"also behind a shell", facts{exit: 137, killedByNode: true, free: roomy}, protocol.VerdictNode, "node ran out of memory"},
		{"another death at that moment is not", facts{exit: 1, killedByNode: true, free: roomy}, protocol.VerdictPayload, "exit code 1"},
		{"a kill that nobody explains is the payload's", facts{signal: syscall.SIGKILL, free: roomy}, protocol.VerdictPayload, "SIGKILL"},
		{"a failure on a full disk is the node's", facts{exit: 1, free: 4096}, protocol.VerdictNode, "disk full"},
		{"an illegal instruction of built software is the software's", facts{signal: syscall.SIGILL, built: true, free: roomy}, protocol.VerdictSoftware, "another processor"},
		{"of a payload's own program it is the payload's", facts{signal: syscall.SIGILL, free: roomy}, protocol.VerdictPayload, "SIGILL"},
		{"a processor time limit is walltime", facts{signal: syscall.SIGXCPU, free: roomy}, protocol.VerdictWalltime, "SIGXCPU"},
		{"no python in a metaproject", facts{prepare: errNoPython, built: true}, protocol.VerdictSoftware, "no python3"},
		{"no python on the node", facts{prepare: fmt.Errorf("x: %w", errNoPython)}, protocol.VerdictNode, "no python3"},
		{"no space for the shim", facts{prepare: start(syscall.ENOSPC)}, protocol.VerdictNode, "no space"},
		{"a process table that is full", facts{start: start(syscall.EAGAIN)}, protocol.VerdictNode, "cannot start"},
		{"a metaproject for another machine", facts{start: start(syscall.ENOEXEC), fromBuilt: true}, protocol.VerdictSoftware, "exec format"},
		{"a metaproject whose loader is missing", facts{start: start(syscall.ENOENT), fromBuilt: true}, protocol.VerdictSoftware, "no interpreter"},
		{"a program without permission", facts{start: start(syscall.EACCES)}, protocol.VerdictPayload, "permission"},
		{"isolation that is refused", facts{start: fmt.Errorf("%w: mount /proc: %w", errIsolation, syscall.EPERM)}, protocol.VerdictNode, "mount /proc"},
		{"stage's own verdict", facts{hook: dataError{errors.New("damaged")}}, protocol.VerdictData, "damaged"},
		{"stage's error without one", facts{hook: errors.New("odd")}, protocol.VerdictFramework, "odd"},
		{"a class's word", facts{said: "ValueError: x", exit: 1, free: roomy, log: "y"}, protocol.VerdictPayload, "ValueError: x; log ends: y"},
		{"a command not found", facts{exit: 127, free: roomy}, protocol.VerdictPayload, "command not found"},
	}
	for _, tt := range tests {
		got, evidence := judge(&tt.facts)
		if got != tt.want || !strings.Contains(evidence, tt.evidence) {
			t.Errorf("%s: judge = %v, %q, want %v with %q", tt.promise, got, evidence, tt.want, tt.evidence)
		}
		if !got.Reportable() {
			t.Errorf("%s: a pilot cannot report %v", tt.promise, got)
		}
	}
}

func TestClip(t *testing.T) {
	long := strings.Repeat("é", protocol.MaxEvidence)
	if got := clip(long); len(got) > protocol.MaxEvidence || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("clip gives %d bytes, valid %v", len(got), utf8.ValidString(got))
	}
	if got := clip("short"); got != "short" {
		t.Errorf("clip(short) = %q", got)
	}
}
