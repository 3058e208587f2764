package pilot

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/pilot/payload/session"
	"floe/protocol"
)

func TestMain(m *testing.M) {
	session.Speak()
	os.Exit(m.Run())
}

// untilAsked works until it is asked to leave, and saves where it was; the next attempt
// goes on from there and leaves what it had.
const untilAsked = `
	if [ -n "$FLOE_CHECKPOINT" ]; then cat "$FLOE_CHECKPOINT" >left; exit; fi
	trap 'echo half >state; floe-task checkpoint saved state; exit 1' TERM
	mkfifo wait; floe-task progress 0.5 "half of it"
	while :; do read x <wait & wait $!; done`

// drainWhen ends a pilot's context once an exchange is as wanted.
func (f *fakeCoordinators) drainWhen(wanted func(*protocol.ExchangeRequest) bool) context.Context {
	ctx, stop := context.WithCancel(f.t.Context())
	f.t.Cleanup(stop)
	f.before = func(r *protocol.ExchangeRequest) error {
		if wanted(r) {
			stop()
		}
		return nil
	}
	return ctx
}

func hasSpoken(r *protocol.ExchangeRequest) bool { return len(r.Progress) > 0 }

// preempted runs a lease until its pilot is drained, and returns its report.
func (f *fakeCoordinators) preempted() *protocol.Report {
	f.t.Helper()
	if err := f.newPilot().live(f.drainWhen(hasSpoken)); err != nil {
		f.t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 1 || reports[0].Verdict != protocol.VerdictPreempted {
		f.t.Fatalf("reports = %+v, want one that is preempted", reports)
	}
	f.before = nil
	return reports[0]
}

func checkpointOf(t *testing.T, r *protocol.Report) protocol.FileRecord {
	t.Helper()
	if len(r.Outputs) != 1 || r.Outputs[0].Type != protocol.FileCheckpoint {
		t.Fatalf("outputs = %+v, want one checkpoint", r.Outputs)
	}
	return r.Outputs[0]
}

func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A task that its pilot had to give up goes on under another pilot, from a storage
// area and from the coordinators; what was saved goes when it is done.
func TestAPreemptedTaskGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		area bool
	}{{"area", true}, {"coordinators", false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			area, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
			doc := document(untilAsked, "{type: permanent, movement: output, local: left, remote: file://"+out+"}")
			where := func(l *protocol.Lease) {
				if test.area {
					l.TempArea = "file://" + area
				}
			}
			f := newFakeCoordinators(t)
			f.lease(doc, where)
			report := f.preempted()
			saved := checkpointOf(t, report)
			if !strings.Contains(report.Evidence, "its checkpoint keeps ") {
				t.Errorf("evidence %q", report.Evidence)
			}
			if test.area != (len(files(t, area)) == 1) || test.area != strings.HasPrefix(saved.URL, "file://"+area+"/1/3/checkpoint-0.7-0-") {
				t.Errorf("saved at %s; the area holds %v", saved.URL, files(t, area))
			}

			second := newFakeCoordinators(t)
			second.blobs = f.blobs
			second.lease(doc, where, func(l *protocol.Lease) {
				l.ID, l.Attempt, l.Inputs = protocol.LeaseID{Index: 9}, 2, []protocol.FileRecord{saved}
			})
			if err := second.newPilot().live(t.Context()); err != nil {
				t.Fatal(err)
			}
			reports := second.reports()
			if len(reports) != 2 || reports[0].Verdict != protocol.VerdictOK || reports[0].Usage.KeptMillis < 0 {
				t.Fatalf("reports = %+v", reports)
			}
			if b, err := os.ReadFile(out); err != nil || string(b) != "half\n" {
				t.Errorf("output %q, %v", b, err)
			}
			if left := files(t, area); len(left) != 0 {
				t.Errorf("the area still holds %v", left)
			}
		})
	}
}

// A checkpoint that is gone, or damaged, costs the time it had spared and no more.
func TestACheckpointThatCannotBeHadStartsAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"gone":    os.Remove,
		"damaged": func(path string) error { return os.WriteFile(path, []byte("something else"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			area := t.TempDir()
			f := newFakeCoordinators(t)
			where := func(l *protocol.Lease) { l.TempArea = "file://" + area }
			f.lease(document(untilAsked, ""), where)
			saved := checkpointOf(t, f.preempted())
			if err := damage(files(t, area)[0]); err != nil {
				t.Fatal(err)
			}
			second := newFakeCoordinators(t)
			second.lease(document(`test -z "$FLOE_CHECKPOINT" -a ! -e state`, ""), where, func(l *protocol.Lease) { l.Inputs = []protocol.FileRecord{saved} })
			if err := second.newPilot().live(t.Context()); err != nil {
				t.Fatal(err)
			}
			if reports := second.reports(); len(reports) != 1 || reports[0].Verdict != protocol.VerdictOK || reports[0].Usage.KeptMillis != 0 {
				t.Errorf("reports = %+v", reports)
			}
		})
	}
}

