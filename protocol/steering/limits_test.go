package steering

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// around puts text into a document of each spelling.
func around(xml, json, yaml string) map[Spelling]string {
	return map[Spelling]string{
		XML:  `<configuration><steering>` + xml + `</steering><task name="t"><tray><module src="m"/></tray></task></configuration>`,
		JSON: `{"steering":{"parameters":{` + json + `}},"tasks":[{"name":"t","trays":[{"modules":[{"src":"m"}]}]}]}`,
		YAML: "tasks: [{name: t, trays: [{modules: [{src: m}]}]}]\nsteering:\n  parameters:\n" + yaml,
	}
}

func nested(depth int) map[Spelling]string {
	xml := strings.Repeat(`<item type="list">`, depth-1) + strings.Repeat(`</item>`, depth-1)
	list := strings.Repeat("[", depth) + strings.Repeat("]", depth)
	return around(`<parameter name="a" type="list">`+xml+`</parameter>`, `"a":`+list, "    a: "+list+"\n")
}

func many(count int) map[Spelling]string {
	var xml, json, yaml strings.Builder
	for i := range count {
		fmt.Fprintf(&xml, `<parameter name="p%d" type="int" value="%d"/>`, i, i)
		if i > 0 {
			json.WriteByte(',')
		}
		fmt.Fprintf(&json, `"p%d":%d`, i, i)
		fmt.Fprintf(&yaml, "    p%d: %d\n", i, i)
	}
	return around(xml.String(), json.String(), yaml.String())
}

// The limits are the same for all spellings, so that what fits one fits all.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name  string
		texts map[Spelling]string
		err   string // "" accepts
	}{
		{"32 lists in each other", nested(MaxValueDepth), ""},
		{"33 lists in each other", nested(MaxValueDepth + 1), "deeper than 32"},
		{"a hundred lists", nested(100), "deeper than"},
		{"a hundred thousand lists", nested(100_000), "deeper than 64"},
		{"many parameters", many(2_000), ""},
		{"too many parameters", many(MaxNodes), "more than"},
		{"too many bytes", around("<!--"+strings.Repeat("x", MaxBytes)+"-->", `"a":"`+strings.Repeat("x", MaxBytes)+`"`, "#"+strings.Repeat("x", MaxBytes)), "more than 16 MiB"},
	} {
		for spelling, text := range test.texts {
			t.Run(test.name+"/"+spelling.String(), func(t *testing.T) {
				_, problems := Parse("big", []byte(text))
				if test.err == "" && len(problems) > 0 || test.err != "" && !strings.Contains(problems.Error(), test.err) {
					t.Errorf("Parse = %.300v, want %q", problems, test.err)
				}
			})
		}
	}
}

// A file in the wrong language does not give a report as long as itself.
func TestProblemsAreBounded(t *testing.T) {
	_, problems := Parse("x.xml", []byte("<configuration>"+strings.Repeat("<oops/>\n", 5000)+"</configuration>"))
	if len(problems) != MaxProblems+1 || !strings.Contains(problems.Error(), "4800 more problems") {
		t.Errorf("Parse = %d problems, last %v", len(problems), problems[len(problems)-1])
	}
	long := `{"version": 3, ` + strings.Repeat(" ", 1<<20) + `"x": 1, "tasks": []}`
	_, problems = Parse("x.json", []byte(long))
	if n := len(problems.Format()); n > 4096 {
		t.Errorf("one long line makes a report of %d bytes", n)
	}
}

// Text that a terminal would obey is shown, not sent.
func TestProblemsHideControlCharacters(t *testing.T) {
	_, problems := Parse("x.yaml", []byte("\x1b[31mred: \x07\ntasks: 5\n"))
	if text := problems.Format(); strings.ContainsAny(text, "\x1b\x07") || len(problems) == 0 {
		t.Errorf("Format = %q", text)
	}
}

func TestDetect(t *testing.T) {
	for text, want := range map[string]Spelling{
		"": YAML, " \n<": XML, "\ufeff<a/>": XML, "{": JSON, "[1]": JSON, "a: 1": YAML, "# <": YAML, "---\n{": YAML,
	} {
		if got := Detect([]byte(text)); got != want {
			t.Errorf("Detect(%q) = %v, want %v", text, got, want)
		}
	}
}

// Old XML files are Latin-1; excerpts show their characters.
func TestLatin1(t *testing.T) {
	source := []byte("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<configuration title=\"\xe9t\xe9\" x=\"\xe9\"/>")
	d, problems := Parse("x.xml", source)
	if d.Title != "été" || len(problems) == 0 || problems[0].Column != 28 || !strings.Contains(problems[0].Excerpt, "été") {
		t.Errorf("Parse = %q, %v", d.Title, problems)
	}
	if _, problems := Parse("x.xml", bytes.Replace(source, []byte("ISO-8859-1"), []byte("UTF-8"), 1)); !strings.Contains(problems.Error(), "not UTF-8") {
		t.Errorf("Parse of wrong UTF-8 = %v", problems)
	}
}
