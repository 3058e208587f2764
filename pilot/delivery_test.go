package pilot

import (
	"strings"
	"sync/atomic"
	"testing"

	"floe/protocol"
)

// TestAShortLogGoesWithItsReport, and a long one before it; both are what the report
// names.
func TestAShortLogGoesWithItsReport(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		stored int32
		says   string
	}{
		"short": {"echo a few words", 0, "a few words"},
		"long":  {"head -c 5000 /dev/zero | tr '\\\\0' x", 1, strings.Repeat("x", 5000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeCoordinators(t)
			var stored atomic.Int32
			f.store = func() { stored.Add(1) }
			f.lease(document(test.script, ""))
			if err := f.newPilot().live(t.Context()); err != nil {
				t.Fatal(err)
			}
			reports := f.reports()
			if len(reports) != 1 || reports[0].Verdict != protocol.VerdictOK {
				t.Fatalf("reports: %+v", reports)
			}
			if log := string(f.blobs[reports[0].Log.Digest]); !strings.Contains(log, test.says) || stored.Load() != test.stored {
				t.Errorf("of the log %.200q is known, stored %d times before the report, want %d", log, stored.Load(), test.stored)
			}
		})
	}
}
