package library

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"floe/pilot/stage"
	"floe/protocol"

	"github.com/google/renameio/v2"
)

// Command is the argument with which a program that holds the library runs one
// module: PROGRAM module-step FILE.
const Command = "module-step"

// Program is the running program as the one that holds the library.
func Program() []string { return []string{"/proc/self/exe", Command} }

// Call is what one run of a predefined module is told, as JSON in a file.
type Call struct {
	Module string `json:"module"`
	// Values are those of steering.PredefinedModule.Bind.
	Values map[string]json.RawMessage `json:"values"`
	// Result and Statistics are the files to leave.
	Result     string `json:"result"`
	Statistics string `json:"statistics"`
}

// Result is what a run that fails leaves.
type Result struct {
	Error   string           `json:"error"`
	Verdict protocol.Verdict `json:"verdict"`
}

// step is one run.
type step struct {
	dir  string
	root *os.Root // dir
	out  io.Writer
	// files and bytes are the statistics of most modules.
	files int
	bytes int64
}

// module is how one predefined module is run.
type module func(ctx context.Context, s *step, values map[string]json.RawMessage) error

// modules are all of them; a test compares their values with the parameters that
// protocol/steering declares.
var modules = map[string]module{
	"floe.checksum": with((*step).checksum),
	"floe.delete":   with((*step).delete),
	"floe.hello":    with((*step).hello),
	"floe.merge":    with((*step).merge),
	"floe.pack":     with((*step).pack),
	"floe.transfer": with((*step).transfer),
	"floe.unpack":   with((*step).unpack),
}

// with reads a module's values into the struct it takes.
func with[V any](run func(*step, context.Context, V) error) module {
	return func(ctx context.Context, s *step, values map[string]json.RawMessage) error {
		b, err := json.Marshal(values)
		if err != nil {
			return err
		}
		var v V
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("parameters: %w", err)
		}
		return run(s, ctx, v)
	}
}

// Main runs the module of the Call in a file, in the current directory. What it
// says goes to out. If it fails, the Result is written before Main returns.
func Main(ctx context.Context, file string, out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var call Call
	if err := json.Unmarshal(b, &call); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	statistics, err := run(ctx, &call, ".", out)
	if err == nil {
		return writeJSON(call.Statistics, statistics)
	}
	result := Result{Error: err.Error(), Verdict: stage.Verdict(err)}
	if result.Verdict == 0 {
		result.Verdict = protocol.VerdictPayload
	}
	return errors.Join(err, writeJSON(call.Result, &result))
}

// run runs a call in dir and returns its statistics.
func run(ctx context.Context, call *Call, dir string, out io.Writer) (map[string]int64, error) {
	run := modules[call.Module]
	if run == nil {
		return nil, fmt.Errorf("no predefined module %s", call.Module)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s := &step{dir: dir, root: root, out: out}
	if err := run(ctx, s, call.Values); err != nil {
		return nil, fmt.Errorf("%s: %w", call.Module, err)
	}
	switch call.Module {
	case "floe.hello":
		return map[string]int64{}, nil
	case "floe.delete":
		return map[string]int64{"files": int64(s.files)}, nil
	}
	return map[string]int64{"files": int64(s.files), "bytes": s.bytes}, nil
}

func writeJSON(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, b, 0o600)
}

// say tells the log.
func (s *step) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

type hello struct{ Greeting string }

func (s *step) hello(_ context.Context, v hello) error {
	s.say("%s", v.Greeting)
	return nil
}
