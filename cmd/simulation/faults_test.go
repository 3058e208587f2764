package simulation

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var faultsToo = flag.Bool("faults", false, "build floe with each deliberate fault, and hold the seeds to finding it")

// fault is production code broken on purpose: a simulator that does not see it proves
// nothing about what that code is for.
type fault struct {
	name       string
	file       string // from the root of the repository
	was, is    string // a piece of the file, and what stands there instead
	invariants string // by which it is found, a regular expression
	within     int    // by so many seeds at most; see docs/testing.md
}

var faults = []fault{
	{
		"a release wakes nobody", "coordinator/server/parking.go",
		"\t\tp.release(b)\n", "\t\t_ = b\n", "I-5:", 20,
	},
	{
		"a copied attempt counts again when its report is repeated", "coordinator/state/report.go",
		"\t\treturn Answer{Reason: \"accepted before\"}\n", "\t\tm.accept(d, l, r)\n", "I-1:|panic", 10,
	},
	{
		"a passkey is not looked at", "coordinator/server/admission.go",
		"!c.passkey(&d.lease, key).Matches(d.report.Passkey)", "false", "I-1:", 50,
	},
	{
		"a new leader gives less than a full term", "coordinator/server/watch.go",
		"deadline: now.Add(w.timing.Lease), lapsed:", "deadline: now.Add(w.timing.Offer), lapsed:", "I-9", 20,
	},
	{
		"a child is queued before all its parents are done", "coordinator/state/report.go",
		" && d.parentsFinished(child, j) {", " {", "I-12|panic|audit", 10,
	},
	{
		"a reset does not end the lease", "coordinator/state/control.go",
		"\t\tm.endAttempt(d, l, protocol.VerdictWithdrawn, reason, next)\n\t}\n}\n", "\t\t_ = l\n\t}\n}\n", "audit|panic|I-22", 10,
	},
	{
		"a renewal is not noted", "coordinator/server/watch.go",
		"l != nil && !l.lapsed {", "l != nil && l.lapsed {", "I-7", 10,
	},
	{
		"a report is taken for whatever lease is current", "coordinator/state/report.go",
		"\td, l, a := m.leaseOf(r.Lease, r.Task)\n", "\td, l, a := m.leaseOf(r.Lease, r.Task)\n\tif d != nil {\n\t\tl, _ = d.current(uint32(r.Task.Job), r.Task.Task)\n\t}\n", "I-4|I-11", 100,
	},
	{
		"a stalled leader grants no grace", "coordinator/server/core.go",
		"\t\tw.grace(now)\n", "", "I-9", 200,
	},
	{
		"an expiry of an earlier term is taken", "coordinator/state/lease.go",
		"\tif e.Term != m.term {\n", "\tif false {\n", "I-8|I-9", 200,
	},
	{
		"a wake that was of no use is not passed on", "coordinator/server/turn.go",
		"\tif x.owed = nil; b == nil {\n", "\tif x.owed = nil; true {\n", "I-5", 200,
	},
	{
		"the fence does not fall", "pilot/conversation.go",
		"silent > h.lease.Fence.Duration()", "silent < 0", "I-10", 200,
	},
	{
		"a grant whose answer was lost is not sent again", "coordinator/server/turn.go",
		"\tx.take(again)\n", "\t_ = again\n", "I-4", 20,
	},
	{
		"the answer to a keyed command is not remembered", "coordinator/state/keys.go",
		"\tm.answered.Set(by.key(), kept)\n", "", "I-4|I-16|I-5", 10,
	},
	{
		"the answer to a keyed command is forgotten too early", "coordinator/state/keys.go",
		"KeyLifetime = 24 * Hour", "KeyLifetime = 2 * Minute", "I-4|I-16", 50,
	},
	{
		"two people's keys are taken for one", "coordinator/state/keys.go",
		"string(a.Actor) + \"\\x00\" + a.Key", "a.Key", "I-4|I-5|I-16", 50,
	},
	{
		"a site's policy is not looked at", "coordinator/state/policy.go",
		"\treturn own && s.Policy.Permits(d.facts.Owner, d.facts.Group, d.id)\n", "\treturn own\n", ".*I-40", 80,
	},
}

// Each fault still has its place in the code. With -faults the simulator is built with
// one after the other, and must find it.
func TestFaults(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			path := filepath.Join(root, f.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), f.was); n != 1 {
				t.Fatalf("%s has %q %d times, want once: bring the table of faults in line", f.file, f.was, n)
			}
			if !*faultsToo {
				return
			}
			dir := t.TempDir()
			broken := filepath.Join(dir, "broken.go")
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
			if err != nil {
				t.Fatal(err)
			}
			for name, b := range map[string][]byte{
				broken:                             []byte(strings.Replace(string(text), f.was, f.is, 1)),
				filepath.Join(dir, "overlay.json"): overlay,
			} {
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			binary := filepath.Join(dir, "simulation.test")
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f.mustBeFound(t, binary)
		})
	}
}

// found is how the first seed that fails is printed.
var found = regexp.MustCompile(`(?m): seed (\d+): (.*)$`)

// mustBeFound runs seeds until one fails, of the usual kind and then of those whose
// sites have owners.
func (f *fault) mustBeFound(t *testing.T, binary string) {
	t.Helper()
	run := exec.CommandContext(t.Context(), binary, "-test.run", "^(TestSeeds|TestOwnersOfSites)$", "-first", "-seeds", strconv.Itoa(f.within))
	out, err := run.CombinedOutput()
	var failed *exec.ExitError
	m := found.FindSubmatch(out)
	switch {
	case err == nil:
		t.Errorf("not found by %d seeds", f.within)
	case !errors.As(err, &failed) || m == nil:
		t.Errorf("%v: %s", err, out)
	case !regexp.MustCompile("^(" + f.invariants + ")").Match(m[2]):
		t.Errorf("found by seed %s as %s, want %s", m[1], m[2], f.invariants)
	default:
		t.Logf("found by seed %s: %s", m[1], m[2])
	}
}
