package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newSite joins and writes a site.toml as a person would, without any pass.
func newSite(w *world) (config string) {
	w.ok("site", "join", strings.TrimSpace(w.ok("token", "create", "site", "here")), "--dir", w.site)
	w.ok("site", "init", "--dir", w.site, "--yes", "--type", "local", "--max-pilots", "2", "--memory", "1GB")
	config = filepath.Join(w.site, "site.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		w.t.Fatal(err)
	}
	pilot := fmt.Sprintf("[system]\npilot = %q\n", filepath.Join(bin(w.t), "floe-pilot"))
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "[system]\n", pilot, 1)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return config
}

// TestSystemDoctor: a site that has just joined is looked at, and tried by a real pilot
// that registers, runs a task of its own, and leaves.
func TestSystemDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := newSite(w)
	r := w.floe("site", "doctor", "--config", config)
	if r.code != exitOK {
		t.Errorf("floe site doctor: exit %d\n%s%s", r.code, r.out, r.err)
	}
	for _, want := range []string{
		"ok    configuration ", "ok    pilot ", "ok    scratch ", "warn  passes          none was made yet", "ok    certificate     of site here, good for 29 days more",
		"ok    way out         to localhost:", " by QUIC, TCP\n", "ok    clock ", "ok    pilot job       ", "a task ran, the pilot registered as here by quic and left", " 0 bad\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no word of %q:\n%s%s", want, r.out, r.err)
		}
	}
	// A pass that comes later treats the pilot job like any other.
	if pass := w.ok("glidein", "--config", config); !strings.Contains(pass, "ended 1: ") {
		t.Errorf("the next pass: %s", pass)
	}

	broken := w.write("broken", "#!/bin/sh\ncase $1 in --version) echo floe-pilot version 0;; *) echo no libfoo here >&2; exit 1;; esac\n")
	if err := os.Chmod(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), filepath.Join(bin(t), "floe-pilot"), broken, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r = w.floe("site", "doctor", "--config", config)
	if r.code != exitFailure || !strings.Contains(r.out, "bad   pilot job ") || !strings.Contains(r.out, "its pilot never spoke; it printed: no libfoo here") || !strings.Contains(r.out, "warn  pilot ") {
		t.Errorf("floe site doctor of a broken pilot: exit %d\n%s%s", r.code, r.out, r.err)
	}
}

// TestSystemSiteCheck: what would be launched and why, and nothing is.
func TestSystemSiteCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := newSite(w)
	id := w.submit("version: 3\ntasks: [{name: t, requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}, trays: [{modules: [{src: /bin/true}]}]}]\n", 5)
	r := w.floe("site", "check", "--config", config, "--dry-run")
	if r.code != exitOK {
		t.Errorf("floe site check: exit %d\n%s%s", r.code, r.out, r.err)
	}
	for _, want := range []string{"shape local: 5 queued tasks fit", "a pass would be granted ", "submit.sh\n#!/bin/sh\n", "--- ", "/pilot.sh\n#!/bin/sh\n# floe pilot job dry-run\n", "'--launch' 'dry-run'"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no word of %q:\n%s", want, r.out)
		}
	}
	if again := w.ok("site", "check", "--config", config, "--dry-run"); !strings.Contains(again, "shape local: 5 queued tasks fit") || strings.Contains(again, "pilot jobs come") {
		t.Errorf("the second time, what the first did is seen: %s", again)
	}
	if out := w.ok("explain", fmt.Sprintf("%d.0.t", id)); strings.Contains(out, "pass of site here") {
		t.Errorf("a check was taken for a pass: %s", out)
	}
	if err := os.WriteFile(config, []byte("[queue]\ntype = \"local\"\ncores = 100000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.floe("site", "check", "--config", config); r.code == exitOK || !strings.Contains(r.out+r.err, "cores 100000") {
		t.Errorf("floe site check of 100000 cores: exit %d\n%s%s", r.code, r.out, r.err)
	}
}
