package payload

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"floe/pilot/library"
	"floe/protocol/steering"
)

// errNoLibrary: the program that runs payloads does not hold the predefined modules.
var errNoLibrary = errors.New("this program holds no predefined modules")

// checkLibrary looks at all predefined modules before the first module runs: after
// hours of work, a misspelt parameter of the last one is found too late.
func (r *runner) checkLibrary() (*facts, string) {
	for i := range r.task.Trays {
		tray := &r.task.Trays[i]
		labels := tray.labels()
		for j := range tray.Modules {
			m := &tray.Modules[j]
			if !steering.IsPredefined(m.Class, m.Src) {
				continue
			}
			args, err := parseArguments(m.Args)
			if err == nil {
				_, err = bindPredefined(m, args)
			}
			if err != nil {
				r.log.Printf("module %s: %v", labels[j], err)
				return &facts{prepare: err}, fmt.Sprintf("module %s: ", labels[j])
			}
		}
	}
	return nil, ""
}

// bindPredefined gives a predefined module its values, from its parameters and its
// args by the rules for classes: beside args, parameters that it does not have are
// for expressions only.
func bindPredefined(m *Module, args arguments) (map[string]json.RawMessage, error) {
	known, err := steering.FindPredefined(m.Class)
	if err != nil {
		return nil, err
	}
	if len(args.positional) > 0 {
		return nil, fmt.Errorf("%s takes parameters, and no list as args", m.Class)
	}
	given := make([]steering.NamedJSON, 0, len(m.Parameters)+len(args.named))
	for _, p := range slices.Concat(m.Parameters, args.named) {
		given = append(given, steering.NamedJSON{Name: p.Name, Value: p.Value})
	}
	if own := len(m.Parameters); len(args.named) > 0 {
		parameters := slices.DeleteFunc(slices.Clone(given[:own]), func(p steering.NamedJSON) bool {
			_, err := known.Parameter(p.Name)
			return err != nil
		})
		given = append(parameters, given[own:]...)
	}
	return known.Bind(given)
}

// callLibrary writes the call of a predefined module and returns its command line.
func (r *runner) callLibrary(m *Module, args arguments, s *step) ([]string, error) {
	if len(r.options.Library) == 0 {
		return nil, fmt.Errorf("%s: %w", m.Class, errNoLibrary)
	}
	values, err := bindPredefined(m, args)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(&library.Call{Module: m.Class, Values: values, Result: s.result, Statistics: s.statistics})
	if err == nil {
		err = r.dir.put(path.Base(s.spec), b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Class, err)
	}
	return append(slices.Clone(r.options.Library), s.spec), nil
}
