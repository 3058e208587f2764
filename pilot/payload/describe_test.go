package payload

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// described is a file with every way to declare parameters. It ends what imports it.
const described = `# -*- coding: utf-8 -*-
import os, sys
from iceprod.modules import ipmodule
from iceprod.modules.ipmodule import ParsingModule, FromOptionParser
import icecube.nothing

os._exit(7)  # nobody runs this

SPECTRUM = [2.5, 3]

class Generate(ipmodule.IPBaseClass):
    """Makes events.

    Many of them.
    """
    def __init__(self):
        ipmodule.IPBaseClass.__init__(self)
        self.AddParameter('nEvents', 'number of events', 100)
        self.AddParameter('Spectrum', 'pow' 'ers', SPECTRUM)
        self.AddParameter('outputfile', 'wohin, größe', '$steering(file)')
        self.AddParameter(param='factor', description='a number', value=-1.5e3)
        self.AddParameter('home', 'a place', os.environ['HOME'])
        for extra in sys.argv:
            self.AddParameter(extra, 'unknown', 0)

    def Execute(self, stats):
        return 0

class More(Generate):
    def __init__(self):
        Generate.__init__(self)
        self.SetParameter('NEVENTS', 7)
        self.AddParameter('seed', 'of random numbers', None)

if True:
    class Parsing(ParsingModule):
        def __init__(self):
            ParsingModule.__init__(self)
            self.AddParameter('gcdfile', 'geometry', '', explicit_type='string')

class Foreign(icecube.nothing.Module):
    def Execute(self, stats): pass

class NoModule(object):
    pass

def make_parser():
    from optparse import OptionParser
    parser = OptionParser()
    parser.add_option('-n', '--num', type='int', default=7, dest='num', help='how many')
    parser.add_option('-o', '--out-file', default='')
    parser.add_option('--fast', action='store_true')
    return parser

def main(options, stats={}):
    """Filters events."""

Filter = FromOptionParser(make_parser(), main)
`

func TestFunctionsAreDescribed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mod.py")
	const source = `
def generate(events: int, spectrum=[2.5, 3], *, name: "of the run" = "north", other=compute()):
    """Makes events."""
def helper(x): pass
def none(): pass
def _own(x=1): pass
@wrapped
def decorated(x=1): pass
`
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Describe(t.Context(), file, false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"generate": {
		"Makes events.", "events = null: int, required", "spectrum = [2.5,3]: ", `name = "north": "of the run"`, `other = {"python":"compute()"}: `,
	}}
	if diff := cmp.Diff(want, texts(d)); diff != "" {
		t.Errorf("described (-want +got):\n%s", diff)
	}
}

// TestDescribingIsBounded: a text that is no module but much work ends its reader.
func TestDescribingIsBounded(t *testing.T) {
	for name, source := range map[string]string{
		"deep":  strings.Repeat("(", 100_000),
		"power": "x = " + strings.Repeat("9", 4000) + "**" + strings.Repeat("9", 4000) + "\n",
		"wide":  "x = [" + strings.Repeat("[[[[[[0,1],2],3],4],5],6],", 130_000) + "]\n",
	} {
		file := filepath.Join(t.TempDir(), name+".py")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := Describe(t.Context(), file, false); err == nil && len(d.Modules) > 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// texts are a description's parameters as lines.
func texts(d *Description) map[string][]string {
	out := map[string][]string{}
	for _, m := range d.Modules {
		lines := []string{m.Doc}
		for _, p := range m.Parameters {
			if p.Name != "execute" {
				lines = append(lines, fmt.Sprintf("%s = %s: %s", p.Name, p.Default, p.Help))
			}
		}
		for _, n := range m.Notes {
			lines = append(lines, "note: "+n)
		}
		out[m.Class] = lines
	}
	return out
}

// describeWith lets one Python describe.
func describeWith(t *testing.T, python, source string, run bool) (*Description, error) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "python3"), []byte("#!/bin/sh\nexec "+python+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "mod.py")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Describe(t.Context(), file, run)
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return d, err
}

func TestDescribeRunsNothing(t *testing.T) {
	generate := []string{
		`factor = -1500.0: a number`, `home = {"python":"os.environ['HOME']"}: a place`, `nEvents = 100: number of events`,
		`outputfile = "$steering(file)": wohin, größe`, `Spectrum = [2.5,3]: powers`,
	}
	for _, python := range interpreters(t) {
		t.Run(python.version, func(t *testing.T) {
			d, err := describeWith(t, python.path, described, false)
			if err != nil {
				t.Fatal(err)
			}
			if d.Python != python.version {
				t.Errorf("described by %s, want %s", d.Python, python.version)
			}
			got := texts(d)
			note := "note: line 24: AddParameter takes a name that only running it shows"
			for class, want := range map[string][]string{
				"Generate": append(append([]string{"Makes events.\n\nMany of them."}, generate...), note),
				"Parsing":  {"", `gcdfile = "": geometry`},
				"Filter":   {"Filters events.", `fast = false: `, `num = 7: how many`, `out_file = "": `},
				"Foreign":  {"", "note: line 41: what Foreign inherits from Module is not in this file"},
			} {
				for i := range want {
					// Python 2.7 and 3.6 to 3.7 know lines, and not where an expression ends.
					if i < len(got[class]) && strings.HasPrefix(want[i], "home") && strings.Contains(got[class][i], "self.AddParameter('home'") {
						want[i] = got[class][i]
					}
				}
				if diff := cmp.Diff(want, got[class]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", class, diff)
				}
			}
			if _, is := got["NoModule"]; is {
				t.Error("NoModule is taken for a module")
			}
			more := strings.Join(got["More"], "\n")
			for _, want := range []string{"nEvents = 7: number of events", "seed = null: of random numbers", "Spectrum = "} {
				if !strings.Contains(more, want) {
					t.Errorf("More has no %q:\n%s", want, more)
				}
			}
		})
	}
}

