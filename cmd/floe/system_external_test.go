package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

// externalDataset has a class at a tag, whose folder depends on the job, a program,
// and a library that the class imports.
const externalDataset = `version: 3
tasks:
  - name: make
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    classes: [{name: units, src: "ORIGIN/git/sim.git@v1#lib"}]
    trays:
      - modules:
          - {name: muon, class: muon.Muon, src: "ORIGIN/git/sim.git@v1#kind$eval($(job) % 2)", parameters: {number: 5}}
          - {name: say, src: "git+ORIGIN/git/sim.git#say.sh", args: hello}
`

// originOfModules serves a git repository over https. It returns the address, the
// file with the certificate, the repository, and what ends it.
func originOfModules(t *testing.T) (address, certificate, bare string, end func()) {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("git is not installed")
	}
	base, work := t.TempDir(), filepath.Join(t.TempDir(), "work")
	bare = filepath.Join(base, "sim.git")
	const class = "from iceprod.modules import ipmodule\n" +
		"class Muon(ipmodule.IPBaseClass):\n    def __init__(self):\n        ipmodule.IPBaseClass.__init__(self)\n" +
		"        self.AddParameter('number', 'how many muons', 1)\n" +
		"    def Execute(self, stats):\n        import units  # of another address\n        stats['muons'] = %d * units.ONE * self.GetParameter('number')\n        return 0\n"
	for name, text := range map[string]string{
		"lib/units.py": "ONE = 1\n", "kind0/muon.py": fmt.Sprintf(class, 1), "kind1/muon.py": fmt.Sprintf(class, 10),
		"say.sh": "#!/bin/sh\necho \"it says $1\"\n",
	} {
		file := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", bare},
		{"init", "-q", "-b", "main", work},
		{"-C", work, "add", "."},
		{"-C", work, "-c", "user.name=ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "first"},
		{"-C", work, "tag", "v1"},
		{"-C", work, "push", "-q", bare, "main", "v1"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/git/", &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/git/",
		Env: []string{"GIT_PROJECT_ROOT=" + base, "GIT_HTTP_EXPORT_ALL=1"},
	})
	server := httptest.NewTLSServer(mux)
	certificate = filepath.Join(t.TempDir(), "origin.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server.URL, certificate, bare, server.Close
}

// TestSystemExternalModules submits a dataset with external modules, takes their
// origin away, and has it run nonetheless: on a pilot, isolated where that is possible.
func TestSystemExternalModules(t *testing.T) {
	t.Parallel()
	origin, certificate, bare, end := originOfModules(t)
	w := newWorld(t, "--module-hosts", strings.TrimPrefix(origin, "https://"), "--module-networks", "127.0.0.0/8")
	w.isolation = "auto"
	w.nodes["c1"].process.end(patience)
	w.env = append(w.env, "SSL_CERT_FILE="+certificate)
	w.startNode("c1")
	commit, err := exec.Command("git", "-C", bare, "rev-parse", "v1").Output()
	if err != nil {
		t.Fatal(err)
	}
	const jobs = 4
	text := strings.ReplaceAll(externalDataset, "ORIGIN", origin)

	// What cannot be had is told before anything is submitted.
	for wrong, want := range map[string]string{
		strings.Replace(text, "@v1#lib", "@v2#lib", 1):               `class "units" of task "make": ` + origin + "/git/sim.git@v2#lib: not there: the repository has no tag or branch v2; it holds main, v1",
		strings.Replace(text, "#say.sh", "#sya.sh", 1):               "no sya.sh in the commit; it holds kind0, kind1, lib, say.sh",
		strings.Replace(text, origin, "https://other.example", 1):    "other.example is not among the hosts",
		strings.Replace(text, origin, "https://ada:pw@127.0.0.1", 1): "a user or password in a URL",
	} {
		r := w.floe("submit", w.write("wrong.yaml", wrong), "--jobs", "2")
		if r.code != exitFailure || !strings.Contains(r.err, want) || !strings.Contains(r.err, "wrong.yaml:") {
			t.Errorf("floe submit: exit %d, %s; want exit 1 with %q", r.code, r.err, want)
		}
	}
	r := w.floe("submit", w.write("odd.yaml", strings.Replace(text, "number: 5", "nunber: 5", 1)), "--jobs", "2", "--dry-run")
	if r.code != exitOK || !strings.Contains(r.err, `unknown parameter nunber of the external class muon.Muon; it has execute, number`) || !strings.Contains(r.err, `did you mean "number"?`) {
		t.Errorf("floe submit --dry-run of an unknown parameter: exit %d, %s", r.code, r.err)
	}
	if got := ask[protocol.DatasetPage](w, "datasets"); len(got.Datasets) != 0 {
		t.Fatalf("submissions that were refused left %v", got.Datasets)
	}

	// People and editors see the parameters of what is out there.
	described := ask[describedFile](w, "module", "describe", origin+"/git/sim.git@v1#kind0", "--module-networks", "127.0.0.0/8", "--module-hosts", strings.TrimPrefix(origin, "https://"))
	if want := "git+" + origin + "/git/sim.git@" + strings.TrimSpace(string(commit)) + "#kind0"; described.Pinned != want ||
		len(described.Modules) != 1 || described.Modules[0].Class != "muon.Muon" || described.Modules[0].Parameters[1].Name != "number" {
		t.Errorf("floe module describe of a URL: %+v", described)
	}
	r = w.floe("module", "describe", "--run", origin+"/git/sim.git@v1#kind0", "--module-networks", "127.0.0.0/8", "--module-hosts", strings.TrimPrefix(origin, "https://"))
	if isolated := !strings.Contains(r.err, "payloads are not isolated"); isolated && (r.code != exitOK || !strings.Contains(r.out, "how many muons")) || !isolated && r.code != exitFailure {
		t.Errorf("floe module describe --run of a URL: exit %d, %s%s; want its parameters, or that it is not run", r.code, r.out, r.err)
	}
	// And try one job on their own machine.
	if r := w.floe("run", "--job", "1", "--module-networks", "127.0.0.0/8", "--module-hosts", strings.TrimPrefix(origin, "https://"), w.write("run.yaml", text)); r.code != exitOK || !strings.Contains(r.err, "it says hello") {
		t.Errorf("floe run: exit %d, %s%s", r.code, r.out, r.err)
	}

	file := w.write("external.yaml", text)
	submit := []string{"submit", file, "--jobs", fmt.Sprint(jobs), "--key", "the-same-key"}
	first := ask[protocol.SubmitReply](w, submit...)
	end() // the origin is gone
	if again := ask[protocol.SubmitReply](w, submit...); again.Dataset != first.Dataset {
		t.Errorf("the same key without the origin gives dataset %d, before %d", again.Dataset, first.Dataset)
	}
	shown := ask[protocol.Dataset](w, "dataset", "show", fmt.Sprint(first.Dataset))
	pinned := map[string]bool{}
	for _, m := range shown.Modules {
		pinned[m.Pinned] = true
	}
	for _, inside := range []string{"lib", "kind0", "kind1", "say.sh"} {
		if want := "git+" + origin + "/git/sim.git@" + strings.TrimSpace(string(commit)) + "#" + inside; !pinned[want] {
			t.Errorf("floe dataset show lacks %s: %v", want, shown.Modules)
		}
	}
	w.joinSite(1, 2)
	if code := w.finish(first.Dataset); code != exitOK {
		t.Errorf("wait: exit %d, want 0: %s", code, w.ok("logs", fmt.Sprintf("%d.0.make", first.Dataset)))
	}
	// Jobs 0 and 2 have 5 muons each, 1 and 3 have 50.
	if got := w.counts(first.Dataset)["make/muons"]; got.Sum != 110 {
		t.Errorf("muons: %+v, want a sum of 110", got)
	}
	if log := w.ok("logs", fmt.Sprintf("%d.0.make", first.Dataset)); !strings.Contains(log, "it says hello\n") {
		t.Errorf("log: %q", log)
	}
}
