package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodSteering = `<configuration version="3"><task name="a"><tray><module src="run.sh"/></tray></task></configuration>`

// runSteering runs a steering verb in a folder that holds the named files.
func runSteering(t *testing.T, files map[string]string, args ...string) (code int, stdout, stderr, dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Chdir(dir)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	c := newRoot()
	c.SetArgs(append([]string{"steering"}, args...))
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetIn(strings.NewReader(goodSteering))
	err := c.ExecuteContext(t.Context())
	if err != nil {
		errs.WriteString(err.Error())
	}
	return exitCode(err), out.String(), errs.String(), dir
}

func TestSteeringVerbs(t *testing.T) {
	bad := strings.Replace(goodSteering, `name="a"`, `nam="a"`, 1)
	for _, test := range []struct {
		name  string
		files map[string]string
		args  []string
		code  int
		out   string // must be part of stdout
		err   string // must be part of stderr
	}{
		{"check a good file", map[string]string{"a.xml": goodSteering}, []string{"check", "a.xml"}, exitOK, "", ""},
		{"check standard input", nil, []string{"check", "-"}, exitOK, "", ""},
		{"check a bad file", map[string]string{"a.xml": bad}, []string{"check", "a.xml"}, exitFailure, `did you mean "name"?`, "1 of 1 steering files have errors"},
		{"check a missing file", nil, []string{"check", "a.xml"}, exitFailure, "", "a.xml"},
		{"check nothing", nil, []string{"check"}, exitUsage, "", "FILE is missing"},
		{"an unknown verb", nil, []string{"chekc"}, exitUsage, "", `unknown command "chekc"`},
		{"fmt to standard output", map[string]string{"a.xml": goodSteering}, []string{"fmt", "a.xml"}, exitOK, "  <task name=\"a\">\n", ""},
		{"fmt of nonsense", map[string]string{"a.xml": "<a"}, []string{"fmt", "a.xml"}, exitFailure, "", "never ends"},
		{"convert to JSON", map[string]string{"a.xml": goodSteering}, []string{"convert", "--to", "json", "a.xml"}, exitOK, `"src": "run.sh"`, ""},
		{"convert to YAML", nil, []string{"convert", "--to", "yaml", "-"}, exitOK, "src: run.sh", ""},
		{"convert to Greek", nil, []string{"convert", "--to", "greek", "-"}, exitUsage, "", "want xml, json or yaml"},
		{"convert without --to", nil, []string{"convert", "-"}, exitUsage, "", "--to is missing"},
		{"convert a bad file", map[string]string{"a.xml": bad}, []string{"convert", "--to", "json", "a.xml"}, exitFailure, "", "required attribute"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out, errs, _ := runSteering(t, test.files, test.args...)
			if code != test.code || !strings.Contains(out, test.out) || !strings.Contains(errs, test.err) {
				t.Errorf("floe steering %v = exit %d\nstdout: %s\nstderr: %s\nwant exit %d with %q and %q", test.args, code, out, errs, test.code, test.out, test.err)
			}
		})
	}
}

// Scripts read the problems as JSON, bad files or not.
func TestSteeringCheckJSON(t *testing.T) {
	bad := strings.Replace(goodSteering, `name="a"`, `nam="a"`, 1)
	code, out, _, _ := runSteering(t, map[string]string{"a.xml": goodSteering, "b.xml": bad}, "check", "-o", "json", "a.xml", "b.xml")
	var files []struct {
		File, Spelling string
		OK             bool
		Problems       []struct {
			Line, Column      int
			Severity, Message string
		}
	}
	if err := json.Unmarshal([]byte(out), &files); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if code != exitFailure || len(files) != 2 || !files[0].OK || files[1].OK || files[1].Spelling != "xml" {
		t.Fatalf("exit %d, %+v", code, files)
	}
	if p := files[1].Problems; len(p) == 0 || p[0].Line != 1 || p[0].Column == 0 || p[0].Severity != "error" {
		t.Errorf("problems of b.xml = %+v", p)
	}
}

// fmt -w changes the file once and then leaves it alone.
func TestSteeringFormatWrites(t *testing.T) {
	_, out, errs, dir := runSteering(t, map[string]string{"a.xml": goodSteering}, "fmt", "-w", "a.xml")
	first, err := os.ReadFile(filepath.Join(dir, "a.xml"))
	if err != nil || out != "" || errs != "" || string(first) == goodSteering {
		t.Fatalf("fmt -w: %v %q %q\n%s", err, out, errs, first)
	}
	if info, err := os.Stat(filepath.Join(dir, "a.xml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("fmt -w changed the file's permissions: %v %v", info.Mode(), err)
	}
	_, again, _, _ := runSteering(t, map[string]string{"a.xml": string(first)}, "fmt", "a.xml")
	if again != string(first) {
		t.Errorf("fmt of its own output:\n%s", again)
	}
}
