package payload

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"floe/protocol"
)

// Task is what to run, with every expression already evaluated.
type Task struct {
	ID      protocol.TaskID
	Lease   protocol.LeaseID
	Attempt uint32
	Name    string
	// Jobs is the number of jobs of the dataset, which random number streams need.
	Jobs uint32
	Seed uint64
	// Steering holds the dataset's parameters as text, for classes that name
	// $steering(x) in the defaults of their own parameters.
	Steering map[string]string
	// System is what $system names on this node, for the same.
	System map[string]string
	Trays  []Tray
}

// Tray is one iteration of one software environment's modules.
type Tray struct {
	Name      string
	Iteration int
	Environment
	Modules []Module
}

// Environment is the software that a tray or a module runs in.
type Environment struct {
	// Software are the roots of unpacked metaprojects, first one first on every path.
	Software []string
	// Python and Libraries are directories of single classes, put before the
	// metaprojects' on PYTHONPATH and LD_LIBRARY_PATH; Variables are NAME=value.
	Python, Libraries, Variables []string
	// Shell is a command prefix that sets up an environment and runs the rest of
	// its arguments in it, such as /cvmfs/x/env-shell.sh. A module's replaces its tray's.
	Shell string
	// Clear starts from an almost empty environment instead of the pilot's.
	Clear bool
	// Image is the root file system of a tray; nil is the node's.
	Image *Image
}

// within is the environment of a module whose tray has environment e.
func (e Environment) within(m Environment) Environment {
	out := Environment{
		Software:  slices.Concat(m.Software, e.Software),
		Python:    slices.Concat(m.Python, e.Python),
		Libraries: slices.Concat(m.Libraries, e.Libraries),
		Variables: slices.Concat(e.Variables, m.Variables), // the last one counts
		Shell:     m.Shell,
		Clear:     e.Clear || m.Clear,
		Image:     e.Image,
	}
	if out.Shell == "" {
		out.Shell = e.Shell
	}
	return out
}

// Module is one step: a program or script (Src with Args) or a Python class
// (Class, from Src where it is not installed).
type Module struct {
	Name  string
	Class string
	Src   string
	// Args is JSON: a string, a list, or a map; empty is none.
	Args       json.RawMessage
	Parameters []Parameter
	// Configs are files to write into the work directory before the module runs.
	Configs []Parameter
	// Checkpoint is how it is asked to save its work; nil where nobody said.
	Checkpoint *Saving
	Environment
}

// Parameter is a name with a JSON value.
type Parameter struct {
	Name  string
	Value json.RawMessage
}

// label names a module for people.
func (m *Module) label(i int) string {
	if m.Name != "" {
		return m.Name
	}
	return strconv.Itoa(i)
}

// labels name the modules of a tray, each differently.
func (t *Tray) labels() []string {
	out := make([]string, len(t.Modules))
	seen := make(map[string]int)
	for i := range t.Modules {
		out[i] = t.Modules[i].label(i)
		if seen[out[i]]++; seen[out[i]] > 1 {
			out[i] = fmt.Sprintf("%s:%d", out[i], seen[out[i]])
		}
	}
	return out
}

// arguments are the positional and named arguments of a module.
type arguments struct {
	positional []json.RawMessage
	named      []Parameter
}

// parseArguments reads the forms of the dataset language: text split at white
// space, or holding JSON; a list; a map of names; or a map of exactly args
// and kwargs.
func parseArguments(raw json.RawMessage) (arguments, error) {
	var a arguments
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "" || text == "null":
	case text[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return a, fmt.Errorf("args: %w", err)
		}
		s = strings.TrimSpace(s)
		if s != "" && (s[0] == '{' || s[0] == '[') && json.Valid([]byte(s)) {
			return parseArguments(json.RawMessage(s))
		}
		for _, word := range strings.Fields(s) {
			a.positional = append(a.positional, quoted(word))
		}
	case text[0] == '[':
		if err := json.Unmarshal(raw, &a.positional); err != nil {
			return a, fmt.Errorf("args: %w", err)
		}
	case text[0] == '{':
		members, err := parseMembers(raw)
		if err != nil {
			return a, fmt.Errorf("args: %w", err)
		}
		a.named = members
		if len(members) == 2 {
			both := map[string]json.RawMessage{members[0].Name: members[0].Value, members[1].Name: members[1].Value}
			if both["args"] != nil && both["kwargs"] != nil {
				return parseBoth(both)
			}
		}
	default:
		a.positional = []json.RawMessage{raw} // a number or a truth value
	}
	return a, nil
}

// parseBoth reads {"args": […], "kwargs": {…}}.
func parseBoth(both map[string]json.RawMessage) (a arguments, err error) {
	if err := json.Unmarshal(both["args"], &a.positional); err != nil {
		return a, fmt.Errorf("args.args: %w", err)
	}
	if a.named, err = parseMembers(both["kwargs"]); err != nil {
		return a, fmt.Errorf("args.kwargs: %w", err)
	}
	return a, nil
}

// parseMembers reads a JSON object in the order written.
func parseMembers(raw json.RawMessage) ([]Parameter, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("want a map, got %.40s", raw)
	}
	var out []Parameter
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		out = append(out, Parameter{name.(string), value})
	}
	_, err := d.Token()
	return out, err
}

// words are the arguments as a command line has them: positional ones first,
// then --name=value, -n=value for names of one letter, and the name alone where
// the value is null.
func (a arguments) words() []string {
	var out []string
	for _, p := range a.positional {
		out = append(out, word(p))
	}
	for _, n := range a.named {
		option := "--" + n.Name
		if len(n.Name) == 1 {
			option = "-" + n.Name
		}
		if string(n.Value) != "null" {
			option += "=" + word(n.Value)
		}
		out = append(out, option)
	}
	return out
}

// word is a JSON value as a shell user would write it: text without quotes,
// everything else as JSON.
func word(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil && string(v) != "null" {
		return s
	}
	return string(v)
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`) // Marshal of a string cannot fail
	}
	return b
}