// TestDescribeByRunning asks the modules of a file that reading alone cannot tell.
func TestDescribeByRunning(t *testing.T) {
	const source = `
from iceprod.modules.ipmodule import IPBaseClass, Hello
print('noise')
class Loop(IPBaseClass):
    """Declares in a loop."""
    def __init__(self):
        IPBaseClass.__init__(self)
        for i in range(2):
            self.AddParameter('p%d' % i, 'number %d' % i, [i, (1, 2)])
        self.AddParameter('odd', 'no JSON', float('inf'))
class Needs(IPBaseClass):
    def __init__(self, something): pass
`
	all := interpreters(t)
	for _, python := range []interpreter{all[0], all[len(all)-1]} {
		t.Run(python.version, func(t *testing.T) {
			d, err := describeWith(t, python.path, source, true)
			if err != nil {
				t.Fatal(err)
			}
			got := texts(d)
			want := []string{"Declares in a loop.", `odd = {"python":"inf"}: no JSON`, "p0 = [0,[1,2]]: number 0", "p1 = [1,[1,2]]: number 1"}
			if diff := cmp.Diff(want, got["Loop"]); diff != "" {
				t.Errorf("Loop (-want +got):\n%s", diff)
			}
			if len(got) != 2 || !strings.Contains(strings.Join(got["Needs"], "\n"), "note: it cannot be made: TypeError") {
				t.Errorf("described %v; want Loop and why Needs cannot be made", got)
			}
		})
	}
}

func TestDescribeSaysWhatIsWrong(t *testing.T) {
	all := interpreters(t)
	newest := all[len(all)-1]
	for name, tt := range map[string]struct{ source, want string }{
		"a syntax error":      {"class A(:\n", "mod.py:1: "},
		"a null byte":         {"a = 1\x00\n", "null byte"},
		"too deep an operand": {"a = " + strings.Repeat("(", 3000) + strings.Repeat(")", 3000), ""},
		"no text":             {"\xff\xfe\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := describeWith(t, newest.path, tt.source, false); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Describe = %v, %v; want an error with %q", d, err, tt.want)
			}
		})
	}
	if _, err := describeWith(t, newest.path, "raise ValueError('not today')", true); err == nil || !strings.Contains(err.Error(), "ValueError: not today") {
		t.Errorf("a file that raises: %v", err)
	}
}

// TestDescribeTriesAnotherPython: a file for Python 2 is left to a Python 2.
func TestDescribeTriesAnotherPython(t *testing.T) {
	all := interpreters(t)
	if !strings.HasPrefix(all[0].version, "2") || strings.HasPrefix(all[len(all)-1].version, "2") {
		t.Skip("no Python 2 beside a Python 3 on this machine")
	}
	bin := t.TempDir()
	for name, path := range map[string]string{"python3": all[len(all)-1].path, "python2": all[0].path} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexec "+path+" \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	file := filepath.Join(t.TempDir(), "old.py")
	if err := os.WriteFile(file, []byte("class A:\n    def Execute(self, stats):\n        print 'old'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Describe(t.Context(), file, false)
	if err != nil || d.Python != all[0].version || len(d.Modules) != 1 {
		t.Errorf("Describe = %+v, %v; want module A, read by Python %s", d, err, all[0].version)
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"python": "3.11.7", "modules": [{"class": "A", "doc": "", "parameters": [{"name": "x", "default": {"python": "y()"}, "help": "z"}], "notes": []}]}`))
	f.Add([]byte(`{"python": "", "modules": [{"class": ""}]}`))
	f.Add([]byte(`{} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescription(b)
		if err != nil {
			return
		}
		for _, m := range d.Modules {
			if m.Class == "" {
				t.Errorf("parseDescription gives a module without a name: %+v", d)
			}
		}
	})
}

// TestDescriptionWithoutEnd is what a file makes an interpreter print: it is cut at
// its limit, in the way in which the output of a program is read.
func TestDescriptionWithoutEnd(t *testing.T) {
	b := &bounded{limit: 10}
	n, err := io.Copy(b, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1000))})
	if err == nil || n > 10 || b.kept.Len() != 10 {
		t.Errorf("of 1000 bytes %d were kept, %d copied, %v; want 10 and an error", b.kept.Len(), n, err)
	}
}
