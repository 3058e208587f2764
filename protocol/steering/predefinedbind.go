package steering

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// PredefinedError is a mistake in the use of a predefined module. Nearest is the
// nearest right word, empty for none.
type PredefinedError struct{ Message, Nearest string }

func (e *PredefinedError) Error() string {
	if e.Nearest != "" {
		return e.Message + "; did you mean " + e.Nearest + "?"
	}
	return e.Message
}

// IsPredefined tells whether a module is meant to be a predefined one: a class
// with the library's prefix, without a src.
func IsPredefined(class, src string) bool {
	return src == "" && strings.HasPrefix(class, PredefinedPrefix)
}

// FindPredefined returns the predefined module of a name; the error, a
// *PredefinedError, knows the nearest one.
func FindPredefined(class string) (*PredefinedModule, error) {
	names := make([]string, len(predefined))
	for i := range predefined {
		names[i] = predefined[i].Name
		if names[i] == class {
			return &predefined[i], nil
		}
	}
	return nil, &PredefinedError{
		fmt.Sprintf("no predefined module %s; there are %s", cut(class, 60), strings.Join(names, ", ")), nearest(class, names),
	}
}

// Parameter returns the parameter of a name; the error, a *PredefinedError, knows
// the nearest one.
func (m *PredefinedModule) Parameter(name string) (*PredefinedParameter, error) {
	names := make([]string, len(m.Parameters))
	for i := range m.Parameters {
		names[i] = m.Parameters[i].Name
		if strings.EqualFold(names[i], name) {
			return &m.Parameters[i], nil
		}
	}
	return nil, &PredefinedError{
		fmt.Sprintf("unknown parameter %s of %s; it has %s", cut(name, 60), m.Name, strings.Join(names, ", ")), nearest(name, names),
	}
}

// NamedJSON is a value under a name, as JSON.
type NamedJSON struct {
	Name  string
	Value json.RawMessage
}

// Bind gives every parameter its value: from given, else its default. The values
// have the types of their kinds. A name that comes twice or is unknown, a value
// of another kind, and a required parameter without one are errors, all joined.
func (m *PredefinedModule) Bind(given []NamedJSON) (map[string]json.RawMessage, error) {
	values := make(map[string]json.RawMessage, len(m.Parameters))
	var wrong []error
	for _, g := range given {
		p, err := m.Parameter(g.Name)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if _, twice := values[p.Name]; twice {
			wrong = append(wrong, m.givenTwice(p))
		}
		value, err := m.value(p, g.Value)
		if err != nil {
			wrong = append(wrong, err)
		}
		values[p.Name] = value
	}
	for i := range m.Parameters {
		p := &m.Parameters[i]
		if _, there := values[p.Name]; there {
			continue
		}
		if p.Required {
			wrong = append(wrong, m.lacks(p))
		}
		values[p.Name] = p.Default
	}
	return values, errors.Join(wrong...)
}

func (m *PredefinedModule) givenTwice(p *PredefinedParameter) error {
	return &PredefinedError{Message: fmt.Sprintf("parameter %s of %s is given twice", p.Name, m.Name)}
}

func (m *PredefinedModule) lacks(p *PredefinedParameter) error {
	return &PredefinedError{Message: fmt.Sprintf("%s needs the parameter %s: %s", m.Name, p.Name, p.Doc)}
}

// value turns a JSON value into one of the parameter's kind. Text that reads as
// the kind is taken, because expressions and XML without types give text.
func (m *PredefinedModule) value(p *PredefinedParameter, raw json.RawMessage) (json.RawMessage, error) {
	v, ok := p.convert(raw)
	where := fmt.Sprintf("parameter %s of %s: %.60s", p.Name, m.Name, raw)
	if !ok {
		return nil, &PredefinedError{Message: where + " is not " + predefinedKinds[p.Kind].want}
	}
	text, _ := v.(string)
	list, isList := v.([]string)
	switch {
	case len(p.Words) > 0 && !slices.Contains(p.Words, text):
		return nil, &PredefinedError{where + ": want one of " + strings.Join(p.Words, ", "), nearest(text, p.Words)}
	case p.Required && p.Kind == KindString && text == "", p.Required && isList && len(list) == 0:
		return nil, &PredefinedError{Message: where + " is empty"}
	}
	return json.Marshal(v)
}

// convert returns a value of the parameter's kind, if raw can be one.
func (p *PredefinedParameter) convert(raw json.RawMessage) (any, bool) {
	var v any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	if n, ok := v.(json.Number); ok {
		v = n.String() // a run number may be a name, and a text a number
	}
	s, isText := v.(string)
	word := strings.ToLower(strings.TrimSpace(s))
	switch p.Kind {
	case KindString:
		return s, isText
	case KindBool:
		if b, ok := v.(bool); ok {
			return b, true
		}
		yes := slices.Contains([]string{"true", "yes", "1"}, word)
		return yes, yes || slices.Contains([]string{"false", "no", "0"}, word)
	case KindInt:
		n, err := strconv.ParseUint(word, 10, 64)
		return n, err == nil && n <= math.MaxInt32
	case KindList:
		if isText {
			return append([]string{}, strings.Fields(s)...), true
		}
		items, ok := v.([]any)
		list := make([]string, 0, len(items))
		for _, item := range items {
			if n, ok := item.(json.Number); ok {
				item = n.String()
			}
			text, isText := item.(string)
			ok = ok && isText && text != ""
			list = append(list, text)
		}
		return list, ok
	}
	return nil, false
}

// predefined checks the use of a predefined module, as far as it is no expression.
func (c checker) predefined(m *Module) {
	if !IsPredefined(m.Class.Text, m.Src.Text) || isExpression(m.Class.Text) {
		return
	}
	known, err := FindPredefined(m.Class.Text)
	if err != nil {
		c.mistake(m.Class.Position, err)
		return
	}
	args := m.Args.Map
	open := m.Args.Kind == KindString && (strings.HasPrefix(strings.TrimSpace(m.Args.Text), "{") || isExpression(m.Args.Text))
	if kwargs, ok := args.Find("kwargs"); ok && kwargs.Kind == KindMap && len(args) == 2 {
		args = kwargs.Map
	}
	if !open && m.Args.Kind != KindMap && !m.Args.Absent() {
		c.errorf(m.Args.Position, "%s takes parameters, and no %s as args", known.Name, m.Args.Kind)
		return
	}
	given := slices.Clone(args)
	for _, p := range m.Parameters {
		// Beside args, parameters may be for expressions only, as for any class.
		if _, err := known.Parameter(p.Name); err == nil || m.Args.Absent() {
			given = append(given, p)
		}
	}
	seen := map[*PredefinedParameter]bool{}
	for _, g := range given {
		p, err := known.Parameter(g.Name)
		if err == nil && seen[p] {
			err = known.givenTwice(p)
		}
		seen[p] = true
		if raw := g.Value.String(); err == nil && !isExpression(raw) {
			_, err = known.value(p, json.RawMessage(raw))
		}
		if err != nil {
			c.mistake(g.Position, err)
		}
	}
	for i := range known.Parameters {
		if p := &known.Parameters[i]; p.Required && !seen[p] && !open && !c.damaged[m.Position] {
			c.mistake(m.Position, known.lacks(p))
		}
	}
}

// mistake reports an error that may know the nearest right word.
func (c checker) mistake(at Position, err error) {
	var wrong *PredefinedError
	switch {
	case c.full():
		c.dropped++
	case errors.As(err, &wrong):
		c.add(at, SeverityError, quoteWord(wrong.Nearest), wrong.Message)
	default:
		c.errorf(at, "%v", err)
	}
}
