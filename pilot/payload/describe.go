package payload

import (
	"bytes"
	"context"
	_ "embed" // the describing script
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Description is what a Python file defines.
type Description struct {
	// Python is the version that has read it.
	Python  string            `json:"python"`
	Modules []DescribedModule `json:"modules"`
}

// DescribedModule is a class with the IPModule interface, or a ready one.
type DescribedModule struct {
	Class      string               `json:"class"`
	Doc        string               `json:"doc"`
	Parameters []DescribedParameter `json:"parameters"`
	// Notes say what could not be told, and why.
	Notes []string `json:"notes"`
}

// DescribedParameter is one parameter. Default is JSON, {"python": "…"} for a
// value that is none or an expression that was not evaluated.
type DescribedParameter struct {
	Name    string          `json:"name"`
	Default json.RawMessage `json:"default"`
	Help    string          `json:"help"`
}

// describer reads a file, or imports it.
//
//go:embed describe/floe_describe.py
var describer []byte

// Bounds of a description.
const (
	maxDescribedFile = 4 << 20
	maxDescription   = 8 << 20
	// notThisPython is the describer's exit code for a file that is written for
	// another version.
	notThisPython = 3
)

// Describe says which modules a Python file defines. It reads the text and runs
// nothing of it; with run, it imports the file in a process of its own and asks
// each module, which shows also what only running shows. The first Python on PATH
// that understands the file does it, the version of its #! line before others.
func Describe(ctx context.Context, file string, run bool) (*Description, error) {
	path, err := describable(file)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "floe-describe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	script, err := writeDescriber(filepath.Join(dir, "shim"))
	if err != nil {
		return nil, err
	}
	return byFirstPython(path, func(program string) (*Description, bool, error) {
		d, err := describe(ctx, program, script, path, run)
		var exit *exec.ExitError
		return d, errors.As(err, &exit) && exit.ExitCode() == notThisPython, err
	})
}

// describable is the whole path of a file that may be described.
func describable(file string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDescribedFile {
		return "", fmt.Errorf("%s: want a file of at most %d bytes", file, maxDescribedFile)
	}
	return path, nil
}

// writeDescriber puts the describing script, and what it imports, into a new directory.
func writeDescriber(shim string) (script string, err error) {
	script = filepath.Join(shim, "floe_describe.py")
	return script, errors.Join(writeRunner(shim), os.WriteFile(script, describer, 0o600))
}

// byFirstPython asks one Python after the other, while they say that another one may
// understand the file.
func byFirstPython(path string, ask func(program string) (d *Description, other bool, err error)) (*Description, error) {
	names := pythons
	if found := pythonVersion.FindStringSubmatch(shebang(path)); found != nil {
		names = append([]string{found[1]}, pythons...)
	}
	var wrong error
	for _, name := range names {
		program := lookPath(name, os.Getenv("PATH"))
		if program == "" {
			continue
		}
		d, other, err := ask(program)
		if err == nil {
			return d, nil
		}
		if wrong = errors.Join(wrong, err); !other {
			break
		}
	}
	if wrong == nil {
		return nil, errors.New("no python3, python or python2 on PATH")
	}
	return nil, wrong
}

func describe(ctx context.Context, program, script, path string, run bool) (*Description, error) {
	args := []string{"-E", "-s", "-S", "-B", script, "read", path}
	if run {
		args = []string{"-B", script, "run", path} // what the file imports may be in PYTHONPATH
	}
	c := exec.CommandContext(ctx, program, args...)
	out := &bounded{limit: maxDescription}
	said := &bounded{limit: 64 << 10}
	c.Stdout, c.Stderr = out, said
	err := c.Start()
	if err == nil {
		if !run {
			boundReader(c.Process.Pid)
		}
		err = c.Wait()
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(said.kept.String()), "\n")
		return nil, fmt.Errorf("%s: %w: %s", program, err, lines[len(lines)-1])
	}
	d, err := parseDescription(out.kept.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return d, nil
}

// Bounds of a Python that only reads a file: coordinators have it read what others
// wrote, and some texts of a few lines take all memory to parse.
const (
	readerMemory = 1 << 30
	readerTime   = 20 // seconds of processor
)

// boundReader bounds a process. Where the system cannot, the time limit must do.
func boundReader(pid int) {
	for resource, most := range map[int]uint64{unix.RLIMIT_AS: readerMemory, unix.RLIMIT_CPU: readerTime, unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: maxDescription} {
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil)
	}
}

// parseDescription reads what the describer writes. With run, a file may have
// written to the same pipe.
func parseDescription(b []byte) (*Description, error) {
	var d Description
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("description: something follows it")
	}
	for i := range d.Modules {
		m := &d.Modules[i]
		if m.Class == "" {
			return nil, errors.New("description: a module without a name")
		}
		for _, p := range m.Parameters {
			if p.Name == "" {
				return nil, fmt.Errorf("description: a parameter of %s has no name", m.Class)
			}
		}
	}
	return &d, nil
}

// bounded keeps the first bytes of what is written. The buffer is not embedded:
// io.Copy would fill it by its own ReadFrom, past the limit.
type bounded struct {
	kept  bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.kept.Len(); room < len(p) {
		b.kept.Write(p[:max(room, 0)])
		return 0, fmt.Errorf("more than %d bytes of output", b.limit)
	}
	return b.kept.Write(p)
}
