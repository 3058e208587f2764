package pilot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"
)

// A batch system kills 30 s after it has asked to leave. By then the report must
// be in the spool and the pilot gone, also where no coordinator answers.
func TestAPilotLeavesInTimeWithoutCoordinators(t *testing.T) {
	for name, open := range map[string]func(*fakeCoordinators){
		"nobody answers": func(f *fakeCoordinators) {
			before := f.before
			f.before = func(r *protocol.ExchangeRequest) error {
				if err := before(r); err != nil {
					return err
				}
				if len(r.Reports) > 0 || r.Leaving {
					return errors.New("no route to any coordinator")
				}
				return nil
			}
		},
		"the fate of the report stays open": func(f *fakeCoordinators) {
			f.answer = func(*protocol.Report, int) protocol.Code { return protocol.CodeUnknown }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCoordinators(t)
				f.lease(document("true", ""))
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var asked time.Time
				f.before = func(r *protocol.ExchangeRequest) error {
					if len(r.Reports) > 0 && asked.IsZero() {
						asked = time.Now()
						stop()
					}
					return nil
				}
				open(f)
				p := f.newPilot()
				if err := p.live(ctx); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(asked); took > 30*time.Second {
					t.Errorf("it left %v after it was asked to", took) // in virtual time
				}
				if left := spooled(t, p); len(left) != 1 {
					t.Errorf("spool = %v, want the report", left)
				}
			})
		})
	}
}

// A piece of the log that was cut off with its exchange is told again.
func TestALogPieceOfACutExchangeIsToldAgain(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("echo one; while [ ! -e "+t.TempDir()+"/go ]; do sleep 0.01; done", ""))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lost := false
	f.before = func(r *protocol.ExchangeRequest) error {
		if len(r.Logs) == 0 {
			return nil
		}
		if !lost {
			lost = true
			return context.Canceled
		}
		if r.Logs[0].Offset != 0 {
			t.Errorf("after a cut exchange the log is told from %d", r.Logs[0].Offset)
		}
		stop()
		return nil
	}
	if err := f.newPilot().live(ctx); err != nil {
		t.Fatal(err)
	}
}

// A report over the limits would be refused or never fit: the attempt must end all
// the same, and its outputs must go.
func TestAReportThatCannotBeSentEndsTheAttempt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var data []string
	for i := range protocol.MaxOutputs + 1 {
		data = append(data, fmt.Sprintf("{type: permanent, movement: output, local: left, remote: file://%s/out%d}", dir, i))
	}
	f := newFakeCoordinators(t)
	f.lease(document("echo result >left", strings.Join(data, ", ")))
	if err := f.newPilot().live(t.Context()); err != nil {
		t.Fatal(err)
	}
	reports := f.reports()
	if len(reports) != 1 || reports[0].Verdict != protocol.VerdictPayload || !strings.Contains(reports[0].Evidence, "257 outputs") {
		t.Errorf("reports = %+v, want one that names the limit", reports)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("%d outputs are left", len(left))
	}
}

// A node that shares nothing with its site has no spool of it: reports that are not
// delivered stay in the scratch directory.
func TestANodeWithoutTheSitesSpool(t *testing.T) {
	t.Parallel()
	f := newFakeCoordinators(t)
	f.lease(document("exit 0", ""))
	scratch := t.TempDir()
	file := filepath.Join(scratch, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := f.newPilot(func(c *Config) { c.Scratch, c.Spool = scratch, filepath.Join(file, "spool") })
	var kept []string
	f.before = func(r *protocol.ExchangeRequest) (err error) {
		if len(r.Reports) > 0 {
			kept, err = filepath.Glob(filepath.Join(scratch, "spool", "*.report"))
		}
		return err
	}
	if err := p.live(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || len(f.reports()) != 1 {
		t.Errorf("kept while it was delivered: %v, of %d reports; want the one, in the scratch directory", kept, len(f.reports()))
	}
}
