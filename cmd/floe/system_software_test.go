package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// softwareDataset says which build it runs from.
const softwareDataset = `version: 3.2
tasks:
  - name: say
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - projects: [{name: tools, version: "1.0"}]
        modules: [{src: tool}]
        data: [{type: permanent, movement: output, local: said, remote: "file://DIR/out/said.$(job)"}]
`

// publisher publishes as a person with a key of their own.
type publisher struct {
	*world
	env []string
	key protocol.PublisherKey
}

// publisher makes somebody a producer, and their key one that the root certified.
func (w *world) publisher(name string) *publisher {
	w.t.Helper()
	p := &publisher{world: w, env: []string{
		"FLOE_TOKEN=" + strings.TrimSpace(w.ok("token", "create", "producer", name)), "XDG_CONFIG_HOME=" + filepath.Join(w.dir, "config-"+name),
	}}
	r := p.as("software", "key")
	if err := p.key.UnmarshalText([]byte(strings.TrimSpace(r.out))); r.code != exitOK || err != nil {
		w.t.Fatalf("floe software key: exit %d, %v, %s", r.code, err, r.err)
	}
	if again := p.as("software", "key"); again.out != r.out {
		w.t.Errorf("floe software key, again: %s, want %s", again.out, r.out)
	}
	return p
}

func (p *publisher) as(args ...string) result {
	p.t.Helper()
	return p.floeWith(p.env, "", args...)
}

// refused runs a command that must fail with a code and say something.
func (p *publisher) refused(code int, says string, args ...string) {
	p.t.Helper()
	if r := p.as(args...); r.code != code || !strings.Contains(r.out+r.err, says) {
		p.t.Errorf("floe %s: exit %d, %s%s; want exit %d with %q", strings.Join(args, " "), r.code, r.out, r.err, code, says)
	}
}

// tool makes a directory with a program that says something.
func (w *world) tool(name, says string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.write(name+"/bin/tool", "#!/bin/sh\necho "+says+" >said\n")
	return dir
}

// tagged has the site's pilots from now on be of nodes with a tag.
func (w *world) tagged(tag string) {
	w.t.Helper()
	file := filepath.Join(w.site, "site.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "tags") {
			lines = append(lines, line)
		}
		if line == "[queue]\n" {
			lines = append(lines, fmt.Sprintf("tags = [%q]\n", tag))
		}
	}
	w.write("site/site.toml", strings.Join(lines, ""))
}

