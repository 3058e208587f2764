package glidein_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/glidein"
	"floe/protocol"
)

// The caps of the policy hold whatever the coordinators grant, and whatever the caps of
// the queue are; the coordinators hear of the policy, and pilots find it.
func TestPoliciesCapPilotJobs(t *testing.T) {
	p, b, c := newPass(t, 50, 50)
	c.overflow = 4
	p.Config.Queue.PerPass, p.Config.Queue.Cores = 50, 2
	p.Config.Policy = glidein.Policy{MaxCores: 7, MaxNetwork: glidein.Size(100 * protocol.MB), BanUsers: []protocol.UserID{"eve"}}
	r := run(t, p)
	if len(r.Submitted) != 3 || len(b.jobs) != 3 || r.Queues[0].Bound != "policy.max_cores" {
		t.Errorf("seven cores, two for each: submitted %v, bound %q", r.Submitted, r.Queues[0].Bound)
	}
	if r := run(t, p); len(r.Submitted) != 0 {
		t.Errorf("then %v", r.Submitted)
	}
	if told := c.asked[0].Policy; told == nil || told.Caps.Cores != 7 || told.Permits("eve", "", 1) {
		t.Errorf("the coordinator was told %+v", told)
	}
	for _, dir := range []string{p.Config.Directory, filepath.Join(p.Config.Directory, "jobs", "floe-"+string(r.Submitted[0]))} {
		if text, err := os.ReadFile(filepath.Join(dir, glidein.PolicyFile)); err != nil || !strings.Contains(string(text), `"eve"`) {
			t.Errorf("policy in %s: %q, %v", dir, text, err)
		}
	}
	script, err := os.ReadFile(filepath.Join(p.Config.Directory, "jobs", "floe-"+string(r.Submitted[0]), "pilot.sh"))
	if want := "--policy " + filepath.Join(p.Config.Directory, glidein.PolicyFile) + " --policy " + glidein.PolicyFile; err != nil || !strings.Contains(strings.ReplaceAll(string(script), "'", ""), want) {
		t.Errorf("the script lacks %q: %s, %v", want, script, err)
	}
	if want := "--network 2000000"; !strings.Contains(strings.ReplaceAll(string(script), "'", ""), want) {
		t.Errorf("of 100 MB/s for 50 pilots, the script lacks %q: %s", want, script)
	}
}
