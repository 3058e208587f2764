package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

// TestSystemPilotJobsThatDie has a site whose pilots die, until somebody has mended it:
// what they printed is told to everybody, less is launched, and one that works is
// enough to go on.
func TestSystemPilotJobsThatDie(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("site", "join", strings.TrimSpace(w.ok("token", "create", "site", "here")), "--dir", w.site)
	pilot := w.write("pilot", "#!/bin/sh\necho 'floe-pilot: no such library'\nexit 127\n")
	w.write(filepath.Join(filepath.Base(w.site), "site.toml"), fmt.Sprintf(`[site]
max_pilots = 3
[queue]
type = "local"
memory = "1GB"
disk = "1GB"
walltime = "1h"
max_pilots = 2
[queues.one]
[queues.two]
cores = 2
[system]
pilot = %q
cache = %q
isolation = %q
`, pilot, filepath.Join(w.dir, "cache"), w.isolation))
	t.Cleanup(w.endPilots)
	pass := func() string {
		return w.ok("glidein", "--config", filepath.Join(w.site, "site.toml"), "--timeout", "20s")
	}
	id := w.submit("version: 3\ntasks:\n  - name: hello\n    trays: [{modules: [{src: /bin/true}]}]\n", 4)
	first := pass()
	if !strings.Contains(first, "submitted 3") || !strings.Contains(first, "room for 3 in all, by site.max_pilots") {
		t.Errorf("the first pass says: %s", first)
	}
	shape := func() protocol.ShapeExplanation {
		return ask[protocol.SiteExplanation](w, "explain", "site", "here").Shapes[0]
	}
	w.until("the pass has seen a job die", func() bool {
		said := pass()
		return strings.Contains(said, "ended before a pilot was given a task: floe-pilot: no such library")
	})
	if x := shape(); x.Name != "one" || x.Died == 0 || x.Allowance >= 10 || x.Reason != "floe-pilot: no such library" {
		t.Errorf("what is known of the shape: %+v", x)
	}
	if said := w.ok("explain", "site", "here"); !strings.Contains(said, "died before") || !strings.Contains(said, "no such library") {
		t.Errorf("explain site: %s", said)
	}
	w.write("pilot", "#!/bin/sh\nexec "+w.pilotProgram()+" \"$@\"\n")
	proven := func() (n uint64) { // whichever shape's pilot comes first takes all
		for _, x := range ask[protocol.SiteExplanation](w, "explain", "site", "here").Shapes {
			n += x.Proven
		}
		return n
	}
	w.until("a pilot has got a task", func() bool {
		pass()
		return proven() > 0
	})
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
}
