package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"floe/pilot/payload"
)

func TestModulesAreListedAndDescribed(t *testing.T) {
	code, out, errs := runFloe(t, "module", "list")
	if code != exitOK || !strings.Contains(out, "floe.pack\tPacks files") {
		t.Errorf("floe module list = %d\n%s%s", code, out, errs)
	}
	code, out, errs = runFloe(t, "module", "describe", "floe.pack")
	if code != exitOK || !strings.Contains(out, "archive\tstring\trequired\t") || !strings.Contains(out, "files\tlist\t[\"*\"]\t") {
		t.Errorf("floe module describe floe.pack = %d\n%s%s", code, out, errs)
	}
	var m struct {
		Name       string
		Parameters []struct{ Name, Type, Doc string }
	}
	_, out, _ = runFloe(t, "module", "describe", "floe.merge", "-o", "json")
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Name != "floe.merge" || len(m.Parameters) != 4 || m.Parameters[0].Type != "list" {
		t.Errorf("floe module describe floe.merge -o json: %v\n%s", err, out)
	}
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{exitFailure, "did you mean floe.pack?", []string{"floe.pak"}},
		{exitFailure, "no such file", []string{filepath.Join(t.TempDir(), "none.py")}},
		{exitUsage, "write https://…, or declare", []string{"http://example.org/a.py"}},
		{exitFailure, "not a public address", []string{"https://127.0.0.1/a.py"}},
		{exitFailure, "not among the hosts", []string{"https://example.org/a.py", "--module-hosts", "example.com"}},
		{exitUsage, "only private networks", []string{"https://example.org/a.py", "--module-networks", "169.254.0.0/16"}},
		{exitUsage, "NAME, FILE or URL is missing", nil},
	} {
		code, _, errs := runFloe(t, append([]string{"module", "describe"}, test.args...)...)
		if code != test.code || !strings.Contains(errs, test.want) {
			t.Errorf("floe module describe %v = %d, %s; want %d and %q", test.args, code, errs, test.code, test.want)
		}
	}
}

func TestModuleFileIsDescribed(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3 on this machine")
	}
	file := filepath.Join(t.TempDir(), "mod.py")
	const source = `from iceprod.modules import ipmodule
class Generate(ipmodule.IPBaseClass):
    """Makes events."""
    def __init__(self):
        ipmodule.IPBaseClass.__init__(self)
        self.AddParameter('nevents', 'number of events', 100)
        self.AddParameter('other', 'not told', compute())
        self.AddParameter(name, 'not told', 1)
`
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runFloe(t, "module", "describe", file)
	for _, want := range []string{"Generate: Makes events.", "nevents\t100\tnumber of events\n", "other\tcompute()\tnot told\n", "note: line 8: ", "--run " + file} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("floe module describe = %d, want %q in\n%s%s", code, want, out, errs)
		}
	}
	var d struct {
		File string
		payload.Description
	}
	_, out, _ = runFloe(t, "module", "describe", file, "-o", "json")
	if err := json.Unmarshal([]byte(out), &d); err != nil || d.File != file || len(d.Modules) != 1 || len(d.Modules[0].Parameters) != 3 {
		t.Errorf("floe module describe -o json: %v\n%s", err, out)
	}
	if err := os.WriteFile(file, []byte("x = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runFloe(t, "module", "describe", file); code != exitFailure || !strings.Contains(errs, "defines no module") {
		t.Errorf("a file without modules: %d, %s", code, errs)
	}
}
