package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Options are what an expansion needs besides its scope.
type Options struct {
	Division Division
	// Seed is the dataset's seed and Job the job's index; with the place they
	// decide every $choice.
	Seed, Job uint64
	// Explain asks for Result.Tree.
	Explain bool
}

// Unresolved is a phrase that had no value and was left as it stands.
type Unresolved struct {
	Place Place
	// Start and End are the phrase's bytes in the text written at Place.
	Start, End int
	Text       string // the phrase with what within it could be expanded
	Reason     string
	// Err is what Reason says; it wraps ErrLimit, ErrUnknown or neither.
	Err error
}

// ErrUnknown is what the error of a phrase is that names something that is not
// there.
var ErrUnknown = errors.New("unknown name")

// unknownName is an ErrUnknown that says which.
type unknownName string

func (u unknownName) Error() string        { return string(u) }
func (u unknownName) Is(target error) bool { return target == ErrUnknown }

// At is a phrase's place in the document.
type At struct {
	Place Place
	Start int
}

// Result is what an expansion made of a value.
type Result struct {
	Value      Value
	Unresolved []Unresolved
	Sources    Sources
	// IntDivisions are the $eval phrases that divided integers with "/".
	IntDivisions []At
	// Tree is set if Options.Explain was.
	Tree *Node
}

// Expand replaces the phrases in a value, in the texts within a list, and in
// keys and values of a dict. Text that is one phrase becomes that phrase's
// typed value; other text stays text, see Infer. Phrases without a value stay
// as they stand and are listed. Expand may be called concurrently if scope
// may.
func Expand(v Value, place Place, scope Scope, options Options) Result {
	x := &expander{budget: newBudget(), scope: scope, options: options}
	if options.Explain {
		text, _ := v.(string)
		x.node = &Node{Text: text}
	}
	v, _ = x.value(v, place)
	result := Result{
		Value: v, Unresolved: x.unresolved, Sources: x.sources, IntDivisions: x.intDivisions,
	}
	if x.node != nil {
		x.node.Value = v
		result.Tree = x.node
	}
	return result
}

// expander is one expansion.
type expander struct {
	*budget
	scope        Scope
	options      Options
	sources      Sources
	unresolved   []Unresolved
	intDivisions []At
	chain        []Place // of the values being expanded, outermost first
	node         *Node   // where to explain, nil if nobody asked
}

// value expands v, written at place. It reports whether no phrase was left.
func (x *expander) value(v Value, place Place) (Value, bool) {
	switch v := v.(type) {
	case string:
		return x.text(v, place)
	case List:
		list, whole := make(List, len(v)), true
		for i, item := range v {
			var ok bool
			list[i], ok = x.value(item, Place{place.Task, fmt.Sprintf("%s/%d", place.Path, i)})
			whole = whole && ok
		}
		return list, whole
	case *Dict:
		d, whole := &Dict{}, true
		for i, key := range v.Keys {
			inner := Place{place.Task, place.Path + "/" + key}
			k, keyOK := x.text(key, Place{place.Task, inner.Path + "/key"})
			value, ok := x.value(v.Values[i], inner)
			d.Keys, d.Values = append(d.Keys, Text(k)), append(d.Values, value)
			whole = whole && ok && keyOK
		}
		return d, whole
	}
	return v, true
}

// text expands the phrases in s.
func (x *expander) text(s string, place Place) (Value, bool) {
	parts, flaws := parsePhrases(s)
	for _, f := range flaws {
		x.leave(place, f.start, len(s), s[f.start:], errors.New(f.reason))
	}
	v, whole, err := x.join(parts, place)
	if err != nil {
		x.leave(place, 0, len(s), s, err)
		return s, false
	}
	return v, whole && len(flaws) == 0
}

// join expands parts: one phrase to its value, more to one text.
func (x *expander) join(parts []part, place Place) (v Value, whole bool, err error) {
	if len(parts) == 1 && parts[0].phrase != nil {
		v, whole = x.phrase(parts[0].phrase, place)
		return v, whole, nil
	}
	whole = true
	var b strings.Builder
	for _, p := range parts {
		text := p.text
		if p.phrase != nil {
			value, ok := x.phrase(p.phrase, place)
			whole = whole && ok
			if text, err = x.write(value); err != nil {
				return nil, false, err
			}
		}
		b.WriteString(text)
		if b.Len() > MaxString {
			return nil, false, x.bytes(b.Len())
		}
	}
	return b.String(), whole, x.bytes(b.Len())
}

