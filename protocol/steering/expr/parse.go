package expr

import "fmt"

// node is one operation of a parsed Python expression.
type node struct {
	op    string // an operator, or one of the words below
	value Value  // of a literal
	name  string // of a call
	kids  []*node
	ops   []string // of a chained comparison, one fewer than kids
	token          // for its place in the text
}

const (
	opLiteral  = "literal"
	opList     = "list"
	opTuple    = "tuple"
	opDict     = "dict" // keys and values in turn
	opCompare  = "compare"
	opIf       = "if" // condition, then, else
	opNegative = "unary -"
	opPositive = "unary +"
	opIndex    = "index" // sequence, key
	opSlice    = "slice" // sequence, from, to, step; nil where silent
	opCall     = "call"
)

// strengths gives the operators that associate to the left their strength.
// Comparisons, not, and, or and the conditional bind weaker, signs and **
// stronger.
var strengths = map[string]int{
	"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6,
}

// parser reads one expression by recursive descent.
type parser struct {
	tokens []token
	at     int
	depth  int
}

// parsePython reads a Python expression of the subset in doc.go.
func parsePython(text string) (*node, error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	n, err := p.conditional()
	if err != nil {
		return nil, err
	}
	if p.peek() != tokenEnd {
		return nil, p.unexpected()
	}
	return n, nil
}

func (p *parser) peek() string { return p.tokens[p.at].kind }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