// TestSystemSoftware publishes two builds, runs from one, retires the version, runs
// from the other, and finds a bit that flipped.
func TestSystemSoftware(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.publisher("ann")
	linux := "linux-" + machine(w)
	alpha, beta := w.tool("alpha", "from alpha"), w.tool("beta", "from beta")
	publish := func(dir, runtime string) []string {
		return []string{"software", "publish", "tools", "1.0", dir, "--platform", linux + "+" + runtime}
	}
	ann.refused(exitDenied, "floe software trust", publish(alpha, "alpha")...)
	if r := ann.as("software", "trust", "ann", ann.key.String(), "--keys", filepath.Join(w.nodes["c1"].dir, "keys")); r.code != exitDenied {
		t.Errorf("a producer makes publishers: exit %d, %s", r.code, r.err)
	}
	w.ok("software", "trust", "ann", ann.key.String(), "--keys", filepath.Join(w.nodes["c1"].dir, "keys"))
	ann.refused(exitUsage, "--platform is missing", "software", "publish", "tools", "1.0", alpha)
	ann.refused(exitUsage, `no machine "x86"`, "software", "publish", "tools", "1.0", alpha, "--platform", "linux-x86")
	ann.refused(exitFailure, "there is nothing in it", "software", "publish", "tools", "1.0", filepath.Join(w.dir, "gate"), "--platform", "any")

	// Submitted before it is published, it is refused; then both builds are pinned.
	file := w.write("early.yaml", softwareDataset)
	if r := w.floe("submit", file); r.code != exitFailure || !strings.Contains(r.err, "no software named tools") {
		t.Errorf("submit before publishing: exit %d, %s", r.code, r.err)
	}
	first := decode[published](w, ann.as(append(publish(alpha, "alpha"), "-o", "json")...).out)
	if again := decode[published](w, ann.as(append(publish(w.tool("copy", "from alpha"), "alpha"), "-o", "json")...).out); !again.Before || again.Digest != first.Digest {
		t.Errorf("the same files again: %+v, want those of %v as before", again, first.Digest)
	}
	ann.refused(exitFailure, "never changes", publish(beta, "alpha")...)
	if r := ann.as(publish(beta, "beta")...); r.code != exitOK {
		t.Fatalf("publish: exit %d, %s", r.code, r.err)
	}
	w.publisher("eve").refused(exitDenied, "does not know your key", publish(beta, "beta")...)

	w.joinSite(1, 1)
	w.tagged("alpha")
	id := w.submit(softwareDataset, 1)
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d\n%s", code, w.story())
	}
	said := func(job int) string {
		b, _ := os.ReadFile(filepath.Join(w.dir, "out", fmt.Sprintf("said.%d", job)))
		return string(b)
	}
	if got := said(0); got != "from alpha\n" {
		t.Errorf("job 0 said %q", got)
	}
	pinned := ask[[]protocol.SignedBuild](w, "software", "list", "--dataset", fmt.Sprint(id))
	if len(pinned) != 2 || pinned[0].Build.Digest != first.Digest {
		t.Errorf("pinned: %+v", pinned)
	}

	// Retired: for no new dataset. The old one goes on, on nodes of another kind.
	if r := ann.as("software", "retire", "tools", "1.0", "--reason", "wrong"); r.code != exitOK {
		t.Errorf("retire: exit %d, %s", r.code, r.err)
	}
	if r := w.floe("submit", file); r.code != exitFailure || !strings.Contains(r.err, "tools 1.0 is retired") {
		t.Errorf("submit after retiring: exit %d, %s", r.code, r.err)
	}
	w.tagged("beta")
	w.endPilots()
	w.ok("dataset", "grow", fmt.Sprint(id), "1")
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d\n%s", code, w.story())
	}
	if got := said(1); got != "from beta\n" {
		t.Errorf("job 1 said %q", got)
	}
	if page := ask[protocol.SoftwarePage](w, "software", "list", "tools"); len(page.Software) != 0 {
		t.Errorf("active: %+v", page.Software)
	}

	// What is retired can be verified, shown and fetched.
	if got := w.ok("software", "verify", "tools", "1.0"); strings.Count(got, ": ok: signed by ann") != 2 {
		t.Errorf("verify: %s", got)
	}
	w.ok("software", "get", "tools", "1.0", filepath.Join(w.dir, "got"), "--platform", linux+"+alpha")
	if got, _ := os.ReadFile(filepath.Join(w.dir, "got", "bin", "tool")); !bytes.Contains(got, []byte("from alpha")) {
		t.Errorf("get: %q", got)
	}
	files := ask[[]struct {
		Platform string
		Files    []struct {
			Path, Kind, Digest string
			Size               int64
		}
	}](w, "software", "show", "tools", "1.0", "--files", "--platform", linux+"+alpha")
	if len(files) != 1 || len(files[0].Files) != 2 || files[0].Files[1].Path != "bin/tool" || files[0].Files[1].Kind != "program" {
		t.Errorf("show --files: %+v", files)
	}
	// One bit of a tarball flips on the coordinator's disk.
	flip(t, filepath.Join(w.nodes["c1"].dir, "blobs", "blobs", first.Digest.Hex()[:2], first.Digest.Hex()))
	r := w.floe("software", "verify", "tools", "1.0", "-o", "json")
	var verdicts []verified
	if err := json.Unmarshal([]byte(r.out), &verdicts); err != nil || r.code != exitFailure {
		t.Fatalf("verify: exit %d, %v, %s", r.code, err, r.err)
	}
	for _, v := range verdicts {
		if bad := v.Digest == first.Digest; v.OK == bad || bad && !strings.Contains(v.Problems[0], "the tarball is") {
			t.Errorf("verify: %+v", v)
		}
	}
	if r := w.floe("software", "get", "tools", "1.0", filepath.Join(w.dir, "spoilt"), "--platform", linux+"+alpha"); r.code != exitFailure || w.exists("spoilt") {
		t.Errorf("get of damaged bytes: exit %d, %s; something is there: %v", r.code, r.err, w.exists("spoilt"))
	}
	var verbs []string
	for _, a := range ask[protocol.ActionPage](w, "actions").Actions {
		if strings.Contains(a.Action, "software") || strings.Contains(a.Action, "publisher") {
			verbs = append(verbs, string(a.Actor)+" "+a.Action)
		}
	}
	if want := []string{"ann retire software", "ann publish software", "ann publish software"}; len(verbs) < 5 || cmp.Diff(want[:2], verbs[:2]) != "" {
		t.Errorf("actions: %q", verbs)
	}
}