// write is Text within the limits.
func (x *expander) write(v Value) (string, error) {
	ev := evaluator{budget: x.budget}
	return ev.written(v, Text)
}

// leave records a phrase that stays as it stands.
func (x *expander) leave(place Place, start, end int, text string, err error) {
	const most = 1000
	if len(x.unresolved) == most {
		return
	}
	// A parameter that is named often fails as often.
	for _, u := range x.unresolved {
		if u.Place == place && u.Start == start {
			return
		}
	}
	const longest = 200
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	x.unresolved = append(x.unresolved, Unresolved{
		Place: place, Start: start, End: end, Text: text, Reason: err.Error(), Err: err,
	})
}

// phrase expands one phrase. Where it has no value it returns the phrase's
// text, with what stands within it expanded, and false.
func (x *expander) phrase(p *phrase, place Place) (v Value, whole bool) {
	defer x.explain(p, place)(&v, &whole)
	body, whole, err := x.join(p.body, place)
	if err == nil {
		err = x.step()
	}
	keys := make([]Value, len(p.keys))
	for i, key := range p.keys {
		if err != nil {
			break
		}
		var ok bool
		keys[i], ok, err = x.join(key, place)
		whole = whole && ok
	}
	// A phrase around one that stays has nothing to work on: it stays too, and
	// only the inner one is reported.
	if err == nil && !whole {
		return x.standing(p.name, body, keys), false
	}
	if err == nil {
		v, whole, err = x.apply(p, body, place)
	}
	rest := ""
	for i := 0; err == nil && whole && i < len(keys); i++ {
		if rest == "" && indexable(v) {
			v, err = x.indexed(v, keys[i])
			continue
		}
		// Brackets after a number are text.
		rest += "[" + Text(keys[i]) + "]"
	}
	if err != nil {
		text := x.standing(p.name, body, keys)
		x.leave(place, p.start, p.end, text, err)
		return text, false
	}
	if rest != "" {
		v = Text(v) + rest
	}
	return v, whole
}

// standing writes a phrase that has no value.
func (x *expander) standing(name string, body Value, keys []Value) string {
	var b strings.Builder
	for i, v := range append([]Value{body}, keys...) {
		text, err := x.write(v)
		if err != nil {
			text = "…"
		}
		if i == 0 {
			b.WriteString("$" + name + "(" + text + ")")
		} else {
			b.WriteString("[" + text + "]")
		}
	}
	return b.String()
}

// indexable reports whether brackets after v pick from it.
func indexable(v Value) bool {
	switch v.(type) {
	case string, List, Tuple, *Dict:
		return true
	}
	return false
}

// indexed picks from a list, a dict, a text, or a text that reads as one of
// the former.
func (x *expander) indexed(v, key Value) (Value, error) {
	if text, ok := v.(string); ok {
		if err := x.bytes(len(text)); err != nil {
			return nil, err
		}
		switch inferred := Infer(text).(type) {
		case List, *Dict:
			v = inferred
		}
	}
	if _, ok := v.(*Dict); ok {
		return index(v, Text(key))
	}
	if text, ok := key.(string); ok {
		key = Infer(strings.TrimSpace(text))
	}
	return index(v, key)
}

// apply computes a phrase whose body holds no phrase any more.
func (x *expander) apply(p *phrase, body Value, place Place) (Value, bool, error) {
	if space, ok := spaces[p.name]; ok {
		text, err := x.write(body)
		if err != nil {
			return nil, false, err
		}
		return x.look(space, strings.TrimSpace(text))
	}
	v, err := x.compute(p, body, place)
	return v, true, err
}

