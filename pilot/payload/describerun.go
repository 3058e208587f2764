package payload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"floe/protocol"
)

// Bounds of a file that is imported to be described.
const (
	importTime      = time.Minute
	importMemory    = 4 * protocol.GB
	importDisk      = protocol.GB
	importProcesses = 64
)

// DescribeIsolated imports a Python file as a payload of its own, isolated and
// limited, and asks each of its modules, as Describe with run does. Beside the file
// are what it may import; root is the folder from which it is imported.
func DescribeIsolated(ctx context.Context, file, root string, isolation *Isolation) (*Description, error) {
	path, err := describable(file)
	if err != nil {
		return nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	base, err := os.MkdirTemp("", "floe-describe-")
	if err != nil {
		return nil, err
	}
	attempts := 0
	defer os.RemoveAll(base)
	return byFirstPython(path, func(program string) (*Description, bool, error) {
		attempts++
		dir, err := MakeDir(filepath.Join(base, fmt.Sprint(attempts)))
		if err != nil {
			return nil, false, err
		}
		defer func() { _ = dir.Remove() }()
		return describePayload(ctx, program, path, root, dir, isolation)
	})
}

// describePayload runs one Python; other says that it does not understand the file.
func describePayload(ctx context.Context, program, path, root string, dir Dir, isolation *Isolation) (d *Description, other bool, err error) {
	script, err := writeDescriber(filepath.Join(dir.Work(), "describer"))
	if err != nil {
		return nil, false, err
	}
	const answer = "answer.json"
	args, err := json.Marshal([]string{"-B", script, "run", path, filepath.Join(dir.Work(), answer)})
	if err != nil {
		return nil, false, err
	}
	tray := Tray{Name: "describe", Modules: []Module{{Name: filepath.Base(path), Src: program, Args: args}}}
	tray.Python = []string{root, filepath.Dir(path)}
	limits := Limits{Walltime: importTime, Memory: importMemory, Disk: importDisk, Processes: importProcesses, Grace: time.Second}
	out := Run(ctx, Task{Name: "describe", Trays: []Tray{tray}}, limits, dir, Options{Isolation: isolation})
	if out.Verdict != protocol.VerdictOK {
		return nil, out.ExitCode == notThisPython, fmt.Errorf("%s: %s", program, out.Evidence)
	}
	b, err := readAnswer(dir.Work(), answer)
	if err == nil {
		d, err = parseDescription(b)
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", program, err)
	}
	return d, false, nil
}

// readAnswer reads what a payload has left under a name, and nothing that it leads to.
func readAnswer(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxDescription {
		return nil, errors.Join(err, fmt.Errorf("no answer of at most %d bytes", maxDescription))
	}
	return io.ReadAll(io.LimitReader(f, maxDescription))
}