// TestSystemSoftwareSurvivesItsCoordinator loses the coordinator that took the
// tarball, with its disk, before anything ran from it.
func TestSystemSoftwareSurvivesItsCoordinator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join("c2")
	w.join("c3")
	w.until("all three vote", func() bool {
		members := ask[protocol.ClusterReply](w, "cluster", "status").Members
		return len(members) == 3 && !slices.ContainsFunc(members, func(m protocol.Member) bool { return !m.Voter })
	})
	ann := w.publisher("ann")
	w.ok("software", "trust", "ann", ann.key.String(), "--keys", filepath.Join(w.nodes["c1"].dir, "keys"))
	linux := "linux-" + machine(w)
	if r := ann.as("software", "publish", "tools", "1.0", w.tool("tool", "from the catalog"), "--platform", linux); r.code != exitOK {
		t.Fatalf("publish: exit %d, %s", r.code, r.err)
	}
	// People know all three by now: their token names one, so a new one is made.
	w.env[0] = "FLOE_TOKEN=" + strings.TrimSpace(w.ok("token", "create", "admin", "other"))
	id := w.submit(softwareDataset, 1)
	w.nodes["c1"].process.kill()
	if err := os.RemoveAll(w.nodes["c1"].dir); err != nil {
		t.Fatal(err)
	}
	if got := w.ok("software", "verify", "tools", "1.0"); !strings.Contains(got, ": ok: signed by ann") {
		t.Errorf("verify: %s", got)
	}
	w.joinSite(1, 1)
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d\n%s", code, w.story())
	}
	if b, _ := os.ReadFile(filepath.Join(w.dir, "out", "said.0")); string(b) != "from the catalog\n" {
		t.Errorf("it said %q", b)
	}
}

// TestSystemPilotSoftware publishes the pilot itself; a site fetches it, and only as
// its publisher signed it.
func TestSystemPilotSoftware(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.publisher("ann")
	w.ok("software", "trust", "ann", ann.key.String(), "--keys", filepath.Join(w.nodes["c1"].dir, "keys"))
	w.ok("site", "join", strings.TrimSpace(w.ok("token", "create", "site", "here")), "--dir", w.site)
	fetch := func() result { return w.floe("site", "fetch-pilot", "--dir", w.site) }
	if r := fetch(); r.code != exitNotFound {
		t.Errorf("before it is published: exit %d, %s", r.code, r.err)
	}
	dir := filepath.Join(w.dir, "pilot")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(bin(t), "floe-pilot"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, protocol.PilotSoftware), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := ann.as("software", "publish", protocol.PilotSoftware, "1.0", dir, "--platform", "linux-"+machine(w)); r.code != exitOK {
		t.Fatalf("publish: exit %d, %s", r.code, r.err)
	}
	r := fetch()
	path := strings.TrimSpace(r.out)
	got, err := os.ReadFile(path)
	if r.code != exitOK || err != nil || protocol.DigestOf(got) != protocol.DigestOf(program) {
		t.Fatalf("fetch-pilot: exit %d, %q, %v, %s", r.code, path, err, r.err)
	}
	if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil {
		t.Errorf("what was fetched does not run: %v, %s", err, out)
	}
	if r := fetch(); r.code != exitOK || strings.TrimSpace(r.out) != path {
		t.Errorf("fetched again: exit %d, %s%s", r.code, r.out, r.err)
	}
	flip(t, path)
	if r := fetch(); r.code != exitFailure || !strings.Contains(r.err, "published is") {
		t.Errorf("changed since: exit %d, %s", r.code, r.err)
	}
	// A site that lists another key takes nothing of ann's.
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	w.write("site/site.toml", fmt.Sprintf("[queue]\ntype = \"local\"\n[system]\npublishers = [%q]\n", protocol.PublisherKey(make([]byte, 32))))
	if r := fetch(); r.code != exitFailure || !strings.Contains(r.err, "does not list") || w.exists("site/pilots/1.0") {
		t.Errorf("a publisher whom the site does not list: exit %d, %s", r.code, r.err)
	}
}

// machine is this machine as platforms name it.
func machine(w *world) string {
	w.t.Helper()
	out, err := exec.Command("uname", "-m").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
