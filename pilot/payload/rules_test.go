package payload

import (
	"strings"
	"testing"
)

func TestRulesThatAreNone(t *testing.T) {
	const good = "version 1\nx | exit 3 | node | {ending}\nrest | | payload | {ending}\n"
	if s, err := parseRules(good); err != nil || s.version != 1 || len(s.rules) != 2 {
		t.Fatalf("parseRules = %+v, %v", s, err)
	}
	for _, x := range []struct{ from, to, want string }{
		{"version 1", "version none", "line 1: version"},
		{"version 1\n", "", "no version"},
		{"exit 3", "exit three", `line 2: condition "exit three"`},
		{"exit 3", "signal SIGNAL", "condition"},
		{"exit 3", "not a fact", `condition "a fact"`},
		{"| node |", "| nodes |", "line 2: "},
		{"| node |", "| lost |", "cannot give"},
		{"| node |", "| node", "fields"},
		{"{ending}\nrest", "{end}\nrest", "{end}"},
		{"rest | |", "rest | exit 1 |", "the last rule"},
	} {
		if _, err := parseRules(strings.Replace(good, x.from, x.to, 1)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("with %q for %q: %v, want %q", x.to, x.from, err, x.want)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add(rulesText)
	f.Add("version 1\nx | log \"a\", not killed | own | {free} {\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseRules(text)
		if err != nil {
			return
		}
		for i := range s.rules {
			r := &s.rules[i]
			r.applies(&facts{})
			_ = r.evidence(&facts{})
		}
	})
}
