package payload

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"floe/protocol"
)

// A payload has the time that it is given to save its work, not only the usual grace.
func TestAReclaimedPayloadHasItsTime(t *testing.T) {
	m := script(`trap 'sleep 1; echo >saved; exit 1' TERM; echo >ready; while :; do read x <wait & wait $!; done`)
	a := newAttempt(t, m)
	a.limits.Grace = 100 * time.Millisecond
	if err := syscall.Mkfifo(filepath.Join(a.dir.Work(), "wait"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	defer end(nil)
	go func() {
		a.await("ready")
		end(NewDrainWithin(time.Minute))
	}()
	if out := a.run(ctx); out.Verdict != protocol.VerdictPreempted || out.Signal != 0 || out.ExitCode != 1 {
		t.Errorf("%v (%s), exit %d, signal %d; want it to end by itself", out.Verdict, out.Evidence, out.ExitCode, out.Signal)
	}
	a.await("saved")
}

// Whoever wants the node sooner takes the rest of the time back.
func TestAReclaimedPayloadIsHurried(t *testing.T) {
	m := script(`trap 'echo >told' TERM; echo >ready; while :; do read x <wait & wait $!; done`)
	a := newAttempt(t, m)
	if err := syscall.Mkfifo(filepath.Join(a.dir.Work(), "wait"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	defer end(nil)
	reclaim := NewDrainWithin(time.Hour)
	a.limits.Walltime = 0
	go func() {
		a.await("ready")
		end(reclaim)
		a.await("told")
		reclaim.Hurry()
		reclaim.Hurry()
	}()
	if out := a.run(ctx); out.Verdict != protocol.VerdictPreempted || out.Signal != int(syscall.SIGKILL) {
		t.Errorf("%v (%s), signal %d; want it killed", out.Verdict, out.Evidence, out.Signal)
	}
}
