package library

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/steering"
)

// place is a work directory with files, inside a directory that must stay as it is.
type place struct {
	t        *testing.T
	out, dir string
}

func newPlace(t *testing.T, files map[string]string) *place {
	t.Helper()
	p := &place{t: t, out: t.TempDir()}
	p.dir = filepath.Join(p.out, "work")
	p.write("../secret", "secret")
	p.write("present", "present")
	for name, text := range files {
		p.write(name, text)
	}
	return p
}

func (p *place) write(name, text string) {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) read(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Error(err)
	}
	return string(b)
}

func (p *place) has(name string) bool {
	_, err := os.Lstat(filepath.Join(p.dir, name))
	return err == nil
}

// run runs a module as the payload package does: values are bound first.
func (p *place) run(module string, values map[string]any) (map[string]int64, string, error) {
	p.t.Helper()
	known, err := steering.FindPredefined(module)
	if err != nil {
		p.t.Fatal(err)
	}
	var given []steering.NamedJSON
	for name, value := range values {
		b, err := json.Marshal(value)
		if err != nil {
			p.t.Fatal(err)
		}
		given = append(given, steering.NamedJSON{Name: name, Value: b})
	}
	bound, err := known.Bind(given)
	if err != nil {
		p.t.Fatal(err)
	}
	var said bytes.Buffer
	statistics, err := run(p.t.Context(), &Call{Module: module, Values: bound}, p.dir, &said)
	p.intact()
	return statistics, said.String(), err
}

// ok is run for what must work.
func (p *place) ok(module string, values map[string]any) map[string]int64 {
	p.t.Helper()
	statistics, said, err := p.run(module, values)
	if err != nil {
		p.t.Errorf("%s: %v\n%s", module, err, said)
	}
	return statistics
}

// refused is run for what must fail, and say why.
func (p *place) refused(module string, values map[string]any, want string) error {
	p.t.Helper()
	_, said, err := p.run(module, values)
	if err == nil || !strings.Contains(err.Error(), want) {
		p.t.Errorf("%s %v = %v, want an error with %q\n%s", module, values, err, want, said)
	}
	return err
}

// intact looks at what is outside the work directory.
func (p *place) intact() {
	p.t.Helper()
	entries, err := os.ReadDir(p.out)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "work" && e.Name() != "secret" {
			p.t.Errorf("%s was made outside the work directory", e.Name())
		}
	}
	if got := p.read("../secret"); got != "secret" {
		p.t.Errorf("a file outside is %q now", got)
	}
}

type values = map[string]any

// TestLibraryIsWhatIsDeclared runs every declared module with each of its
// parameters, and wants each one known.
func TestLibraryIsWhatIsDeclared(t *testing.T) {
	declared := map[string]bool{}
	for _, m := range steering.PredefinedModules() {
		declared[m.Name] = true
		if modules[m.Name] == nil {
			t.Errorf("%s is declared and not there", m.Name)
			continue
		}
		given := values{}
		for _, p := range m.Parameters {
			if p.Required {
				given[p.Name] = "nothing"
			}
		}
		if _, _, err := newPlace(t, nil).run(m.Name, given); err != nil && strings.Contains(err.Error(), "unknown field") {
			t.Errorf("%s takes no such parameter: %v", m.Name, err)
		}
	}
	for name := range modules {
		if !declared[name] {
			t.Errorf("%s is there and not declared", name)
		}
	}
}

func TestMainLeavesItsResult(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	call := func(values string) Call {
		return Call{Module: "floe.delete", Values: map[string]json.RawMessage{"files": json.RawMessage(values)}, Result: "result", Statistics: "statistics"}
	}
	file := filepath.Join(dir, "call")
	start := func(c Call) error {
		b, err := json.Marshal(&c)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return Main(t.Context(), file, &bytes.Buffer{})
	}
	if err := start(call(`["nothing"]`)); err == nil {
		t.Error("deleting nothing is no failure")
	}
	var result Result
	if b, err := os.ReadFile("result"); err != nil || json.Unmarshal(b, &result) != nil || result.Verdict != protocol.VerdictPayload || !strings.Contains(result.Error, `nothing fits "nothing"`) {
		t.Errorf("result = %+v, %v", result, err)
	}
	if err := start(call(`["result"]`)); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile("statistics"); err != nil || string(b) != `{"files":1}` {
		t.Errorf("statistics = %s, %v", b, err)
	}
}

func TestMerge(t *testing.T) {
	p := newPlace(t, map[string]string{"a.csv": "e,x\n1,2", "b.csv": "e,x\n3,4\n", "c.csv": "e,y\n5,6\n", "all.csv": "old\n"})
	got := p.ok("floe.merge", values{"files": "a.csv b.csv", "output": "all.csv", "header": 1})
	if diff := cmp.Diff("e,x\n1,2\n3,4\n", p.read("all.csv")); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	if got["files"] != 2 || got["bytes"] != 12 {
		t.Errorf("statistics = %v", got)
	}
	p.refused("floe.merge", values{"files": "a.csv c.csv", "output": "all.csv", "header": 1}, "c.csv begins with other lines than a.csv")
	p.refused("floe.merge", values{"files": "a.csv", "output": "x", "header": 3}, "ends within its 3 header lines")
	if got := p.read("all.csv"); got != "e,x\n1,2\n3,4\n" || p.has("all.csv.floe-part") {
		t.Errorf("after a failure the output is %q", got)
	}
	p.ok("floe.merge", values{"files": []string{"[a-c].csv", "a*"}, "output": "all.csv"})
	if got := p.read("all.csv"); got != "e,x\n1,2e,x\n3,4\ne,y\n5,6\n" {
		t.Errorf("merged %q, want the bytes as they are, each file once, and not the output itself", got)
	}
	p.refused("floe.merge", values{"files": "z*", "output": "x"}, `nothing fits "z*"; there are a.csv, all.csv`)
	p.ok("floe.merge", values{"files": "z*", "output": "empty", "optional": true})
	p.refused("floe.merge", values{"files": "a.csv", "output": "../x"}, "outside the work directory")
	p.refused("floe.merge", values{"files": "../secret", "output": "x"}, "outside the work directory")
}

