package steering

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seed adds the files of one spelling to a fuzz target.
func seed(f *testing.F, s Spelling) {
	for _, folder := range []string{"good", "broken"} {
		for _, name := range files(f, folder) {
			if strings.HasSuffix(name, "."+s.String()) {
				f.Add(read(f, name))
			}
		}
	}
}

// parseAnything holds what must be true for any text: no panic, problems in
// their place, and whatever is accepted goes through all spellings and fmt.
func parseAnything(t *testing.T, source []byte) {
	doc, problems := Parse("fuzz", source)
	if doc == nil {
		t.Fatal("Parse returns no document")
	}
	for _, p := range problems {
		if p.Message == "" || p.Severity == 0 || p.Line < 0 || p.Column < 0 || p.Line > 0 && p.Column == 0 {
			t.Errorf("malformed problem %+v", p)
		}
		if p.Line > 1+bytes.Count(source, []byte("\n"))+bytes.Count(source, []byte("\r")) {
			t.Errorf("%v is behind the end", p)
		}
		if p.Format() == "" {
			t.Error("empty text")
		}
	}
	formatted, wrong := Format("fuzz", source)
	if wrong.HasErrors() {
		if !problems.HasErrors() {
			t.Fatalf("Format refuses what Parse accepts: %v", wrong)
		}
		return
	}
	again, wrong := Format("fuzz", formatted)
	if wrong.HasErrors() || !bytes.Equal(formatted, again) {
		t.Errorf("Format is not stable: %v\n%s", wrong, cmp.Diff(string(formatted), string(again)))
	}
	if problems.HasErrors() {
		return
	}
	if same, _ := Parse("fuzz", formatted); !cmp.Equal(doc, same, sameModel) {
		t.Errorf("Format changes the meaning (-before +after):\n%s", cmp.Diff(doc, same, sameModel))
	}
	for _, s := range spellings {
		text := write(t, doc, s)
		back, problems := Parse("fuzz", text)
		if problems.HasErrors() || !cmp.Equal(doc, back, sameModel) {
			t.Errorf("through %v: %v\n%s", s, problems, cmp.Diff(doc, back, sameModel))
		}
	}
}

func FuzzXML(f *testing.F) {
	seed(f, XML)
	f.Fuzz(func(t *testing.T, source []byte) {
		parseAnything(t, source)
		if Detect(source) != XML || bytes.Contains(source, []byte("encoding")) {
			return
		}
		// What Parse accepts is XML to others too.
		if _, problems := Parse("fuzz", source); problems.HasErrors() {
			return
		}
		decoder := xml.NewDecoder(bytes.NewReader(source))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("encoding/xml refuses what Parse accepts: %v", err)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	seed(f, JSON)
	f.Fuzz(func(t *testing.T, source []byte) {
		if Detect(source) == JSON {
			parseAnything(t, source)
		}
	})
}

func FuzzYAML(f *testing.F) {
	seed(f, YAML)
	f.Fuzz(func(t *testing.T, source []byte) {
		if Detect(source) == YAML {
			parseAnything(t, source)
		}
	})
}
