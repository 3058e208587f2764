package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestSystemValues: what site.toml says reaches payloads through pass and pilot.
func TestSystemValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.submit(`version: 3
tasks:
  - name: t
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays: [{modules: [{src: /bin/echo, args: "$system(downloads) by $system(batch_system)"}]}]
`, 1)
	w.joinSiteAs("here", 1, 1, "", "[system.values]\ndownloads = \"/data/it's here\"\n")
	if code := w.finish(id); code != exitOK {
		t.Errorf("wait: exit %d, want 0", code)
	}
	if log := w.ok("logs", fmt.Sprintf("%d.0.t", id)); !strings.Contains(log, "/data/it's here by local\n") {
		t.Errorf("log: %q", log)
	}
}
