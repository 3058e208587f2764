package pilot

import (
	"fmt"
	"testing"
	"time"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// A task that sizes itself is told, and given, what is left of the slot; any other its
// walltime, or less where the slot ends before.
func TestTasksAreToldTheTimeTheyHave(t *testing.T) {
	t.Parallel()
	const minute, hour = 60, 3600
	for _, test := range []struct {
		name        string
		elastic     bool
		walltime    protocol.Seconds
		slot        time.Duration // zero is not known
		least, most int
	}{
		{"walltime", false, hour, 0, hour - 60, hour},
		{"slot ends later", false, hour, 5 * time.Hour, hour - 60, hour},
		{"slot ends before", false, hour, 30 * time.Minute, 28 * minute, 30 * minute},
		{"elastic", true, hour, 5 * time.Hour, 5*hour - 120, 5 * hour},
		{"elastic, no end known", true, hour, 0, hour - 60, hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.lease.Granted = protocol.Requirements{Walltime: test.walltime, Elastic: test.elastic}
			report := b.run(t.Context(), document("floe-task statistic asked $(floe-task remaining); floe-task statistic named $system(remaining_walltime)", ""), func(a *Attempt) {
				if test.slot > 0 {
					a.End = time.Now().Add(test.slot)
				}
			})
			if report.Verdict != protocol.VerdictOK || len(report.Statistics) != 2 {
				t.Fatalf("%v: %s\n%s", report.Verdict, report.Evidence, b.log)
			}
			for _, s := range report.Statistics {
				if s.Value < float64(test.least) || s.Value > float64(test.most) {
					t.Errorf("%s = %v s, want %d to %d", s.Name, s.Value, test.least, test.most)
				}
			}
		})
	}
}

// Without any end there is none to tell of.
func TestATaskWithoutAnEndIsToldSo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.lease.Granted = protocol.Requirements{}
	report := b.run(t.Context(), document(fmt.Sprintf("floe-task remaining 2>why; test $? = 1 && grep -q %s why", session.CodeNoLimit), ""))
	if report.Verdict != protocol.VerdictOK {
		t.Errorf("%v: %s\n%s", report.Verdict, report.Evidence, b.log)
	}
}
