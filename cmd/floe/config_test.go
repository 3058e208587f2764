package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigImport(t *testing.T) {
	dir := t.TempDir()
	old, made := filepath.Join(dir, "iceprod.cfg"), filepath.Join(dir, "site.toml")
	if err := os.WriteFile(old, []byte("[queue]\nbatchsystem = condor\nmemory = 2000\n[system]\ndata = /data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runFloe(t, "config", "import", old)
	if code != exitOK || !strings.Contains(out, "[queue]\ntype = 'condor'\n") || !strings.Contains(errs, old+":3\t[queue] memory\tnot carried over\t\"2000\" has no unit") {
		t.Errorf("floe config import = %d\n%s%s", code, out, errs)
	}
	if code, _, errs := runFloe(t, "config", "import", old, "--to", made); code != exitOK || !strings.Contains(errs, "is system.values.data") {
		t.Errorf("floe config import --to = %d: %s", code, errs)
	}
	if b, err := os.ReadFile(made); err != nil || !strings.Contains(string(b), "data = '/data'") {
		t.Errorf("site.toml: %q, %v", b, err)
	}
	if code, _, errs := runFloe(t, "config", "import", old, "--to", made); code != exitUsage || !strings.Contains(errs, "it is there already") {
		t.Errorf("over a file that is there = %d: %s", code, errs)
	}
	if err := os.WriteFile(old, []byte("[queue]\nbatchsystem = cray\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runFloe(t, "config", "import", old); code != exitFailure || !strings.Contains(errs, "to be mended by hand: queue.type") {
		t.Errorf("without a batch system = %d: %s", code, errs)
	}
}