// Only what an attempt that counts has saved stays.
func TestCheckpointsOfNoUseAreRemoved(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		answer       protocol.Code
		verdict      protocol.Verdict
	}{
		{"done", "echo 1 >state; floe-task checkpoint saved state", protocol.CodeOK, protocol.VerdictOK},
		{"failed", "echo 1 >state; floe-task checkpoint saved state; exit 1", protocol.CodeOK, protocol.VerdictPayload},
		{"stale", untilAsked, protocol.CodeStale, protocol.VerdictPreempted},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			area := t.TempDir()
			f := newFakeCoordinators(t)
			f.answer = func(*protocol.Report, int) protocol.Code { return test.answer }
			f.lease(document(test.script, ""), func(l *protocol.Lease) { l.TempArea = "file://" + area })
			ctx := f.drainWhen(hasSpoken)
			if test.answer == protocol.CodeOK {
				ctx = t.Context()
			}
			if err := f.newPilot().live(ctx); err != nil {
				t.Fatal(err)
			}
			if reports := f.reports(); len(reports) == 0 || reports[0].Verdict != test.verdict {
				t.Errorf("reports = %+v, want %v", reports, test.verdict)
			}
			if left := files(t, area); len(left) != 0 {
				t.Errorf("the area holds %v", left)
			}
		})
	}
}

// What is saved while a module runs on is stored, and the coordinators hear of it: the
// pilot may be killed.
func TestCheckpointsOfARunningModuleAreTold(t *testing.T) {
	t.Parallel()
	area := t.TempDir()
	f := newFakeCoordinators(t)
	f.lease(document(`
		floe-task progress 0.25 "step 3"; floe-task statistic events 5
		echo 1 >state; floe-task checkpoint saved state
		mkfifo wait; read x <wait`, ""), func(l *protocol.Lease) { l.TempArea = "file://" + area })
	var told protocol.Progress
	ctx := f.drainWhen(func(r *protocol.ExchangeRequest) bool {
		if len(r.Progress) == 1 && r.Progress[0].Checkpoint != nil {
			told = r.Progress[0]
			if _, err := os.Stat(strings.TrimPrefix(told.Checkpoint.URL, "file://")); err != nil {
				t.Error(err)
			}
		}
		return told.Checkpoint != nil
	})
	if err := f.newPilot().live(ctx); err != nil {
		t.Fatal(err)
	}
	if err := told.Check(); err != nil || told.Fraction != 0.25 || told.Text != "step 3" || len(told.Statistics) != 1 || told.Lease.IsZero() {
		t.Errorf("told %+v, %v", told, err)
	}
	if reports := f.reports(); len(reports) != 1 || checkpointOf(t, reports[0]).URL != told.Checkpoint.URL {
		t.Errorf("reports = %+v", reports)
	}
}

// told is a log that is closed when it says something.
type told struct {
	slog.Handler
	what string
	said func()
}

func (h told) Enabled(context.Context, slog.Level) bool { return true }
func (h told) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h told) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.what {
		h.said()
	}
	return nil
}

// A checkpoint that cannot be stored while its module runs is stored in the end.
func TestACheckpointIsStoredInTheEnd(t *testing.T) {
	t.Parallel()
	area := filepath.Join(t.TempDir(), "area")
	if err := os.WriteFile(area, nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	f := newFakeCoordinators(t)
	f.lease(document("echo 1 >state; floe-task checkpoint saved state; mkfifo wait; read x <wait", ""), func(l *protocol.Lease) { l.TempArea = "file://" + area })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	p := f.newPilot(func(c *Config) {
		c.Logger = slog.New(told{slog.DiscardHandler, "checkpoint not stored", func() {
			if err := os.Remove(area); err != nil {
				t.Errorf("it was tried again at once: %v", err)
			}
			stop()
		}})
	})
	if err := p.live(ctx); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 1 || checkpointOf(t, reports[0]).URL != "file://"+files(t, area)[0] {
		t.Errorf("reports = %+v", reports)
	}
}
