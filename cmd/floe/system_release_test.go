package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/glidein"
	"floe/protocol"
)

// TestSystemReleases: a version of the pilot that is released to a site is fetched and
// launched by its passes, verified each time; another one after it, and the first again
// when it is taken back. What cannot be had is said, and the last one launched.
func TestSystemReleases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.publisher("ann")
	w.ok("software", "trust", "ann", ann.key.String(), "--keys", filepath.Join(w.nodes["c1"].dir, "keys"))
	w.ok("site", "join", strings.TrimSpace(w.ok("token", "create", "site", "here")), "--dir", w.site)
	w.t.Cleanup(w.endPilots)
	program, err := os.ReadFile(filepath.Join(bin(t), "floe-pilot"))
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]protocol.Digest{} // of the programs
	for _, version := range []string{"1.0", "1.1"} {
		dir := filepath.Join(w.dir, "pilot-"+version)
		content := append(append([]byte{}, program...), version...) // behind its end, where nobody looks
		digests[version] = protocol.DigestOf(content)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, protocol.PilotSoftware), content, 0o755); err != nil {
			t.Fatal(err)
		}
		if r := ann.as("software", "publish", protocol.PilotSoftware, version, dir, "--platform", "linux-"+machine(w)); r.code != exitOK {
			t.Fatalf("publish %s: exit %d, %s", version, r.code, r.err)
		}
	}
	config := fmt.Sprintf("[queue]\ntype = \"local\"\nmax_pilots = 9\nper_pass = 1\nmemory = \"1GB\"\ndisk = \"1GB\"\n[system]\nidle = \"60s\"\nisolation = %q\n", w.isolation)
	w.write("site/site.toml", config)
	w.submit("version: 3.2\ntasks:\n  - name: t\n    trays: [{modules: [{src: /bin/sleep, args: \"600\"}]}]\n", 9)
	// pass makes a pass that launches one pilot, and says of which program.
	pass := func() (protocol.Digest, *glidein.Result) {
		t.Helper()
		result := ask[glidein.Result](w, "glidein", "--config", filepath.Join(w.site, "site.toml"))
		if len(result.Submitted) != 1 {
			t.Fatalf("a pass launches %v: %+v", result.Submitted, result)
		}
		text, err := os.ReadFile(filepath.Join(w.site, "jobs", "floe-"+string(result.Submitted[0]), "pilot.sh"))
		if err != nil {
			t.Fatal(err)
		}
		_, command, _ := strings.Cut(string(text), "\nexec ")
		path := strings.Trim(strings.Fields(command)[0], "'")
		d, _, err := hashOf(path)
		if err != nil {
			t.Fatal(err)
		}
		return d, &result
	}
	want := func(what, version, says string) {
		t.Helper()
		d, result := pass()
		if said := strings.Join(result.Reasons, "\n"); d != digests[version] || says != "" && !strings.Contains(said, says) || says == "" && strings.Contains(said, "not launched") {
			t.Errorf("%s: launched %v, want %s (%v); said %q, want %q", what, d, version, digests[version], said, says)
		}
	}
	// No pilot lies beside this program, which is the test's.
	if r := w.floe("glidein", "--config", filepath.Join(w.site, "site.toml")); r.code == exitOK || !strings.Contains(r.err, "no pilot to launch") {
		t.Errorf("before the first release: exit %d, %s", r.code, r.err)
	}
	w.ok("software", "release", "1.0", "--all")
	want("a release to all", "1.0", "")
	if r := w.floe("software", "release", "1.1"); r.code != exitUsage || !strings.Contains(r.err, "--sites, --percent or --all") {
		t.Errorf("a release to nobody: exit %d, %s", r.code, r.err)
	}
	w.ok("software", "release", "1.1", "--sites", "here")
	if out := w.ok("software", "release"); !strings.Contains(out, "here") || !strings.Contains(out, "named") {
		t.Errorf("floe software release: %s", out)
	}
	want("a release to this site", "1.1", "")
	w.ok("software", "release", "--back")
	want("taken back", "1.0", "")
	w.ok("software", "release", "1.1", "--percent", "99")
	want("to a part of the sites", "1.1", "") // whose share is 73

	// What is on disk is verified before each launch.
	files, err := filepath.Glob(filepath.Join(w.site, "pilots", "*", protocol.PilotSoftware))
	if err != nil || len(files) != 2 {
		t.Fatalf("pilots on disk: %v, %v; want both", files, err)
	}
	for _, file := range files {
		if d, _, err := hashOf(file); err == nil && d == digests["1.1"] {
			// As another file: a pilot that runs has this one open.
			content, err := os.ReadFile(file)
			if err == nil {
				err = os.Remove(file)
			}
			content[len(content)/2] ^= 1
			if err == nil {
				err = os.WriteFile(file, content, 0o700)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	want("damaged on disk", "1.1", "")

	// Of a publisher whom the site does not believe nothing new is taken.
	w.ok("software", "release", "--back")
	want("taken back again", "1.0", "")
	w.write("site/site.toml", config+fmt.Sprintf("publishers = [%q]\n", protocol.PublisherKey(make([]byte, 32))))
	w.ok("software", "release", "1.1", "--all")
	want("a publisher whom the site does not list", "1.0", "pilot 1.1 is released to this site, and not launched")
}
