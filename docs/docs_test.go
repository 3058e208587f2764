package docs_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// root is the repository's, seen from here.
const root = ".."

// pages lists every Markdown file that belongs to the repository.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "bin" || e.Name() == "dist" || e.Name() == "node_modules"):
			return fs.SkipDir
		case !e.IsDir() && strings.HasSuffix(path, ".md"):
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	link    = regexp.MustCompile(`!?\[[^\]]*\]\(([^()\s]+(?:\([^()\s]*\))?)\)`)
	code    = regexp.MustCompile("`[^`]*`")
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
)

// prose returns a page's lines without code blocks: fenced ones, and those
// indented by four blanks after an empty line.
func prose(text string) []string {
	var lines []string
	fenced, indented, blank := false, false, true
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced:
		case strings.HasPrefix(line, "    ") && (blank || indented):
			indented = true
		case strings.TrimSpace(line) == "":
		default:
			indented = false
			lines = append(lines, line)
		}
		blank = strings.TrimSpace(line) == ""
	}
	return lines
}

// anchors are the names that headings of a page can be reached by, made as
// forges make them: lower case, punctuation dropped, blanks as hyphens.
func anchors(lines []string) map[string]bool {
	names := map[string]bool{}
	for _, line := range lines {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text := link.ReplaceAllStringFunc(m[1], func(s string) string { return s[:strings.Index(s, "](")] })
		names[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)] = true
	}
	return names
}

// TestLinksResolve follows every relative link, also to a heading.
func TestLinksResolve(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range prose(string(text)) {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, "code"), -1) {
				if problem := follow(t, page, m[1]); problem != "" {
					t.Errorf("%s: link to %s: %s", strings.TrimPrefix(page, root+"/"), m[1], problem)
				}
			}
		}
	}
}

// follow says what is wrong with a link; nothing for one that leaves the repository.
func follow(t *testing.T, page, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	file := page
	if u.Path != "" {
		file = filepath.Join(filepath.Dir(page), filepath.FromSlash(u.Path))
	}
	if below, err := filepath.Rel(root, file); err != nil || !filepath.IsLocal(below) {
		return "leaves the repository"
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return "no such file"
	} else if err != nil {
		t.Fatal(err)
	}
	if u.Fragment == "" || !strings.HasSuffix(file, ".md") {
		return ""
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !anchors(prose(string(text)))[u.Fragment] {
		return "no such heading"
	}
	return ""
}

// route matches a verb where coordinator/server registers it: as a pattern, or
// as method and path of one of the people's verbs.
var route = regexp.MustCompile(`"(GET|POST|PUT|DELETE|PATCH) (/[^"]*)"|"(GET|POST|PUT|DELETE|PATCH)", "(/[^"]*)"`)

// TestProtocolNamesEveryVerb wants a row for each verb, and no row without one.
func TestProtocolNamesEveryVerb(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "coordinator", "server", "routes.go"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, m := range route.FindAllStringSubmatch(string(source), -1) {
		served[m[1]+m[3]+" "+m[2]+m[4]] = true
	}
	if len(served) < 20 {
		t.Fatalf("found %d verbs in routes.go; has its form changed?", len(served))
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		told[m[1]] = true
	}
	for verb := range served {
		if !told[verb] {
			t.Errorf("docs/protocol.md has no row for %s", verb)
		}
	}
	for verb := range told {
		if !served[verb] {
			t.Errorf("docs/protocol.md has a row for %s, which routes.go does not serve", verb)
		}
	}
}

// TestInvariantsNameTheirTests wants every invariant once, in order, and every
// test that the page names in the package it names.
func TestInvariantsNameTheirTests(t *testing.T) {
	page, err := os.ReadFile("invariants.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| I-(\d+) \|.*\|(.*)\|$`).FindAllStringSubmatch(string(page), -1)
	word := regexp.MustCompile("`([a-z/-]+)`|\\b((?:Test|Fuzz)[A-Za-z0-9_]+)")
	tests := map[string]string{}
	for i, row := range rows {
		if row[1] != strconv.Itoa(i+1) {
			t.Errorf("row %d is that of I-%s", i+1, row[1])
		}
		folder := ""
		for _, m := range word.FindAllStringSubmatch(row[2], -1) {
			if m[1] != "" {
				folder = m[1]
				if _, read := tests[folder]; !read {
					tests[folder] = testSources(t, folder)
				}
			} else if !strings.Contains(tests[folder], "\nfunc "+m[2]+"(") {
				t.Errorf("I-%s names %s in %s, which is not there", row[1], m[2], folder)
			}
		}
	}
	if len(rows) != 41 {
		t.Errorf("%d invariants, want 41", len(rows))
	}
}

// testSources is all tests of a package.
func testSources(t *testing.T, folder string) string {
	t.Helper()
	if info, err := os.Stat(filepath.Join(root, folder)); err != nil || !info.IsDir() {
		t.Errorf("invariants.md names %s, which is no folder", folder)
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
