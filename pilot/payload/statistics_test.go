package payload

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func TestParseStatistics(t *testing.T) {
	tests := []struct {
		text string
		want []protocol.Statistic
		err  string
	}{
		{"", nil, ""},
		{"{}", nil, ""},
		{`{"b": 2, "a": -1.5e-3}`, []protocol.Statistic{{Name: "a", Value: -0.0015}, {Name: "b", Value: 2}}, ""},
		{`{"é (x)": 1}`, []protocol.Statistic{{Name: "___x_", Value: 1}}, ""},
		{`{"a": NaN}`, nil, `"a": NaN`},
		{`{"ok": 1, "x": -Infinity}`, nil, `"x": -Infinity`},
		{`{"a": 1e999}`, nil, `"a": 1e999`},
		{`{"a": "1"}`, nil, `"a"`},
		{`{"a": true}`, nil, `"a"`},
		{`{"a": null}`, nil, `"a"`},
		{`{"a": [1]}`, nil, `"a"`},
		{`{"a": 1, "a": 2}`, nil, `"a": given twice`},
		{`{"a b": 1, "a(b": 2}`, nil, "given twice"},
		{`{"": 1}`, nil, "name must have"},
		{`[1]`, nil, "want a map"},
		{`{"a": 1`, nil, "statistics"},
	}
	for _, tt := range tests {
		got, err := parseStatistics([]byte(tt.text))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("parseStatistics(%s) (-want +got):\n%s", tt.text, diff)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("parseStatistics(%s) error = %v, want %q", tt.text, err, tt.err)
		}
	}
}

func TestMergeTellsNamesApart(t *testing.T) {
	one := []protocol.Statistic{{Name: "n", Value: 1}}
	tests := []struct {
		promise string
		given   []given
		want    []string
	}{
		{"a name given once stays", []given{{"t", 0, "gen", one}, {"t", 0, "sim", []protocol.Statistic{{Name: "m"}}}}, []string{"m", "n"}},
		{"by module", []given{{"t", 0, "gen", one}, {"t", 0, "sim", one}}, []string{"gen/n", "sim/n"}},
		{"by iteration", []given{{"t", 0, "gen", one}, {"t", 1, "gen", one}, {"t", 0, "x", one}}, []string{"gen:0/n", "gen:1/n", "x/n"}},
		{"by tray", []given{{"t", 0, "gen", one}, {"u", 0, "gen", one}}, []string{"t/gen:0/n", "u/gen:0/n"}},
	}
	for _, tt := range tests {
		got, err := merge(tt.given)
		if err != nil {
			t.Errorf("%s: %v", tt.promise, err)
		}
		var names []string
		for _, s := range got {
			names = append(names, s.Name)
		}
		if diff := cmp.Diff(tt.want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.promise, diff)
		}
	}
	var many []protocol.Statistic
	for i := range protocol.MaxStatistics + 1 {
		many = append(many, protocol.Statistic{Name: fmt.Sprint("s", i)})
	}
	if _, err := merge([]given{{"t", 0, "gen", many}}); err == nil || !strings.Contains(err.Error(), "limit 256") {
		t.Errorf("merge of too many = %v, want a refusal", err)
	}
}

func TestArguments(t *testing.T) {
	tests := []struct{ args, want, err string }{
		{``, "", ""},
		{`null`, "", ""},
		{`"a  b=1 -c"`, "a|b=1|-c", ""},
		{`["a b", 1, 2.50, true, {"x": 1}]`, `a b|1|2.50|true|{"x": 1}`, ""},
		{`{"zeta": 1, "n": "two words", "flag": null, "list": [1,2]}`, "--zeta=1|-n=two words|--flag|--list=[1,2]", ""},
		{`{"args": [1, "x"], "kwargs": {"k": "v"}}`, "1|x|-k=v", ""},
		{`"[\"a\", \"b c\"]"`, "a|b c", ""},
		{`"{not json}"`, "{not|json}", ""},
		{`7`, "7", ""},
		{`[1`, "", "args"},
		{`{"args": 1, "kwargs": {}}`, "", "args.args"},
	}
	for _, tt := range tests {
		a, err := parseArguments(json.RawMessage(tt.args))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("parseArguments(%s) error = %v, want %q", tt.args, err, tt.err)
		}
		if got := strings.Join(a.words(), "|"); err == nil && got != tt.want {
			t.Errorf("parseArguments(%s).words() = %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	line := "4242 (a) b (c) S 10 42 43 0 -1 4194560 100 0 0 0 7 3 20 10 20 0 1 0 987654 1000000 250 18446744073709551615 1 1"
	got, ok := parseStat([]byte(line))
	want := process{pid: 4242, parent: 10, group: 42, session: 43, start: 987654, state: 'S', ticks: 40, rss: 250 * pageSize}
	if !ok || got != want {
		t.Errorf("parseStat = %+v, %v, want %+v", got, ok, want)
	}
}

// FuzzModuleWords feeds what payloads and steering files write to its readers.
func FuzzModuleWords(f *testing.F) {
	for _, s := range []string{`{"a": 1, "b": NaN}`, `{"args": [1], "kwargs": {"k": null}}`, `"a b"`, `[1, "x"]`, "4242 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseStatistics([]byte(s))
		for _, v := range list {
			if err != nil || math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || protocol.CheckStatistic(v) != nil {
				t.Errorf("parseStatistics(%q) = %+v, %v", s, v, err)
			}
		}
		if a, err := parseArguments(json.RawMessage(s)); err == nil {
			a.words()
		}
		if p, ok := parseStat([]byte(s)); ok && p.pid <= 0 {
			t.Errorf("parseStat(%q) = %+v", s, p)
		}
	})
}
