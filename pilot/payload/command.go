package payload

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"floe/protocol/steering"
)

// pythons are the interpreters tried, in this order, in each metaproject's bin
// and then on PATH.
var pythons = []string{"python3", "python", "python2"}

// errNoPython says that nothing can run Python here.
var errNoPython = errors.New("no python3, python or python2 in the metaprojects or on PATH")

// notFoundError is a src that is nowhere.
type notFoundError struct {
	src   string
	tried []string
}

func (e *notFoundError) Error() string {
	return fmt.Sprintf("src %s: no such file; tried %s", e.src, strings.Join(e.tried, ", "))
}

// firstPython finds a Python inside an environment that only env_shell knows.
// The same order as pythons.
const firstPython = `for p in python3 python python2; do
  if command -v "$p" >/dev/null 2>&1; then exec "$p" "$@"; fi
done
echo "floe: no python3, python or python2 on PATH=$PATH" >&2
exit 127`

// command is the argument list of a module, without its env_shell.
func (r *runner) command(m *Module, e Environment, env environ, step *step) ([]string, error) {
	args, err := parseArguments(m.Args)
	if err != nil {
		return nil, err
	}
	if steering.IsPredefined(m.Class, m.Src) {
		return r.callLibrary(m, args, step)
	}
	if m.Class != "" {
		src := ""
		if m.Src != "" {
			if src, err = r.locate(m.Src, e, env); err != nil {
				return nil, err
			}
		}
		if err := r.writeShim(m, src, args, step); err != nil {
			return nil, err
		}
		python, err := findPython(src, e, env)
		if err != nil {
			return nil, err
		}
		return append(python, "-u", filepath.Join(r.dir.shim(), "floe_module.py"), step.spec), nil
	}
	if m.Src == "" {
		return nil, errors.New("neither class nor src: nothing to run")
	}
	src, err := r.locate(m.Src, e, env)
	if err != nil {
		return nil, err
	}
	interpreter, err := r.interpreter(src, e, env)
	if err != nil {
		return nil, err
	}
	return append(append(interpreter, src), args.words()...), nil
}

// locate finds a src: as an absolute path; in the work directory, where stage
// has put what came from a URL; in the metaprojects, at their root and in bin; and
// a bare name on PATH.
func (r *runner) locate(src string, e Environment, env environ) (string, error) {
	name := src
	if u, err := url.Parse(src); err == nil && len(u.Scheme) > 1 && strings.Contains(src, "://") {
		name = filepath.Base(u.Path)
	}
	var tried []string
	if r.inImage(name, &e) {
		return name, nil // found when it starts, or not
	}
	if filepath.IsAbs(name) {
		tried = []string{name}
	} else {
		tried = append(tried, filepath.Join(r.dir.Work(), name))
		for _, root := range e.Software {
			tried = append(tried, filepath.Join(root, name), filepath.Join(root, "bin", name))
		}
	}
	for at, path := range tried {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if r.options.Isolation.hides(path, r.dir, r.task.software()) {
			tried[at] += " (hidden from payloads)"
			continue
		}
		r.located = append(r.located, path)
		return path, nil
	}
	if e.Image != nil && !strings.Contains(name, "/") {
		return name, nil // its shell looks
	}
	if !strings.Contains(name, "/") {
		if path := lookPath(name, env["PATH"]); path != "" {
			return path, nil
		}
		tried = append(tried, "PATH")
	}
	return "", &notFoundError{src, tried}
}

// inImage tells whether a program is looked for in the image: an absolute path that is
// none of the attempt's or of its software.
func (r *runner) inImage(src string, e *Environment) bool {
	return e.Image != nil && filepath.IsAbs(src) && !inside(src, append(slices.Concat(e.Software, e.Python), string(r.dir)))
}

// lookPath finds an executable in a list of directories.
func lookPath(name, path string) string {
	for _, dir := range filepath.SplitList(path) {
		full := filepath.Join(dir, name)
		if info, err := os.Stat(full); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(dir) {
			return full
		}
	}
	return ""
}

// interpreter decides how a program is run: .py by Python; what has a #! line
// or is no script as itself; .sh without one by /bin/sh.
func (r *runner) interpreter(src string, e Environment, env environ) ([]string, error) {
	first := ""
	if !r.inImage(src, &e) {
		first = shebang(src)
	}
	if strings.HasSuffix(src, ".py") && (first == "" || pythonName.MatchString(first)) {
		return findPython(src, e, env)
	}
	if first == "" && strings.HasSuffix(src, ".sh") {
		return []string{"/bin/sh"}, nil
	}
	// What stage fetched has no execute permission of its own.
	if info, err := os.Stat(src); err == nil && info.Mode()&0o100 == 0 && strings.HasPrefix(src, string(r.dir)+"/") {
		if err := r.dir.allow(src, info.Mode()|0o100); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

var (
	pythonName    = regexp.MustCompile(`python[0-9.]*(\s|$)`)
	pythonVersion = regexp.MustCompile(`(python[23](?:\.[0-9]+)?)(?:\s|$)`)
)

// findPython chooses the interpreter: the version that the file's #! line asks
// for, if it is there; the first metaproject that has one; PATH. Under an
// env_shell the choice is left to the environment it makes.
func findPython(src string, e Environment, env environ) ([]string, error) {
	names := pythons
	if found := pythonVersion.FindStringSubmatch(shebang(src)); found != nil {
		names = append([]string{found[1]}, pythons...)
	}
	if e.Shell != "" || e.Image != nil {
		return []string{"/bin/sh", "-c", firstPython, "floe-python"}, nil
	}
	for i, name := range names {
		for _, root := range e.Software {
			if path := lookPath(name, filepath.Join(root, "bin")); path != "" {
				return []string{path}, nil
			}
		}
		// A version asked for beats a metaproject's other one; an unversioned name does not.
		if asked := len(names) > len(pythons) && i == 0; asked {
			if path := lookPath(name, env["PATH"]); path != "" {
				return []string{path}, nil
			}
		}
	}
	for _, name := range pythons {
		if path := lookPath(name, env["PATH"]); path != "" {
			return []string{path}, nil
		}
	}
	return nil, errNoPython
}

// shebang is the interpreter line of a script, without the #!; empty for none.
func shebang(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO may be there
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	line, err := bufio.NewReaderSize(f, 256).ReadSlice('\n') // Linux reads 256 bytes
	if err != nil && len(line) == 0 {
		return ""
	}
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return ""
	}
	return strings.TrimSpace(string(rest))
}

// shell is the env_shell of an environment as words, its first one found.
func (r *runner) shell(e Environment, env environ) ([]string, error) {
	words := strings.Fields(e.Shell)
	if len(words) == 0 {
		return nil, nil
	}
	path, err := r.locate(words[0], e, env)
	if err != nil {
		return nil, fmt.Errorf("env_shell: %w", err)
	}
	interpreter, err := r.interpreter(path, e, env)
	if err != nil {
		return nil, fmt.Errorf("env_shell: %w", err)
	}
	return append(append(interpreter, path), words[1:]...), nil
}

// writeConfigs writes a module's config files into the work directory, and
// nowhere else.
func (r *runner) writeConfigs(m *Module) error {
	for _, c := range m.Configs {
		if !fs.ValidPath(c.Name) || c.Name == "." {
			return fmt.Errorf("config %q: want a path below the work directory", c.Name)
		}
		if err := r.dir.put(filepath.Join(workName, c.Name), append(slices.Clone(c.Value), '\n')); err != nil {
			return fmt.Errorf("config %s: %w", c.Name, err)
		}
	}
	return nil
}