// accept takes the next token if it is of a kind.
func (p *parser) accept(kind string) bool {
	if p.peek() != kind {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(kind string) error {
	if !p.accept(kind) {
		return p.unexpected()
	}
	return nil
}

func (p *parser) unexpected() error {
	t := p.tokens[p.at]
	if t.kind == tokenEnd {
		return syntaxError(t.start, "the expression ends too early")
	}
	return syntaxError(t.start, "unexpected %q", t.text)
}

// deeper guards the recursion; the caller calls the returned function when it
// leaves.
func (p *parser) deeper() (func(), error) {
	if p.depth++; p.depth > maxNesting {
		return func() {}, fmt.Errorf("%w: expression nested deeper than %d", ErrLimit, maxNesting)
	}
	return func() { p.depth-- }, nil
}

// join makes a node that spans its kids.
func join(op string, kids ...*node) *node {
	n := &node{op: op, kids: kids}
	n.start, n.end = kids[0].start, kids[len(kids)-1].end
	return n
}

// conditional = or [ "if" or "else" conditional ].
func (p *parser) conditional() (*node, error) {
	leave, err := p.deeper()
	defer leave()
	if err != nil {
		return nil, err
	}
	then, err := p.logic("or")
	if err != nil || !p.accept("if") {
		return then, err
	}
	condition, err := p.logic("or")
	if err != nil {
		return nil, err
	}
	if err := p.expect("else"); err != nil {
		return nil, err
	}
	otherwise, err := p.conditional()
	if err != nil {
		return nil, err
	}
	n := join(opIf, condition, then, otherwise)
	n.start = then.start
	return n, nil
}

// logic reads a chain of "or" of chains of "and" of "not".
func (p *parser) logic(op string) (*node, error) {
	operand := p.not
	if op == "or" {
		operand = func() (*node, error) { return p.logic("and") }
	}
	left, err := operand()
	for err == nil && p.accept(op) {
		var right *node
		if right, err = operand(); err == nil {
			left = join(op, left, right)
		}
	}
	return left, err
}

func (p *parser) not() (*node, error) {
	if p.peek() != "not" {
		return p.comparison()
	}
	leave, err := p.deeper()
	defer leave()
	if err != nil {
		return nil, err
	}
	t := p.next()
	operand, err := p.not()
	if err != nil {
		return nil, err
	}
	n := join("not", operand)
	n.start = t.start
	return n, nil
}

func (p *parser) comparison() (*node, error) {
	left, err := p.binary(1)
	if err != nil {
		return nil, err
	}
	kids, ops := []*node{left}, []string(nil)
	for {
		op := p.peek()
		switch op {
		case "<", "<=", ">", ">=", "==", "!=", "in":
			p.next()
		case "not":
			p.next()
			if err := p.expect("in"); err != nil {
				return nil, err
			}
			op = "not in"
		default:
			if len(ops) == 0 {
				return left, nil
			}
			n := join(opCompare, kids...)
			n.ops = ops
			return n, nil
		}
		right, err := p.binary(1)
		if err != nil {
			return nil, err
		}
		kids, ops = append(kids, right), append(ops, op)
	}
}

// binary reads operators at least as strong as least.
func (p *parser) binary(least int) (*node, error) {
	left, err := p.sign()
	for err == nil {
		op := p.peek()
		strength := strengths[op]
		if strength < least || strength == 0 {
			break
		}
		p.next()
		var right *node
		if right, err = p.binary(strength + 1); err == nil {
			left = join(op, left, right)
		}
	}
	return left, err
}

// sign = ("-" | "+" | "~") sign | power.
func (p *parser) sign() (*node, error) {
	op := p.peek()
	if op != "-" && op != "+" && op != "~" {
		return p.power()
	}
	leave, err := p.deeper()
	defer leave()
	if err != nil {
		return nil, err
	}
	t := p.next()
	operand, err := p.sign()
	if err != nil {
		return nil, err
	}
	n := join(map[string]string{"-": opNegative, "+": opPositive, "~": "~"}[op], operand)
	n.start = t.start
	return n, nil
}

// power = primary [ "**" sign ]: -2**2 is -4 and 2**-1 is 0.5.
func (p *parser) power() (*node, error) {
	base, err := p.primary()
	if err != nil || !p.accept("**") {
		return base, err
	}
	leave, err := p.deeper()
	defer leave()
	if err != nil {
		return nil, err
	}
	exponent, err := p.sign()
	if err != nil {
		return nil, err
	}
	return join("**", base, exponent), nil
}

// primary = atom { "[" key "]" }.
func (p *parser) primary() (*node, error) {
	n, err := p.atom()
	for err == nil && p.peek() == "[" {
		p.next()
		n, err = p.subscript(n)
	}
	if err == nil && p.peek() == "(" {
		return nil, syntaxError(p.tokens[p.at].start, "only the listed functions can be called")
	}
	return n, err
}

// subscript reads what follows "[": a key or a slice.
func (p *parser) subscript(sequence *node) (*node, error) {
	var parts [3]*node
	colons := 0
	for {
		if k := p.peek(); k != ":" && k != "]" {
			part, err := p.conditional()
			if err != nil {
				return nil, err
			}
			parts[colons] = part
		}
		if colons < 2 && p.accept(":") {
			colons++
			continue
		}
		closing := p.tokens[p.at]
		if err := p.expect("]"); err != nil {
			return nil, err
		}
		n := &node{op: opSlice, kids: []*node{sequence, parts[0], parts[1], parts[2]}}
		if colons == 0 {
			if parts[0] == nil {
				return nil, syntaxError(closing.start, "an index is missing")
			}
			n = &node{op: opIndex, kids: []*node{sequence, parts[0]}}
		}
		n.start, n.end = sequence.start, closing.end
		return n, nil
	}
}

func (p *parser) atom() (*node, error) {
	t := p.next()
	switch t.kind {
	case tokenLiteral:
		n := &node{op: opLiteral, value: t.value, token: t}
		// Adjacent texts are one.
		for p.peek() == tokenLiteral {
			a, isText := n.value.(string)
			b, both := p.tokens[p.at].value.(string)
			if !isText || !both {
				return nil, p.unexpected()
			}
			n.value, n.end = a+b, p.next().end
		}
		return n, nil
	case tokenName:
		if !p.accept("(") {
			return nil, syntaxError(t.start, "unknown name %q", t.text)
		}
		if _, known := functions[t.text]; !known {
			return nil, syntaxError(t.start, "unknown function %q", t.text)
		}
		n := &node{op: opCall, name: t.text}
		_, err := p.items(n, ")")
		n.start = t.start
		return n, err
	case "(":
		n := &node{op: opTuple}
		comma, err := p.items(n, ")")
		if err == nil && len(n.kids) == 1 && !comma {
			inner := *n.kids[0]
			inner.start, inner.end = t.start, n.end
			return &inner, nil
		}
		n.start = t.start
		return n, err
	case "[":
		n := &node{op: opList}
		_, err := p.items(n, "]")
		n.start = t.start
		return n, err
	case "{":
		return p.dict(t)
	}
	if t.kind != tokenEnd {
		p.at--
	}
	return nil, p.unexpected()
}

// items reads expressions separated by commas up to closing and reports
// whether a comma stood before it.
func (p *parser) items(n *node, closing string) (comma bool, err error) {
	for {
		n.end = p.tokens[p.at].end
		if p.accept(closing) {
			return comma, nil
		}
		if len(n.kids) > 0 && !comma {
			return false, p.unexpected()
		}
		kid, err := p.conditional()
		if err != nil {
			return false, err
		}
		n.kids = append(n.kids, kid)
		comma = p.accept(",")
	}
}

func (p *parser) dict(open token) (*node, error) {
	n := &node{op: opDict}
	for comma := true; ; comma = p.accept(",") {
		n.start, n.end = open.start, p.tokens[p.at].end
		if p.accept("}") {
			return n, nil
		}
		if !comma {
			return nil, p.unexpected()
		}
		key, err := p.conditional()
		if err != nil {
			return nil, err
		}
		if err := p.expect(":"); err != nil {
			return nil, err
		}
		value, err := p.conditional()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, key, value)
	}
}
