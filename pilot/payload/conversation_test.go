package payload

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/pilot/payload/session"
	"floe/protocol"
)

// speaking is an attempt with the command on its payload's PATH.
func speaking(t *testing.T, isolation *Isolation, modules ...Module) *attempt {
	t.Helper()
	a := newAttempt(t, modules...)
	a.options.Isolation, a.options.Cores = isolation, 3
	a.options.Tool = filepath.Join(filepath.Dir(string(a.dir)), "bin")
	if err := session.Install(a.options.Tool); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPayloadsSpeak(t *testing.T) { bothWays(t, payloadsSpeak) }

func payloadsSpeak(t *testing.T, isolation *Isolation) {
	a := speaking(t, isolation, script(`
		set -e
		floe-task statistic events 10
		floe-task statistic --add events 5 >sum
		floe-task progress 0.5 "half of it"
		echo '{"livetime": 2.5}' >"$FLOE_STATISTICS"
		test $(cat sum) = 15
		test $(floe-task attempt cores) = 3
		left=$(floe-task remaining --margin 20)
		test $left -gt 60 -a $left -le 100
		if floe-task statistic bad NaN 2>why; then exit 1; fi
		grep -q "not-finite: statistic bad: NaN is not a finite number" why
		test -z "$(find $(dirname $(command -v floe-task)) -newer why)"`),
		Module{Name: "second", Src: "/bin/sh", Args: raw([]string{"-c", "floe-task statistic events 1"})})
	var open *session.Session
	a.options.Session = func(s *session.Session) { open = s }
	out := a.run(t.Context())
	told, _ := open.Progress()
	want := []protocol.Statistic{{Name: "livetime", Value: 2.5}, {Name: "second/events", Value: 1}, {Name: "step/events", Value: 15}}
	if out.Verdict != protocol.VerdictOK || !cmp.Equal(out.Statistics, want) {
		t.Errorf("%v (%s), statistics %v; want ok and %v", out.Verdict, out.Evidence, out.Statistics, want)
	}
	if told.Fraction != 0.5 || told.Text != "half of it" {
		t.Errorf("progress %+v", told)
	}
}

func TestAStatisticGivenTwoWaysIsNamed(t *testing.T) {
	a := speaking(t, nil, script(`floe-task statistic events 10; echo '{"events": 2}' >"$FLOE_STATISTICS"`))
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictPayload || !strings.Contains(out.Evidence, `statistic "events": given twice, through the socket and at the module's end`) {
		t.Errorf("%v: %s", out.Verdict, out.Evidence)
	}
}

// The command cannot be changed by one payload for the next.
func TestThePayloadsCommandIsReadOnly(t *testing.T) {
	isolation, err := isolationHere()
	if err != nil {
		t.Skip(err)
	}
	a := speaking(t, isolation, script(`tool=$(command -v floe-task)
		echo x 2>/dev/null >>$tool && echo appended >done
		rm -f $tool 2>/dev/null && echo removed >done
		touch $(dirname $tool)/other 2>/dev/null && echo created >done
		test ! -e done`))
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK {
		t.Errorf("%v: %s", out.Verdict, out.Evidence)
	}
}

// An attempt may lie so deep that no socket's path would fit.
func TestPayloadsSpeakFromDeepDirectories(t *testing.T) { bothWays(t, payloadsSpeakFromDeep) }

func payloadsSpeakFromDeep(t *testing.T, isolation *Isolation) {
	a := speaking(t, isolation, script(`floe-task statistic deep ${#FLOE_SOCKET}`))
	deep := filepath.Join(filepath.Dir(string(a.dir)), strings.Repeat("d", 120))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := MakeDir(filepath.Join(deep, "attempt"))
	if err != nil {
		t.Fatal(err)
	}
	a.dir = dir
	if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK || len(out.Statistics) != 1 || out.Statistics[0].Value > 107 {
		t.Errorf("%v (%s), %v", out.Verdict, out.Evidence, out.Statistics)
	}
}

func TestPythonClassesSpeak(t *testing.T) {
	const source = `
import floe_task

def speak():
    floe_task.statistic('events', 10)
    assert floe_task.add('events', 2.5) == 12.5
    assert floe_task.add('calls') == 1
    floe_task.progress(0.25, 'one of four')
    assert 0 < floe_task.remaining(margin=20) <= 100
    assert floe_task.attempt('module') == 'step' and floe_task.attempt()['job'] == 7
    for wrong, code in ((lambda: floe_task.statistic('x', float('nan')), 'not-finite'),
                        (lambda: floe_task.progress(2), 'range'),
                        (lambda: floe_task.statistic('x' * 200, 1), 'name'),
                        (lambda: floe_task.ask('two\nlines'), 'syntax')):
        try:
            wrong()
        except floe_task.Refused as refused:
            assert refused.code == code, refused
        else:
            assert False, code
`
	for _, p := range interpreters(t) {
		t.Run(p.version, func(t *testing.T) {
			out, _ := runClass(t, p.path, source, Module{Class: "mod.speak"})
			want := []protocol.Statistic{{Name: "calls", Value: 1}, {Name: "events", Value: 12.5}}
			if out.Verdict != protocol.VerdictOK || !cmp.Equal(out.Statistics, want) {
				t.Errorf("%v (%s), statistics %v; want ok and %v", out.Verdict, out.Evidence, out.Statistics, want)
			}
		})
	}
}

// The page for authors of modules shows C and Python that speak without any library.
func TestTheExamplesOfThePageSpeak(t *testing.T) {
	page, err := os.ReadFile("../../docs/modules.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		language, file string
		build          []string
	}{
		{"c", "say.c", []string{"cc", "-Wall", "-Werror", "-o", "say", "say.c"}},
		{"python", "say", []string{"chmod", "+x", "say"}},
	} {
		t.Run(test.language, func(t *testing.T) {
			_, text, found := strings.Cut(string(page), "<!-- example: "+test.file+" -->\n```"+test.language+"\n")
			text, _, whole := strings.Cut(text, "\n```")
			if !found || !whole {
				t.Fatalf("docs/modules.md has no example %s", test.file)
			}
			if _, err := exec.LookPath(test.build[0]); err != nil {
				t.Skip(err)
			}
			a := speaking(t, nil, script(`./say`))
			a.file(test.file, text+"\n")
			build := exec.Command(test.build[0], test.build[1:]...)
			build.Dir = a.dir.Work()
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out := a.run(t.Context()); out.Verdict != protocol.VerdictOK || len(out.Statistics) != 1 || out.Statistics[0] != (protocol.Statistic{Name: "events", Value: 1000}) {
				t.Errorf("%v (%s), statistics %v", out.Verdict, out.Evidence, out.Statistics)
			}
		})
	}
}
