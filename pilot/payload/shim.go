package payload

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"floe/pilot/library"
	"floe/protocol"
	"floe/protocol/steering"
)

// shimFiles run Python classes: floe_module.py is the program, the other files
// what classes import. They are valid Python 2.7 to 3.13.
//
//go:embed shim/*.py
var shimFiles embed.FS

// writeRunner puts the shim where the payload's interpreter finds it, once.
func writeRunner(dir string) error {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("shim: %w", err)
	}
	entries, err := shimFiles.ReadDir("shim")
	if err != nil {
		return fmt.Errorf("shim: %w", err)
	}
	for _, e := range entries {
		b, err := shimFiles.ReadFile("shim/" + e.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), b, 0o600)
		}
		if err != nil {
			return fmt.Errorf("shim: %w", err)
		}
	}
	return nil
}

// shimSpec is what the shim is told, as JSON.
type shimSpec struct {
	Class string `json:"class"`
	Src   string `json:"src,omitempty"`
	// Args and Kwargs are for plain functions; a class takes Kwargs as parameters.
	Args   []json.RawMessage `json:"args"`
	Kwargs [][2]any          `json:"kwargs"`
	// Parameters are the module's own, in order.
	Parameters [][2]any          `json:"parameters"`
	Steering   map[string]string `json:"steering"`
	System     map[string]string `json:"system"`
	Job        map[string]any    `json:"job"`
	Result     string            `json:"result"`
	Statistics string            `json:"statistics"`
}

// writeShim writes the specification of one class module.
func (r *runner) writeShim(m *Module, src string, args arguments, s *step) error {
	if err := writeRunner(r.dir.shim()); err != nil {
		return err
	}
	pairs := func(list []Parameter) [][2]any {
		out := make([][2]any, 0, len(list))
		for _, p := range list {
			out = append(out, [2]any{p.Name, p.Value})
		}
		return out
	}
	spec := shimSpec{
		Class: m.Class, Src: src,
		Args: args.positional, Kwargs: pairs(args.named), Parameters: pairs(m.Parameters),
		Steering: r.task.Steering, System: r.task.System, Result: s.result, Statistics: s.statistics,
		Job: map[string]any{
			"dataset": r.task.ID.Dataset, "job": r.task.ID.Job, "procnum": r.task.ID.Job, "nproc": r.task.Jobs,
			"jobs_submitted": r.task.Jobs, "seed": r.task.Seed, "task": r.task.Name, "iter": s.tray.Iteration,
		},
	}
	if spec.Args == nil {
		spec.Args = []json.RawMessage{}
	}
	b, err := json.Marshal(&spec)
	if err == nil {
		err = r.dir.put(filepath.Base(s.spec), b)
	}
	if err != nil {
		return fmt.Errorf("class %s: %w", m.Class, err)
	}
	return nil
}

// maxResult bounds what the shim says: its statistics are in a file of their own.
const maxResult = 1 << 20

// readResult returns where a class's statistics are and what the shim or the
// library says went wrong, empty for nothing. Only the library, which no payload
// wrote, may say whose fault it was.
func readResult(dir Dir, m *Module, s *step) (statistics, said string, blames protocol.Verdict) {
	b, err := dir.take(filepath.Base(s.result), maxResult)
	if err != nil {
		// It is written last; without one the exit tells.
		return s.statistics, "", 0
	}
	var result library.Result
	if err := json.Unmarshal(b, &result); err != nil {
		return s.statistics, "", 0
	}
	if steering.IsPredefined(m.Class, m.Src) && result.Verdict.Reportable() {
		blames = result.Verdict
	}
	return s.statistics, result.Error, blames
}
