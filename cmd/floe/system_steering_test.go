package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"floe/protocol"
)

// problemLine is a finding as people see it: file, line, column.
var problemLine = regexp.MustCompile(`(?m)^[^\s:]+(:\d+:\d+: error: .*)$`)

// TestSystemBrokenSteering submits what is malformed or hostile. Every problem of a
// document is told at once, with its place, and nothing enters the record.
func TestSystemBrokenSteering(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.until("c1 leads", func() bool { return ask[protocol.ClusterReply](w, "cluster", "status").Leader == "c1" })
	before := ask[protocol.ClusterReply](w, "cluster", "status")
	broken, err := filepath.Abs("../../protocol/steering/testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(broken, "*.golden"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no broken steering files: %v", err)
	}
	spellings := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".golden")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r := w.floe("submit", name)
		if r.code != exitFailure || r.out != "" {
			t.Errorf("floe submit %s: exit %d, said %q, want %d and nothing", filepath.Base(name), r.code, r.out, exitFailure)
		}
		for _, problem := range problemLine.FindAllStringSubmatch(string(want), -1) {
			if !strings.Contains(r.err, filepath.Base(name)+problem[1]) {
				t.Errorf("floe submit %s does not say %q:\n%s", filepath.Base(name), problem[1], r.err)
			}
		}
		spellings[filepath.Ext(name)] = true
	}
	if len(spellings) != 3 {
		t.Errorf("spellings tried: %v, want XML, JSON and YAML", spellings)
	}
	const deep = 50_000
	for name, test := range map[string]struct {
		text string
		code int
	}{
		"empty":              {" \n", exitUsage},
		"too large":          {"title: " + strings.Repeat("x", maxSteering), exitUsage},
		"no text":            {"version: 3\ntitle: \xff\xfe\n", exitFailure},
		"zero bytes":         {strings.Repeat("\x00", 1000), exitFailure},
		"deep XML":           {strings.Repeat("<task>", deep), exitFailure},
		"deep JSON":          {strings.Repeat("[", deep), exitFailure},
		"deep JSON objects":  {strings.Repeat(`{"a":`, deep), exitFailure},
		"deep YAML":          {"a: " + strings.Repeat("[", deep), exitFailure},
		"deep expression":    {"version: 3\nsteering: {parameters: {x: \"" + strings.Repeat("$eval(", deep) + "\"}}\ntasks: [{name: a, requirements: {cpu: $steering(x)}}]\n", exitFailure},
		"endless expression": {"version: 3\nsteering: {parameters: {x: $steering(x)$steering(x)}}\ntasks: [{name: a, requirements: {cpu: $steering(x)}}]\n", exitFailure},
		"doubling":           {"version: 3\nsteering: {parameters: {" + doubling(64) + "}}\ntasks: [{name: a, requirements: {cpu: $steering(p63)}}]\n", exitFailure},
		"a huge number":      {"version: 3\ntasks: [{name: a, requirements: {cpu: $eval(9**9**9)}}]\n", exitFailure},
		"a cycle":            {"version: 3\ntasks: [{name: a, depends: [b]}, {name: b, depends: [a]}]\n", exitFailure},
		"no tasks":           {"version: 3\n", exitFailure},
	} {
		r := w.floeWith(nil, test.text, "submit", "-")
		if r.code != test.code || r.out != "" || !strings.HasPrefix(r.err, "floe: ") {
			t.Errorf("%s: exit %d, said %.200q and %.300q, want exit %d", name, r.code, r.out, r.err, test.code)
		}
		if len(r.err) > 64<<10 {
			t.Errorf("%s: a message of %d bytes", name, len(r.err))
		}
	}
	after := ask[protocol.ClusterReply](w, "cluster", "status")
	if after.Applied != before.Applied {
		t.Errorf("%d log entries came of submissions that were refused", after.Applied-before.Applied)
	}
	if list := ask[protocol.DatasetPage](w, "datasets"); len(list.Datasets) != 0 {
		t.Errorf("datasets: %+v, want none", list.Datasets)
	}
}

// doubling is n parameters, each twice the one before.
func doubling(n int) string {
	all := []string{"p0: xxxxxxxx"}
	for i := 1; i < n; i++ {
		all = append(all, fmt.Sprintf("p%d: $steering(p%d)$steering(p%[2]d)", i, i-1))
	}
	return strings.Join(all, ", ")
}
