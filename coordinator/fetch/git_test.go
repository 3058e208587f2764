package fetch

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGitRevisions(t *testing.T) {
	w := newWorld(t)
	bare := w.gitRepository()
	w.names["git.example.com"] = []string{public}
	commit := func(name string) string { return runGit(t, bare, "rev-parse", name+"^{commit}") }
	for _, c := range []struct {
		reference, pinned, text string
	}{
		{"@v1#sim/muon.py", commit("v1"), "first"},
		{"@v2#sim/muon.py", commit("v2"), "second"},
		{"@" + commit("v2") + "#sim/muon.py", commit("v2"), "second"},
		{"@main#sim/muon.py", commit("main"), "third"},
		{"@refs/heads/main#sim/muon.py", commit("main"), "third"},
		{"#sim/muon.py", commit("main"), "third"},
	} {
		m, files, err := fetch(t, w.fetcher(Config{}), "https://git.example.com/git/sim.git"+c.reference)
		if err != nil {
			t.Errorf("%s: %v", c.reference, err)
			continue
		}
		if want := "git+https://git.example.com/git/sim.git@" + c.pinned + "#sim/muon.py"; m.Pinned.String() != want {
			t.Errorf("%s is pinned as %s, want %s", c.reference, m.Pinned, want)
		}
		if diff := cmp.Diff(map[string]string{"muon.py": c.text}, files); diff != "" || m.Path != "muon.py" {
			t.Errorf("%s brought path %q, (-want +got):\n%s", c.reference, m.Path, diff)
		}
	}
}

func TestGitFolderAndWhole(t *testing.T) {
	w := newWorld(t)
	w.gitRepository()
	w.names["git.example.com"] = []string{public}
	f := w.fetcher(Config{})
	_, files, err := fetch(t, f, "https://git.example.com/git/sim.git@v1#sim")
	if diff := cmp.Diff(map[string]string{"__init__.py": "", "muon.py": "first"}, files); err != nil || diff != "" {
		t.Errorf("a folder: %v, (-want +got):\n%s", err, diff)
	}
	first, files, err := fetch(t, f, "https://git.example.com/git/sim.git@v1")
	if diff := cmp.Diff(map[string]string{"sim/__init__.py": "", "sim/muon.py": "first", "README": "read me"}, files); err != nil || diff != "" {
		t.Errorf("the whole repository: %v, (-want +got):\n%s", err, diff)
	}
	again, _, err := fetch(t, f, "https://git.example.com/git/sim.git@v1")
	if err != nil || again.Digest != first.Digest {
		t.Errorf("the same commit gives %v and %v: %v", first.Digest, again.Digest, err)
	}
}

func TestGitMistakes(t *testing.T) {
	w := newWorld(t)
	w.gitRepository()
	w.names["git.example.com"] = []string{public}
	for reference, want := range map[string]string{
		"sim.git@v3":                          "no tag or branch v3; it holds main, v1, v2",
		"sim.git@v1#sim/moun.py":              "no sim/moun.py in the commit; sim holds __init__.py, muon.py",
		"none.git@v1":                         "no such git repository",
		"sim.git@" + strings.Repeat("12", 20): "none names " + strings.Repeat("12", 20),
	} {
		_, _, err := fetch(t, w.fetcher(Config{}), "https://git.example.com/git/"+reference)
		if !errors.Is(err, ErrNotThere) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want ErrNotThere and %q", reference, err, want)
		}
	}
}

func TestGitLimits(t *testing.T) {
	w := newWorld(t)
	w.gitRepository()
	w.names["git.example.com"] = []string{public}
	for name, limits := range map[string]Limits{
		"transfer": {Transfer: 400}, "unpacked": {Unpacked: 100}, "files": {Files: 3}, "module": {Module: 700},
	} {
		_, _, err := fetch(t, w.fetcher(Config{Limits: limits}), "https://git.example.com/git/sim.git@v1")
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", name, err)
		}
	}
}
