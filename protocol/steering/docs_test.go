package steering

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"floe/protocol/steering/expr"
)

// TestWorkedExamples runs the table in docs/steering.md.
func TestWorkedExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/steering.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "### Worked examples")
	if !found {
		t.Fatal("docs/steering.md has no worked examples")
	}
	section, _, _ = strings.Cut(section, "\n### ")
	doc := parsed(t, `
version: 3
division: 3
steering:
  parameters: {geometry: IC86, list: [1, 2, 4.0], map: {low: 10, high: $eval(10**3)}, 'model::1': scat, word: 1+2, pick: '$steering(list)[1]'}
tasks: [{name: a, trays: [{iterations: 2, modules: [{src: a.sh}]}]}]
`)
	in := ExpandInput{Dataset: 7, Job: 17, JobCount: 100}
	rows := regexp.MustCompile("(?m)^\\| `(.*)` \\| `(.*)` \\|$").FindAllStringSubmatch(section, -1)
	if len(rows) < 20 {
		t.Fatalf("docs/steering.md has %d worked examples; the pattern or the page is wrong", len(rows))
	}
	for _, row := range rows {
		result, problems := Evaluate(doc, in, Where{Task: "a", Tray: 0, Iteration: 1}, row[1], false)
		if got := expr.Text(result.Value); len(problems) > 0 || got != row[2] {
			t.Errorf("docs/steering.md: %s = %s, want %s (%v)", row[1], got, row[2], problems)
		}
	}
}
