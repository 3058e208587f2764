package payload

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"floe/protocol/steering"
	"floe/protocol/steering/expr"
)

// Software says where the trees of metaprojects and classes are unpacked, in
// the order in which paths shall name them. A class may have no tree of its own.
// The resources are those in scope: a module's own, its tray's, the task's.
type Software func([]steering.ExpandedProject, []steering.ExpandedClass, []steering.ExpandedResource) ([]string, error)

// Trays takes the trays from an expanded task. The environment of a tray holds
// the task's software after its own.
func Trays(task *steering.ExpandedTask, software Software) ([]Tray, error) {
	whole, err := environmentOf(&task.ExpandedFiles, task.Resources, software)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", task.Name, err)
	}
	out := make([]Tray, 0, len(task.Trays))
	for i := range task.Trays {
		t := &task.Trays[i]
		tray := Tray{Name: t.Name, Iteration: t.Iteration}
		if tray.Name == "" {
			tray.Name = fmt.Sprint(t.Index)
		}
		scope := slices.Concat(t.Resources, task.Resources)
		own, err := environmentOf(&t.ExpandedFiles, scope, software)
		if err != nil {
			return nil, fmt.Errorf("tray %s: %w", tray.Name, err)
		}
		own.Shell, own.Clear = t.EnvShell, t.EnvClear == steering.FlagYes
		tray.Environment = whole.within(own)
		for j := range t.Modules {
			m, err := moduleOf(&t.Modules[j], scope, software)
			if err != nil {
				return nil, fmt.Errorf("tray %s: module %s: %w", tray.Name, m.label(j), err)
			}
			tray.Modules = append(tray.Modules, m)
		}
		out = append(out, tray)
	}
	return out, nil
}

func moduleOf(m *steering.ExpandedModule, scope []steering.ExpandedResource, software Software) (Module, error) {
	out := Module{
		Name: m.Name, Class: m.Class, Src: m.Src,
		Parameters: parametersOf(m.Parameters), Configs: parametersOf(m.Configs), Checkpoint: savingOf(m.Checkpoint),
	}
	if m.Args != nil {
		out.Args = json.RawMessage(expr.JSON(m.Args))
	}
	own, err := environmentOf(&m.ExpandedFiles, slices.Concat(m.Resources, scope), software)
	own.Shell, own.Clear = m.EnvShell, m.EnvClear == steering.FlagYes
	out.Environment = own
	return out, err
}

func parametersOf(d *expr.Dict) []Parameter {
	if d == nil {
		return nil
	}
	var out []Parameter
	for i, name := range d.Keys {
		out = append(out, Parameter{name, json.RawMessage(expr.JSON(d.Values[i]))})
	}
	return out
}

// environmentOf asks where software is. A class's libs and env_vars name its
// tree $CLASS; without $CLASS, libs are below it.
func environmentOf(f *steering.ExpandedFiles, scope []steering.ExpandedResource, software Software) (Environment, error) {
	var e Environment
	if len(f.Projects) > 0 {
		roots, err := software(f.Projects, nil, scope)
		if err != nil {
			return e, err
		}
		e.Software = roots
	}
	for i := range f.Classes {
		c := &f.Classes[i]
		roots, err := software(nil, f.Classes[i:i+1], scope)
		if err != nil {
			return e, err
		}
		root := ""
		if len(roots) > 0 {
			root = roots[0]
		}
		e.Software = append(e.Software, roots...)
		e.Python = append(e.Python, roots...)
		place := func(s string) string { return strings.ReplaceAll(s, "$CLASS", root) }
		for lib := range strings.SplitSeq(c.Libs, ":") {
			if lib = place(strings.TrimSpace(lib)); lib != "" {
				if !filepath.IsAbs(lib) {
					lib = filepath.Join(root, lib)
				}
				e.Libraries = append(e.Libraries, lib)
			}
		}
		for variable := range strings.SplitSeq(c.EnvVars, ";") {
			if name, value, ok := strings.Cut(strings.TrimSpace(variable), "="); ok {
				e.Variables = append(e.Variables, name+"="+place(value))
			}
		}
	}
	return e, nil
}

// Texts are parameters as text, for Task.Steering.
func Texts(d *expr.Dict) map[string]string {
	out := make(map[string]string)
	if d != nil {
		for i, name := range d.Keys {
			out[name] = expr.Text(d.Values[i])
		}
	}
	return out
}
