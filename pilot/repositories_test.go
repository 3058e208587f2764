package pilot

import (
	"context"
	"strings"
	"testing"

	"floe/pilot/hardware"
	"floe/protocol"
)

// TestARepositoryThatHangsLater: it answered when the pilot came. The task that meets
// it is not to blame, and the pilot takes no other.
func TestARepositoryThatHangsLater(t *testing.T) {
	t.Parallel()
	const hangs = "cvmfs icecube.example.org: no answer in 20s: the mount hangs"
	for _, x := range []struct {
		name, script string
		from         int // the look at which it hangs
		verdict      protocol.Verdict
		evidence     string
	}{
		{"before the task begins", "exit 3", 1, protocol.VerdictNode, "node: " + hangs},
		{"while it runs", "exit 3", 2, protocol.VerdictNode, "node: " + hangs + "; the task: "},
		{"while it runs, and it does without", "true", 2, protocol.VerdictOK, ""},
		{"never", "exit 3", 9, protocol.VerdictPayload, "exit code 3"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeCoordinators(t)
			f.lease(document(x.script, ""), func(l *protocol.Lease) {
				l.Granted.Tags = []string{"x86-64-v1", protocol.RepositoryTag("icecube.example.org")}
			})
			looks := 0
			p := f.newPilot(func(c *Config) {
				c.Silent = func(_ context.Context, _ hardware.Options, names []string) map[string]string {
					if looks++; len(names) == 1 && looks >= x.from {
						return map[string]string{names[0]: hangs}
					}
					return nil
				}
			})
			if err := p.live(t.Context()); err != nil {
				t.Fatal(err)
			}
			reports := f.reports()
			if len(reports) != 1 || reports[0].Verdict != x.verdict || !strings.Contains(reports[0].Evidence, x.evidence) {
				t.Fatalf("reports = %+v, want one with %v, %q", reports, x.verdict, x.evidence)
			}
			if left := f.last(); (x.verdict == protocol.VerdictNode) != (left.Reason == "drained by order") {
				t.Errorf("the pilot left as %q", left.Reason)
			}
		})
	}
}
