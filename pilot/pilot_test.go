package pilot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/pilot/payload"
	"floe/protocol"
)

func TestALeaseFromGrantToGoodBye(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	out := filepath.Join(t.TempDir(), "out")
	l := f.lease(document("echo working; echo result >left", "{type: permanent, movement: output, local: left, remote: file://"+out+"}"))
	p := f.newPilot()
	f.before = func(r *protocol.ExchangeRequest) error {
		if len(r.Reports) > 0 && len(spooled(t, p)) != 1 {
			t.Error("a report was sent before it was in the spool")
		}
		return nil
	}
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 2 {
		t.Fatalf("%d reports, want one when the outputs are stored and one when they are published", len(reports))
	}
	first, second := reports[0], reports[1]
	if first.Lease != l.ID || first.Task != l.Task || first.Pilot != f.id || first.Passkey != "secret" || first.Verdict != protocol.VerdictOK || first.Cleaned || !second.Cleaned {
		t.Errorf("reports = %+v\nand %+v", first, second)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "result\n" {
		t.Errorf("published output = %q, %v", b, err)
	}
	if log := f.blobs[first.Log.Digest]; !bytes.Contains(log, []byte("working\n")) {
		t.Errorf("stored log = %q", log)
	}
	if left := spooled(t, p); len(left) != 0 {
		t.Errorf("answered reports are left in the spool: %v", left)
	}
	if last := f.last(); !last.Leaving || last.Reason != "idle" || len(last.Held) != 0 {
		t.Errorf("good-bye = %+v", last)
	}
	if _, err := os.Stat(p.scratch); err == nil {
		t.Error("the scratch directory is left")
	}
	sequence := uint64(0)
	for _, r := range f.heard {
		if r.Sequence <= sequence {
			t.Errorf("sequence %d after %d", r.Sequence, sequence)
		}
		sequence = r.Sequence
	}
}

func TestLiveLogIsTold(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("echo one; while [ ! -e "+t.TempDir()+"/go ]; do sleep 0.01; done", ""))
	var told strings.Builder
	ctx, stop := context.WithCancel(t.Context())
	f.before = func(r *protocol.ExchangeRequest) error {
		for _, l := range r.Logs {
			// What an exchange told that was cut short is told again.
			known := int64(told.Len()) - l.Offset
			if known < 0 || known > int64(len(l.Data)) {
				t.Fatalf("a piece of %d bytes from %d after %d bytes", len(l.Data), l.Offset, told.Len())
			}
			told.Write(l.Data[known:])
		}
		if strings.Contains(told.String(), "one\n") {
			stop()
		}
		return nil
	}
	if err := f.newPilot().live(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), "one\n") {
		t.Errorf("told = %q", told.String())
	}
}

func TestAReportOfUnknownFateIsRepeated(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("true", ""))
	p := f.newPilot()
	f.answer = func(_ *protocol.Report, times int) protocol.Code {
		if len(spooled(t, p)) != 1 {
			t.Errorf("before answer %d the report is not in the spool", times)
		}
		if times == 1 {
			return protocol.CodeUnknown
		}
		return protocol.CodeOK
	}
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 2 || cmp.Diff(reports[0], reports[1]) != "" {
		t.Errorf("%d reports, want the same one twice", len(reports))
	}
	if left := spooled(t, p); len(left) != 0 {
		t.Errorf("spool = %v", left)
	}
}

func TestOutputsOfAStaleAttemptAreDropped(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	dir := t.TempDir()
	f.lease(document("echo result >left", "{type: permanent, movement: output, local: left, remote: file://"+dir+"/out}"))
	f.answer = func(r *protocol.Report, _ int) protocol.Code {
		if found, _ := filepath.Glob(dir + "/out.floe-*"); len(found) != 1 {
			t.Errorf("reported, but not stored: %v", found)
		}
		return protocol.CodeStale
	}
	p := f.newPilot()
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 || len(f.reports()) != 1 || len(spooled(t, p)) != 0 {
		t.Errorf("left %v, %d reports, spool %v", left, len(f.reports()), spooled(t, p))
	}
}

// isRunning tells whether an exchange lists a lease whose payload runs.
func isRunning(r *protocol.ExchangeRequest) bool {
	return slices.ContainsFunc(r.Held, func(h protocol.HeldLease) bool { return h.Phase == protocol.PhaseRunning })
}

