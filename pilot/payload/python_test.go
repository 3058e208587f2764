package payload

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// interpreter is one Python of this machine.
type interpreter struct {
	version, path string // 3.11.7; the program itself, not a wrapper that chooses one
}

// pythonPlaces are where Pythons are looked for beside PATH: version managers,
// and what people build themselves.
var pythonPlaces = []string{
	"$HOME/.pyenv/versions/*/bin", "$PYENV_ROOT/versions/*/bin", "$HOME/.local/share/uv/python/*/bin",
	"/usr/local/bin", "/opt/*/bin", "/opt/python/*/bin",
}

// everyPython is one interpreter of each version that is found, oldest first.
var everyPython = sync.OnceValue(func() []interpreter {
	candidates := strings.Split(os.Getenv("FLOE_TEST_PYTHONS"), ":")
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, place := range pythonPlaces {
		found, _ := filepath.Glob(os.ExpandEnv(place)) // the patterns are constants
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		for _, pattern := range []string{"python3", "python2", "python[23].[0-9]", "python3.[0-9][0-9]"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			candidates = append(candidates, found...)
		}
	}
	var out []interpreter
	seen := map[string]bool{}
	for _, name := range candidates {
		file, err := filepath.EvalSymlinks(name)
		if err != nil || seen[file] {
			continue
		}
		seen[file] = true
		said, err := exec.Command(name, "-c", "import platform, sys; print(platform.python_version()); print(sys.executable)").Output()
		version, path, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
		minor := func(p interpreter) bool { return release(p.version) == release(version) }
		if err == nil && path != "" && !slices.ContainsFunc(out, minor) {
			out = append(out, interpreter{version, path})
		}
	}
	slices.SortFunc(out, func(a, b interpreter) int { return cmp.Compare(release(a.version), release(b.version)) })
	return out
})

// release orders versions by their first two numbers.
func release(version string) int {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return 0
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return 1000*major + minor
}

// interpreters are the Pythons to test with: on PATH, in the usual places, and
// those that FLOE_TEST_PYTHONS lists, separated by colons. The test's log names them.
func interpreters(t *testing.T) []interpreter {
	t.Helper()
	all := everyPython()
	if len(all) == 0 {
		t.Skip("no Python on this machine")
	}
	for _, p := range all {
		t.Logf("Python %s: %s", p.version, p.path)
	}
	return all
}
