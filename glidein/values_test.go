package glidein_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValuesTravelWithThePilot(t *testing.T) {
	p, _, c := newPass(t, 1, 1)
	c.want = 1
	p.Config.System.Values = map[string]any{"downloads": "/data/it's", "slots": int64(4), "fast": true}
	p.Config.Queue.Name = "long"
	run(t, p)
	script, err := os.ReadFile(filepath.Join(p.Config.Directory, "jobs", "floe-l1", "pilot.sh"))
	if err != nil {
		t.Fatal(err)
	}
	want := `'--system' 'batch_system=local' '--system' 'downloads=/data/it'\''s' '--system' 'fast=True' '--system' 'queue=long' '--system' 'slots=4'`
	if !strings.Contains(string(script), want) {
		t.Errorf("script lacks %s:\n%s", want, script)
	}
}

func TestValuesThatCannotBe(t *testing.T) {
	_, err := load(t, `
[queue]
type = "local"
[system]
pilot = "PILOT"
[system.values]
"a b" = "x"
hostname = "h"
list = [1]
long = """a
b"""
`)
	for _, want := range []string{`system.values."a b": want a name`, "system.values.hostname: floe itself says that", "system.values.list: want a text, a number", "system.values.long: want one line"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
}