func TestEndsOfARunningPayload(t *testing.T) {
	const forever = "exec sleep 60"
	for _, test := range []struct {
		name   string
		begin  func(f *fakeCoordinators, stop func())
		report protocol.Verdict // 0 for none
		reason string
	}{
		{"the batch system asks the pilot to leave", func(f *fakeCoordinators, stop func()) {
			f.before = func(r *protocol.ExchangeRequest) error {
				if isRunning(r) {
					stop()
				}
				return nil
			}
		}, protocol.VerdictPreempted, "drained"},
		{"an order to stop", func(f *fakeCoordinators, _ func()) {
			f.orders = func(r *protocol.ExchangeRequest) []protocol.Order {
				if isRunning(r) {
					return []protocol.Order{{Kind: protocol.OrderStop}}
				}
				return nil
			}
		}, protocol.VerdictPreempted, "drained by order"},
		{"an order to abandon", func(f *fakeCoordinators, _ func()) {
			f.orders = func(r *protocol.ExchangeRequest) []protocol.Order {
				if isRunning(r) {
					return []protocol.Order{{Kind: protocol.OrderAbandon, Lease: r.Held[0].Lease}}
				}
				return nil
			}
		}, 0, "idle"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeCoordinators(t)
			f.lease(document(forever, ""))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			test.begin(f, stop)
			p := f.newPilot()
			if err := p.live(ctx); err != nil {
				t.Fatal(err)
			}
			reports := f.reports()
			switch {
			case test.report == 0:
				if len(reports) != 0 {
					t.Errorf("reported %+v", reports[0])
				}
			case len(reports) != 1 || reports[0].Verdict != test.report:
				t.Errorf("reports = %+v, want one %v", reports, test.report)
			}
			if last := f.last(); !last.Leaving || last.Reason != test.reason {
				t.Errorf("good-bye = %+v, want %q", last, test.reason)
			}
			if left := spooled(t, p); len(left) != 0 {
				t.Errorf("spool = %v", left)
			}
		})
	}
}

func TestADrainingPilotFinishesAndTakesNothingMore(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	first := f.lease(document("sleep 0.3", ""))
	ordered := false
	f.orders = func(r *protocol.ExchangeRequest) []protocol.Order {
		if ordered && r.Want > 0 {
			t.Errorf("wants %d tasks after it was ordered to drain", r.Want)
		}
		if ordered = ordered || isRunning(r); ordered {
			return []protocol.Order{{Kind: protocol.OrderDrain}}
		}
		return nil
	}
	if err := f.newPilot().live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 1 || reports[0].Lease != first.ID || reports[0].Verdict != protocol.VerdictOK {
		t.Errorf("reports = %+v, want the first, ok", reports)
	}
	if last := f.last(); last.Reason != "drained by order" {
		t.Errorf("good-bye = %q", last.Reason)
	}
}

func TestThePayloadEndsAtTheFence(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("exec sleep 60", ""), func(l *protocol.Lease) { l.Fence = 600 })
	p := f.newPilot()
	var since atomic.Int64
	p.now = func() time.Duration { return time.Duration(since.Load()) }
	cut := false
	f.before = func(r *protocol.ExchangeRequest) error {
		switch {
		case len(r.Reports) > 0:
			return nil // the network is back
		case isRunning(r):
			if !cut {
				since.Add(int64(599 * time.Second))
			} else {
				since.Add(int64(2 * time.Second))
			}
			cut = true
		}
		if cut {
			return fmt.Errorf("no route to host: %w", context.Canceled) // without a pause
		}
		return nil
	}
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 1 || reports[0].Verdict != protocol.VerdictPreempted || !strings.Contains(reports[0].Evidence, "fence") {
		t.Fatalf("reports = %+v", reports)
	}
	if got := time.Duration(since.Load()); got < 600*time.Second {
		t.Errorf("the payload ended after %v of silence", got)
	}
}

func TestALeaseThatComesTwiceRunsOnce(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	count := filepath.Join(t.TempDir(), "count")
	text := document("echo x >>"+count+"; sleep 0.2", "")
	f.lease(text) // its reply is lost
	lost := false
	f.before = func(r *protocol.ExchangeRequest) error {
		switch {
		case r.Want > 0 && !lost:
			lost = true
			return fmt.Errorf("cut off: %w", context.Canceled)
		case isRunning(r):
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.leases) == 0 && f.times[r.Held[0].Lease] == 0 {
				again := protocol.Lease{ID: r.Held[0].Lease, Task: r.Held[0].Task, TaskName: "make", Steering: protocol.DigestOf([]byte(text))}
				f.leases = append(f.leases, again)
			}
		}
		return nil
	}
	if err := f.newPilot().live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(count); err != nil || string(b) != "x\n" {
		t.Errorf("it ran %q, %v", b, err)
	}
	if reports := f.reports(); len(reports) != 1 {
		t.Errorf("%d reports", len(reports))
	}
}