func TestDelete(t *testing.T) {
	p := newPlace(t, map[string]string{"a.tmp": "", "b.tmp": "", "d/e/f": ""})
	if err := os.Symlink("../../secret", filepath.Join(p.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(p.dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	p.refused("floe.delete", values{"files": "*.tmp d"}, "d is a directory")
	if !p.has("a.tmp") {
		t.Error("something was deleted before all was looked at")
	}
	if got := p.ok("floe.delete", values{"files": "*.tmp link dangling"}); got["files"] != 4 {
		t.Errorf("statistics = %v", got)
	}
	p.ok("floe.delete", values{"files": "d", "directories": true})
	if p.has("d") || p.has("link") || p.has("dangling") || p.has("a.tmp") || !p.has("present") {
		t.Error("not what was asked for was deleted")
	}
	for _, name := range []string{"../secret", filepath.Join(p.out, "secret"), "x/../../secret"} {
		p.refused("floe.delete", values{"files": []string{name}}, "outside the work directory")
	}
	p.refused("floe.delete", values{"files": ".", "directories": true}, "stays")
	p.refused("floe.delete", values{"files": "[a-"}, "syntax error in pattern")
	p.ok("floe.delete", values{"files": filepath.Join(p.dir, "present")})
}

func TestChecksum(t *testing.T) {
	p := newPlace(t, map[string]string{"a": "abc", "d/b": "", "new\nline": "x"})
	for _, known := range [][2]string{
		{"sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, {"md5", "900150983cd24fb0d6963f7d28e17f72"}, {"adler32", "024d0127"},
	} {
		algorithm, sum := known[0], known[1]
		p.ok("floe.checksum", values{"files": "a d/b", "manifest": "sums", "algorithm": algorithm})
		if got := p.read("sums"); !strings.HasPrefix(got, sum+"  a\n") {
			t.Errorf("%s of abc: %s, want %s", algorithm, got, sum)
		}
		got := p.ok("floe.checksum", values{"files": "a", "manifest": "sums", "algorithm": algorithm, "verify": true})
		if got["files"] != 2 || got["bytes"] != 3 {
			t.Errorf("statistics = %v", got)
		}
	}
	p.refused("floe.checksum", values{"files": "present", "manifest": "sums", "algorithm": "adler32", "verify": true}, "present is not in the manifest")
	p.refused("floe.checksum", values{"manifest": "sums", "verify": true}, "line 1: a checksum of 8 digits; sha256 has 64")
	p.write("a", "abd")
	p.refused("floe.checksum", values{"manifest": "sums", "algorithm": "adler32", "verify": true}, "a has 024e0128, want 024d0127")
	p.ok("floe.delete", values{"files": "a"})
	p.refused("floe.checksum", values{"manifest": "sums", "algorithm": "adler32", "verify": true}, "a is missing")
	p.refused("floe.checksum", values{"files": "new*"}, "cannot stand in a manifest")
	p.refused("floe.checksum", nil, "nothing to sum")
	for text, want := range map[string]string{
		"": "is empty", "abc\n": "want a checksum", "024d0127  ../secret\n": "line 1: \"../secret\" is outside",
		"024d0127 */etc/passwd\n": "outside", "024d0127  \n": "want a checksum", "zz  a\n": "want a checksum",
		strings.Repeat("0", 9000): "token too long",
	} {
		p.write("hostile", text)
		p.refused("floe.checksum", values{"manifest": "hostile", "algorithm": "adler32", "verify": true}, want)
	}
}

func FuzzManifest(f *testing.F) {
	for _, seed := range []string{"024d0127  a\n", "024d0127 *a\r\n\n00000001  b c\n", "024d0127 a", "\x00\n", "024d0127  ../../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := readManifest(strings.NewReader(text), "adler32")
		if (err == nil) != (len(entries) > 0) {
			t.Errorf("readManifest = %d entries, %v", len(entries), err)
		}
		for _, e := range entries {
			if len(e.sum) != 8 || e.name == "" || strings.Contains(e.name, "\n") {
				t.Errorf("readManifest gives %+v", e)
			}
		}
	})
}

func TestEveryDeclaredAlgorithmIsThere(t *testing.T) {
	known, err := steering.FindPredefined("floe.checksum")
	if err != nil {
		t.Fatal(err)
	}
	p, err := known.Parameter("algorithm")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range p.Words {
		if _, err := stage.NewHash(word); err != nil {
			t.Error(err)
		}
	}
}
