package expr

// Node is one step of an explanation: a phrase, a parameter's text it led to,
// or an operation within an $eval, with its value.
type Node struct {
	// Text is what was evaluated, as written or, within $eval, with the values
	// of phrases put in.
	Text string `json:"text"`
	// Place is where it is written, empty within the same text.
	Place  string  `json:"place,omitempty"`
	Value  Value   `json:"value"`
	Reason string  `json:"reason,omitempty"` // why there is no value
	Steps  []*Node `json:"steps,omitempty"`

	start, end int
}

// explain opens a node for a phrase; what it returns closes it.
func (x *expander) explain(p *phrase, place Place) func(v *Value, whole *bool) {
	outer := x.node
	if outer == nil {
		return func(*Value, *bool) {}
	}
	n := &Node{Text: p.source(), Place: place.String()}
	outer.Steps = append(outer.Steps, n)
	x.node = n
	before := len(x.unresolved)
	return func(v *Value, whole *bool) {
		n.Value = *v
		if !*whole && len(x.unresolved) > before {
			n.Reason = x.unresolved[len(x.unresolved)-1].Reason
		}
		x.node = outer
	}
}

// explainOperations returns a visitor that adds the operations of an $eval.
func (x *expander) explainOperations(text string) func(*node, Value, error) {
	parent := x.node
	if parent == nil {
		return nil
	}
	return func(n *node, v Value, err error) {
		step := &Node{Text: text[n.start:n.end], Value: v, start: n.start, end: n.end}
		if err != nil {
			step.Reason = err.Error()
		}
		// Operations come innermost first: those within this one's text are
		// its steps. Phrases have no place in text and stay where they are.
		at := len(parent.Steps)
		for at > 0 && parent.Steps[at-1].end > 0 && parent.Steps[at-1].start >= n.start {
			at--
		}
		step.Steps = append(step.Steps, parent.Steps[at:]...)
		parent.Steps = append(parent.Steps[:at:at], step)
	}
}

// String writes the place as people read it.
func (p Place) String() string {
	if p.Task == "" {
		return p.Path
	}
	return "tasks/" + p.Task + "/" + p.Path
}

// source writes a phrase as it was parsed.
func (p *phrase) source() string {
	text := "$" + p.name + "(" + sourceOf(p.body) + ")"
	for _, key := range p.keys {
		text += "[" + sourceOf(key) + "]"
	}
	return text
}

func sourceOf(parts []part) string {
	text := ""
	for _, p := range parts {
		if p.phrase != nil {
			text += p.phrase.source()
		} else {
			text += p.text
		}
	}
	return text
}