func TestAPilotThatWasGivenUpLeavesItsReportsInTheSpool(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	waiting := f.lease(document("true", ""))
	f.lease(document("exec sleep 60", ""), func(l *protocol.Lease) { l.ID.Index = 8 })
	p := f.newPilot()
	f.before = func(r *protocol.ExchangeRequest) error {
		if len(r.Reports) > 0 {
			return protocol.Errorf(protocol.CodeUnauthorized, "pilot was silent for too long; enrol again")
		}
		return nil
	}
	if err := p.live(t.Context()); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("the pilot ended with %v, want unauthorized", err)
	}
	if left := spooled(t, p); len(left) != 1 || !strings.Contains(left[0], waiting.ID.String()) {
		t.Errorf("spool = %v, want the report of %v", left, waiting.ID)
	}
}

func TestReportsOfAnEarlierPilotAreDelivered(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	p := f.newPilot()
	report := &protocol.Report{Lease: protocol.LeaseID{Index: 3}, Task: protocol.TaskID{Dataset: 1}, Pilot: f.id, Verdict: protocol.VerdictOK}
	signed, err := protocol.SignReport(report, f.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.spool.Put(report.Lease, signed, 0); err != nil {
		t.Fatal(err)
	}
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reports := f.reports(); len(reports) != 1 || reports[0].Lease != report.Lease || len(spooled(t, p)) != 0 {
		t.Errorf("reports %v, spool %v", reports, spooled(t, p))
	}
}

func TestAFailedRenewalDoesNotEndThePilot(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("true", ""))
	var asked atomic.Int64
	f.renew = func() error {
		asked.Add(1)
		return errors.New("busy")
	}
	if err := f.newPilot().live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reports := f.reports(); len(reports) != 1 || asked.Load() < 2 {
		t.Errorf("%d reports, asked to renew %d times", len(reports), asked.Load())
	}
}

// Each of four payloads but the first ends only when the next one runs, so that they
// end only if each core that is free is offered, though another runs and though no
// report can be made before the third runs. No core is offered that is not free.
func TestSeveralTasksRunAtOnceWithinWhatIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks, cores = 4, 2
		f := newFakeCoordinators(t)
		for i := range tasks {
			f.lease(document("true", ""), func(l *protocol.Lease) { l.ID.Ordinal = uint32(i) })
		}
		var begun [tasks]chan struct{}
		for i := range begun {
			begun[i] = make(chan struct{})
		}
		runs := func(i uint32) {
			select {
			case <-begun[i]:
			case <-time.After(time.Hour): // in virtual time
				t.Errorf("task %d does not run, though a core is free", i)
			}
		}
		f.store = func() { runs(2) }
		var taken atomic.Int64 // granted, and not ended
		f.before = func(r *protocol.ExchangeRequest) error {
			if n := int(taken.Load()); n+r.Free.Cores > cores {
				t.Errorf("%d cores offered while %d of %d are taken", r.Free.Cores, n, cores)
			}
			if int(r.Want) > r.Free.Cores {
				t.Errorf("wants %d with %d cores free", r.Want, r.Free.Cores)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			taken.Add(int64(min(int(r.Want), len(f.leases)))) // what the answer will grant
			return nil
		}
		p := f.newPilot(func(c *Config) {
			c.Payload = func(_ context.Context, task payload.Task, _ payload.Limits, _ payload.Dir, o payload.Options) payload.Outcome {
				i := task.Lease.Ordinal
				close(begun[i])
				if i < tasks-1 {
					runs(i + 1)
				}
				record, err := o.Output.Seal()
				if err != nil {
					t.Error(err)
				}
				taken.Add(-1)
				return payload.Outcome{Verdict: protocol.VerdictOK, Log: record}
			}
		})
		if err := p.live(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reports := f.reports(); len(reports) != tasks {
			t.Errorf("%d reports, want %d", len(reports), tasks)
		}
	})
}

// A failure is reported before, or together with, the wish for the next task: a node
// that fails everything is judged before it gets more.
func TestAFailedTaskIsReportedBeforeAnotherIsWanted(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	for i := range 3 {
		f.lease(document("exit 1", ""), func(l *protocol.Lease) { l.ID.Ordinal = uint32(i) })
	}
	f.before = func(r *protocol.ExchangeRequest) error {
		if r.Want > 0 && len(r.Held) > len(r.Reports) {
			t.Errorf("wants %d tasks and reports %d of %d that it holds", r.Want, len(r.Reports), len(r.Held))
		}
		return nil
	}
	one := func(c *Config) { c.Offer.Cores = 1 }
	if err := f.newPilot(one).live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reports := f.reports(); len(reports) != 3 || reports[0].Verdict != protocol.VerdictPayload {
		t.Errorf("%d reports, want 3 failures", len(reports))
	}
}
