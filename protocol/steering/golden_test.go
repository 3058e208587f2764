package steering

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// files lists testdata files of the three spellings.
func files(t testing.TB, folder string) []string {
	t.Helper()
	var found []string
	for _, s := range spellings {
		names, err := filepath.Glob(filepath.Join("testdata", folder, "*."+s.String()))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	if len(found) == 0 {
		t.Fatalf("no files in testdata/%s", folder)
	}
	return found
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// golden compares text with a golden file, or writes it with -update.
func golden(t *testing.T, name, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(read(t, name)), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// Every broken file gets all its problems at once, word for word.
func TestBrokenFiles(t *testing.T) {
	for _, name := range files(t, "broken") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			_, problems := Parse(filepath.Base(name), read(t, name))
			if !problems.HasErrors() {
				t.Errorf("Parse(%s) finds no error", name)
			}
			golden(t, name+".golden", problems.Format())
		})
	}
}

// Every good file has no problems, not even warnings, and fmt keeps its
// meaning and its comments, and is stable.
func TestGoodFiles(t *testing.T) {
	for _, name := range files(t, "good") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			source := read(t, name)
			want, problems := Parse(name, source)
			if len(problems) > 0 {
				t.Fatalf("Parse(%s):\n%s", name, problems.Format())
			}
			for _, spelling := range spellings {
				text := write(t, want, spelling)
				got, problems := Parse(name, text)
				if diff := cmp.Diff(want, got, sameModel); diff != "" || problems.HasErrors() {
					t.Errorf("%s as %v (-want +got):\n%s%s", name, spelling, diff, problems.Format())
				}
			}
			once, problems := Format(name, source)
			if problems.HasErrors() {
				t.Fatalf("Format:\n%s", problems.Format())
			}
			golden(t, name+".fmt", string(once))
			got, _ := Parse(name, once)
			if diff := cmp.Diff(want, got, sameModel); diff != "" {
				t.Errorf("Format changes the meaning (-want +got):\n%s", diff)
			}
			twice, _ := Format(name, once)
			if diff := cmp.Diff(string(once), string(twice)); diff != "" {
				t.Errorf("Format is not stable (-once +twice):\n%s", diff)
			}
			if a, b := strings.Count(string(source), "COMMENT"), strings.Count(string(once), "COMMENT"); a != b {
				t.Errorf("Format keeps %d of %d comments", b, a)
			}
		})
	}
}

// The reference in the manual is the schema table, and that of the predefined
// modules theirs.
func TestReferenceIsCurrent(t *testing.T) {
	for page, reference := range map[string]string{"steering.md": Reference(), "modules.md": PredefinedReference()} {
		checkReference(t, filepath.Join("..", "..", "docs", page), reference)
	}
}

func checkReference(t *testing.T, name, reference string) {
	t.Helper()
	const begin, end = "<!-- reference: made by go generate in protocol/steering -->\n", "<!-- end of reference -->"
	head, rest, ok := strings.Cut(string(read(t, name)), begin)
	_, tail, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has lost the marks around the reference", name)
	}
	golden(t, name, head+begin+"\n"+reference+end+tail)
}

// The manual's first file is one.
func TestManualExample(t *testing.T) {
	_, rest, _ := strings.Cut(string(read(t, filepath.FromSlash("../../docs/steering.md"))), "```xml\n")
	example, _, ok := strings.Cut(rest, "```")
	if _, problems := Parse("steering.md", []byte(example)); !ok || len(problems) > 0 {
		t.Errorf("the example has problems:\n%s", problems.Format())
	}
}