func (x *expander) compute(p *phrase, body Value, place Place) (Value, error) {
	switch p.name {
	case "sum", "min", "max", "len":
		return x.reduce(p.name, body)
	case "choice":
		choices := choicesOf(body)
		if len(choices) == 0 {
			return nil, errors.New("nothing to choose from")
		}
		x.sources |= SourceJob | SourceChoice
		return choices[draw(x.options.Seed, x.options.Job, place, p.start, len(choices))], nil
	}
	text, err := x.write(body)
	if err != nil {
		return nil, err
	}
	switch p.name {
	case "eval":
		ev := evaluator{budget: x.budget, division: x.options.Division, visit: x.explainOperations(text)}
		v, err := ev.eval(text)
		if ev.dividedInts {
			x.intDivisions = append(x.intDivisions, At{place, p.start})
		}
		if t, ok := v.(Tuple); ok {
			v = List(t)
		}
		return v, err
	case "sprintf":
		return x.sprintf(text)
	}
	return nil, unknownName("there is no function $" + p.name)
}

// look answers $(name) and its like.
func (x *expander) look(space Space, name string) (Value, bool, error) {
	v, whole, found, err := x.find(space, name)
	if found || err != nil {
		return v, whole, err
	}
	if base, keys, ok := splitIndex(name); ok {
		v, whole, found, err = x.find(space, base)
		for i := 0; found && whole && err == nil && i < len(keys); i++ {
			v, err = x.indexed(v, keys[i])
		}
		if found || err != nil {
			return v, whole, err
		}
	}
	if space == SpaceAny {
		return nil, false, unknownName(fmt.Sprintf("there is no parameter or option %q", name))
	}
	return nil, false, unknownName(fmt.Sprintf("$%s has no %q", space, name))
}

// find looks one name up and expands its value.
func (x *expander) find(space Space, name string) (v Value, whole, found bool, err error) {
	busy := func(p Place) bool { return slices.Contains(x.chain, p) }
	variable, found := x.scope.Find(space, name, busy)
	x.sources |= variable.Sources
	if !found || variable.Verbatim {
		return variable.Value, found, found, nil
	}
	if variable.Place != (Place{}) && busy(variable.Place) {
		return nil, false, true, fmt.Errorf("%s refers to itself", name)
	}
	if len(x.chain) == MaxDepth {
		return nil, false, true, fmt.Errorf("%w: more than %d parameters refer to each other", ErrLimit, MaxDepth)
	}
	x.chain = append(x.chain, variable.Place)
	v, whole = x.value(variable.Value, variable.Place)
	x.chain = x.chain[:len(x.chain)-1]
	return v, whole, true, nil
}

// reduce is $sum, $min, $max and $len: of a list, of items separated by
// commas, and $len of any text.
func (x *expander) reduce(name string, body Value) (Value, error) {
	if text, ok := body.(string); ok {
		switch inferred := Infer(strings.TrimSpace(text)).(type) {
		case List, *Dict:
			body = inferred
		default:
			if name != "len" {
				var items List
				for _, item := range splitItems(text) {
					items = append(items, Infer(item))
				}
				body = items
			}
		}
	}
	ev := evaluator{budget: x.budget, division: x.options.Division}
	return ev.call(name, []Value{body})
}

// choicesOf returns what a $choice chooses from.
func choicesOf(body Value) []Value {
	if text, ok := body.(string); ok {
		if list, ok := Infer(strings.TrimSpace(text)).(List); ok {
			return list
		}
		var choices []Value
		for _, item := range splitItems(text) {
			choices = append(choices, item)
		}
		return choices
	}
	if items, ok := itemsOf(body); ok {
		return items
	}
	return []Value{body}
}

// splitItems cuts text at commas, outside brackets and outside quotes that
// begin an item, and trims blanks.
func splitItems(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var items []string
	begin, depth, fresh := 0, 0, true
	for at := 0; at < len(text); at++ {
		c := text[at]
		switch {
		case fresh && (c == '"' || c == '\''):
			if end := strings.IndexByte(text[at+1:], c); end >= 0 {
				at += end + 1
			}
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case c == ',' && depth <= 0:
			items = append(items, strings.TrimSpace(text[begin:at]))
			begin, fresh = at+1, true
			continue
		}
		fresh = fresh && c == ' '
	}
	return append(items, strings.TrimSpace(text[begin:]))
}
