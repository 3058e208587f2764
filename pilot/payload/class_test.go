package payload

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// newClass is an attempt that runs a class module under one interpreter.
func newClass(t *testing.T, python, source string, m Module) *attempt {
	t.Helper()
	m.Name = "step"
	if source != "" {
		m.Src = "mod.py"
	}
	a := newAttempt(t, m)
	a.file("mod.py", source)
	software := filepath.Join(t.TempDir(), "software")
	if err := os.MkdirAll(filepath.Join(software, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A wrapper, not a link: a relocated interpreter would not find its library.
	wrapper := "#!/bin/sh\nexec " + python + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(software, "bin/python3"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	a.task.Trays[0].Software = []string{software}
	a.task.Steering = map[string]string{"prefix": "run", "file": "$steering(prefix)-$args(procnum).out"}
	a.task.System = map[string]string{"downloads": "/data/in"}
	return a
}

func runClass(t *testing.T, python, source string, m Module) (Outcome, *attempt) {
	t.Helper()
	a := newClass(t, python, source, m)
	return a.run(t.Context()), a
}

func named(pairs ...any) []Parameter {
	var out []Parameter
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Parameter{pairs[i].(string), raw(pairs[i+1])})
	}
	return out
}

// iceprod1 is written as IceProd 1's modules were, in the part of Python that 2
// and 3 share.
const iceprod1 = `
import os
from iceprod.modules import ipmodule
from icecube.simprod.ipmodule import ParsingModule, FromOptionParser
import iceprod.modules.ipmodule as same

class Generate(ipmodule.IPBaseClass):
    def __init__(self):
        ipmodule.IPBaseClass.__init__(self)
        self.AddParameter('nEvents', 'number of events', 1)
        self.AddParameter('Spectrum', 'powers', [2.0])
        self.AddParameter('outputfile', 'where to', '$steering(file)')
        self.AddParameter('mctree', 'keep it', False)
        self.logger.info('made')

    def Execute(self, stats):
        if not ipmodule.IPBaseClass.Execute(self, stats): return 0
        assert self.GetParameter('NEVENTS') == 25 and type(self.GetParameter('nevents')) is int
        assert self.GetParameter('spectrum') == [2.5, 3]
        assert self.GetParameter('mctree') is True
        assert self.nevents == 25
        assert type(self.GetParameter('outputfile')) is str
        assert self.parser.parse('$steering(prefix)/$args(dataset)') == 'run/12'
        assert self.parser.parse('$system(downloads)/x $system(none)') == '/data/in/x $system(none)'
        open(self.GetParameter('outputfile'), 'w').write('x')
        assert same.IPBaseClass is ipmodule.IPBaseClass
        stats['events'] = 25
        stats['Mean Energy'] = 1.5
        for i in range(3):
            stats['calls'] += 1
        assert stats.get('nothing') is None and 'nothing' not in stats and stats['nothing'] == 0
        return 0

    def Finish(self, stats={}):
        stats['finished'] = True
        return 0

class Parsing(ParsingModule):
    def __init__(self):
        ParsingModule.__init__(self)
        self.AddParameter('gcdfile', 'geometry', '')
        self.AddParameter('seed', 'number', 0)
        self.AddParameter('scale', 'factor', 1.0, explicit_type='float')
        self.AddParameter('files', 'list', [])
        self.AddParameter('on', 'flag', True)
    def Execute(self, stats):
        if not ParsingModule.Execute(self, stats): return 0
        stats['seed'] = self.GetParameter('seed') * self.GetParameter('scale')

def make_parser():
    from optparse import OptionParser
    parser = OptionParser()
    parser.add_option('-n', '--num', type='int', default=7, dest='num')
    parser.add_option('-o', '--OutFile', default='', dest='OutFile')
    return parser

def main(options, stats={}):
    stats['num'] = options['num']
    assert options['OutFile'] == 'o.i3', options

Filter = FromOptionParser(make_parser(), main)

def make_argparse():
    from argparse import ArgumentParser
    parser = ArgumentParser()
    parser.add_argument('--Num', type=int, default=3, help='how many')
    return parser

def argmain(options, stats):
    stats['num'] += options['Num']

ArgFilter = FromOptionParser(make_argparse(), argmain)
assert ArgFilter.ShowParameters()[1] == ('num', 3, 'how many'), ArgFilter.ShowParameters()

def plain(a, b=1):
    return {'sum': a + b}

class Skipped(ipmodule.IPBaseClass):
    def Execute(self, stats):
        if not ipmodule.IPBaseClass.Execute(self, stats): return 0
        raise Exception('not skipped')

class Own:
    """A class with a base of its own, as some carry along."""
    def __init__(self): self.params = {'a': 1}
    def SetParameter(self, p, v): self.params[p] = v
    def Execute(self, stats): stats['a'] = self.params['a']
`

func TestClassesRunUnchanged(t *testing.T) {
	for _, python := range interpreters(t) {
		t.Run(python.version, func(t *testing.T) {
			t.Parallel()
			tests := []struct {
				module Module
				want   []protocol.Statistic
			}{
				{
					Module{Class: "Generate", Parameters: named("nevents", 25, "SPECTRUM", []any{2.5, 3}, "mctree", true)},
					[]protocol.Statistic{{Name: "Mean_Energy", Value: 1.5}, {Name: "calls", Value: 3}, {Name: "events", Value: 25}, {Name: "finished", Value: 1}},
				},
				{
					Module{Class: "mod.Parsing", Args: raw(map[string]any{"seed": 4, "scale": 0.5}), Parameters: named("only_for_expressions", 1)},
					[]protocol.Statistic{{Name: "seed", Value: 2}},
				},
				{Module{Class: "Filter", Parameters: named("outfile", "o.i3")}, []protocol.Statistic{{Name: "num", Value: 7}}},
				{Module{Class: "ArgFilter", Parameters: named("num", 4)}, []protocol.Statistic{{Name: "num", Value: 4}}},
				{Module{Class: "plain", Args: raw(map[string]any{"args": []int{3}, "kwargs": map[string]int{"b": 4}})}, []protocol.Statistic{{Name: "sum", Value: 7}}},
				{Module{Class: "Skipped", Parameters: named("execute", "False")}, nil},
				{Module{Class: "Own", Parameters: named("a", 5)}, []protocol.Statistic{{Name: "a", Value: 5}}},
			}
			for _, tt := range tests {
				out, a := runClass(t, python.path, iceprod1, tt.module)
				if out.Verdict != protocol.VerdictOK {
					t.Errorf("%s = %v, %s\n%s", tt.module.Class, out.Verdict, out.Evidence, a.log())
					continue
				}
				if diff := cmp.Diff(tt.want, out.Statistics); diff != "" {
					t.Errorf("%s: statistics (-want +got):\n%s", tt.module.Class, diff)
				}
				if tt.module.Class != "Generate" {
					continue
				}
				if _, err := os.Stat(filepath.Join(a.dir.Work(), "run-7.out")); err != nil {
					t.Errorf("the default was not expanded: %v", err)
				}
			}
		})
	}
}

// TestClassesInAFolder: src may be a folder, from which the class is imported.
func TestClassesInAFolder(t *testing.T) {
	for _, python := range interpreters(t) {
		t.Run(python.version, func(t *testing.T) {
			t.Parallel()
			a := newClass(t, python.path, "", Module{Class: "sim.muon.Muon", Src: "lib"})
			a.file("lib/sim/__init__.py", "")
			a.file("lib/sim/units.py", "ONE = 1")
			a.file("lib/sim/muon.py", "from sim import units\nclass Muon(object):\n    def Execute(self, stats): stats['n'] = units.ONE\n")
			out := a.run(t.Context())
			if diff := cmp.Diff([]protocol.Statistic{{Name: "n", Value: 1}}, out.Statistics); diff != "" || out.Verdict != protocol.VerdictOK {
				t.Errorf("Run = %v, %s, (-want +got):\n%s\n%s", out.Verdict, out.Evidence, diff, a.log())
			}
		})
	}
}

func TestClassFailures(t *testing.T) {
	const source = `
from ipmodule import IPModule
class A(IPModule):
    def __init__(self):
        IPModule.__init__(self)
        self.AddParameter('Energy', 'in GeV', 1.0)
        self.AddParameter('what', 'to do', '')
    def Configure(self, tray):
        if self.GetParameter('what') == 'configure': raise RuntimeError('no such detector')
    def Finish(self, stats):
        if self.GetParameter('what') == 'finish': return 2
    def deeper(self):
        raise ValueError('energy of zero\nin bin 7')
    def Execute(self, stats):
        what = self.GetParameter('what')
        if what == 'text': raise SystemExit(u'no caf\xe9')
        if what == 'accent': raise Exception(u'no caf\xe9')
        if what == 'abort': raise SystemExit('nothing to read')
        if what == 'deeper': self.deeper()
        if what == 'one': return 1
        if what == 'true': return True
        if what == 'nan': stats['mean'] = float('nan')
        if what == 'word': stats['foo'] = 'bar'
        if what == 'exit': raise SystemExit(4)
        if what == 'leave': raise SystemExit(0)
        if what == 'segv':
            import os, signal
            os.kill(os.getpid(), signal.SIGSEGV)
`
	tests := []struct {
		promise  string
		module   Module
		source   string
		verdict  protocol.Verdict
		evidence []string
	}{
		{
			"an unknown parameter lists the known ones and the nearest",
			Module{Class: "A", Parameters: named("energi", 2)},
			source,
			protocol.VerdictPayload,
			[]string{"unknown parameter energi", "did you mean energy?", "what"},
		},
		{"args must exist, too", Module{Class: "A", Args: raw(map[string]int{"nope": 2})}, source, protocol.VerdictPayload, []string{"unknown parameter nope"}},
		{"an exception is the evidence", Module{Class: "A", Parameters: named("what", "deeper")}, source, protocol.VerdictPayload, []string{"ValueError: energy of zero"}},
		{"also one of Configure", Module{Class: "A", Parameters: named("what", "configure")}, source, protocol.VerdictPayload, []string{"RuntimeError: no such detector"}},
		{"Finish may fail", Module{Class: "A", Parameters: named("what", "finish")}, source, protocol.VerdictPayload, []string{"Finish returned 2"}},
		{"leaving with a text says it", Module{Class: "A", Parameters: named("what", "abort")}, source, protocol.VerdictPayload, []string{"SystemExit: nothing to read"}},
		{"in any language", Module{Class: "A", Parameters: named("what", "text")}, source, protocol.VerdictPayload, []string{"SystemExit: no café"}},
		{"so does an exception", Module{Class: "A", Parameters: named("what", "accent")}, source, protocol.VerdictPayload, []string{"Exception: no caf"}},
		{"an unknown parameter in any language", Module{Class: "A", Parameters: named("énergie", 2)}, source, protocol.VerdictPayload, []string{"unknown parameter énergie"}},
		{"a result that is not zero is a failure", Module{Class: "A", Parameters: named("what", "one")}, source, protocol.VerdictPayload, []string{"Execute returned 1"}},
		{"so is True, which is explained", Module{Class: "A", Parameters: named("what", "true")}, source, protocol.VerdictPayload, []string{"True", "return 0"}},
		{"NaN names its key", Module{Class: "A", Parameters: named("what", "nan")}, source, protocol.VerdictPayload, []string{`"mean"`, "nan"}},
		{"text names its key", Module{Class: "A", Parameters: named("what", "word")}, source, protocol.VerdictPayload, []string{`"foo"`, "bar"}},
		{"leaving with a code is a failure", Module{Class: "A", Parameters: named("what", "exit")}, source, protocol.VerdictPayload, []string{"SystemExit: 4"}},
		{"leaving without one is not", Module{Class: "A", Parameters: named("what", "leave")}, source, protocol.VerdictOK, nil},
		{"a crash of the interpreter names its signal", Module{Class: "A", Parameters: named("what", "segv")}, source, protocol.VerdictPayload, []string{"SIGSEGV"}},
		{"a class that is not there says what is", Module{Class: "a"}, source, protocol.VerdictPayload, []string{"no a in", "did you mean A?"}},
		{"a package that is not there", Module{Class: "nowhere.Thing"}, "", protocol.VerdictPayload, []string{"nowhere"}},
		{"a function that has no such parameter", Module{Class: "f", Parameters: named("bb", 2)}, "def f(b=1, c=2): pass\n", protocol.VerdictPayload, []string{"unknown parameter bb of f; did you mean b?; it has b, c"}},
		{"a function takes what it has, and parameters beside args are for expressions", Module{Class: "f", Parameters: named("other", 2), Args: raw(map[string]any{"b": 3})}, "def f(b=1, **none): assert (b, none) == (3, {'other': 2})\n", protocol.VerdictOK, nil},
		{"so they are for a function that takes no others", Module{Class: "f", Parameters: named("other", 2), Args: raw(map[string]any{"b": 3})}, "def f(b=1): assert b == 3\n", protocol.VerdictOK, nil},
		{"a file that does not compile", Module{Class: "A"}, "class A(:\n", protocol.VerdictPayload, []string{"SyntaxError"}},
	}
	all := interpreters(t)
	for _, python := range slices.Compact([]interpreter{all[0], all[len(all)-1]}) {
		for _, tt := range tests {
			t.Run(python.version+"/"+tt.promise, func(t *testing.T) {
				t.Parallel()
				out, a := runClass(t, python.path, tt.source, tt.module)
				if out.Verdict != tt.verdict {
					t.Errorf("Run = %v, %s\n%s", out.Verdict, out.Evidence, a.log())
				}
				for _, part := range tt.evidence {
					if !strings.Contains(out.Evidence, part) {
						t.Errorf("evidence = %q, want %q in it", out.Evidence, part)
					}
				}
			})
		}
	}
}

// TestClassFailureLeavesItsTraceback looks for every line between the shim and
// the place that raised.
func TestClassFailureLeavesItsTraceback(t *testing.T) {
	const source = `
class A(object):
    def Execute(self, stats):
        stats['before'] += 1
        self.deeper()
    def deeper(self):
        raise KeyError('hits')
`
	for _, python := range interpreters(t) {
		t.Run(python.version, func(t *testing.T) {
			t.Parallel()
			out, a := runClass(t, python.path, source, Module{Class: "A"})
			if out.Verdict != protocol.VerdictPayload || out.ExitCode != 1 || len(out.Statistics) != 0 {
				t.Errorf("Run = %v, exit code %d, statistics %v; want payload, 1 and none", out.Verdict, out.ExitCode, out.Statistics)
			}
			for _, part := range []string{"Traceback (most recent call last)", "mod.py\", line 5, in Execute", "mod.py\", line 7, in deeper", "KeyError: 'hits'"} {
				if !strings.Contains(a.log(), part) {
					t.Errorf("the log has no %q:\n%s", part, a.log())
				}
			}
		})
	}
}

// TestClassesOfAnyLanguage runs a class whose file, parameters and output are not
// ASCII, where the node's locale is C.
func TestClassesOfAnyLanguage(t *testing.T) {
	const source = `# -*- coding: utf-8 -*-
from __future__ import unicode_literals, print_function
from iceprod.modules import ipmodule

class Größe(ipmodule.IPBaseClass):
    pass

class Size(ipmodule.IPBaseClass):
    def __init__(self):
        ipmodule.IPBaseClass.__init__(self)
        self.AddParameter('place', 'where', '')
        self.AddParameter('more', 'else', '$steering(ort)/x')
    def Execute(self, stats):
        assert self.GetParameter('place') == 'Südpol', self.GetParameter('place')
        assert self.GetParameter('more') == 'Süd/x', self.GetParameter('more')
        print('am', self.GetParameter('place'))
`
	for _, python := range interpreters(t) {
		t.Run(python.version, func(t *testing.T) {
			t.Parallel()
			text := source
			if strings.HasPrefix(python.version, "2") {
				text = strings.Replace(text, "class Größe", "class Grosse", 1) // Python 2 has no such names
			}
			a := newClass(t, python.path, text, Module{Class: "Size", Parameters: named("place", "Südpol")})
			a.options.Environ = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
			a.task.Steering = map[string]string{"ort": "Süd"}
			if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK || !strings.Contains(a.log(), "am Südpol") {
				t.Errorf("Run = %v, %s\n%s", out.Verdict, out.Evidence, a.log())
			}
		})
	}
}

func TestShimIsPython2And3(t *testing.T) {
	// Names of syntax that Python 2.7 has not; the interpreters under test have
	// compiled the shim already, but 2.7 is rarely among them.
	const check = `
import ast, json, sys
bad = []
for path in sys.argv[1:]:
    for node in ast.walk(ast.parse(open(path).read(), path)):
        kind = type(node).__name__
        if kind in ('AsyncFunctionDef', 'Await', 'AnnAssign', 'JoinedStr', 'NamedExpr', 'Nonlocal', 'YieldFrom', 'Match', 'MatMult'):
            bad.append('%s:%d: %s' % (path, node.lineno, kind))
        if kind == 'FunctionDef' and (node.args.kwonlyargs or node.returns):
            bad.append('%s:%d: keyword-only arguments or annotations' % (path, node.lineno))
        if kind == 'Raise' and node.cause:
            bad.append('%s:%d: raise from' % (path, node.lineno))
        if kind == 'ClassDef' and node.keywords:
            bad.append('%s:%d: class keywords' % (path, node.lineno))
print(json.dumps(bad))
`
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	files, err := filepath.Glob("*/floe_*.py") // shim and describe
	if err != nil || len(files) < 3 {
		t.Fatalf("shim and describe have %q, %v", files, err)
	}
	out, err := exec.Command(python, append([]string{"-W", "error", "-c", check}, files...)...).Output()
	if err != nil {
		t.Fatalf("check of the shim: %v", err)
	}
	var bad []string
	if err := json.Unmarshal(out, &bad); err != nil || len(bad) > 0 {
		t.Errorf("not valid in Python 2.7: %q %v", bad, err)
	}
}
