package steering

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// node is the tree all spellings meet in. It has JSON's shape: readers make
// it, decode turns it into a Document; encode makes it from a Document,
// writers print it.
type node struct {
	kind    Kind
	text    string // as Value.Text
	at      Position
	items   []*node
	members []member
	// plain marks a YAML scalar without quotes, whose type was guessed from raw.
	plain bool
	raw   string
	// head and tail are the comments before a node and behind it on its line,
	// as written; only format reads them.
	head []string
	tail string
}

// member is one entry of a map node.
type member struct {
	key   string
	at    Position
	value *node
	head  []string
	tail  string
}

// find returns the member called key, nil if there is none.
func (n *node) find(key string) *node {
	for i := range n.members {
		if n.members[i].key == key {
			return n.members[i].value
		}
	}
	return nil
}

// add appends a member.
func (n *node) add(key string, at Position, value *node) {
	n.members = append(n.members, member{key: key, at: at, value: value})
}

// container reports whether n holds other nodes.
func (n *node) container() bool { return n.kind == KindList || n.kind == KindMap }

// depth returns how deep containers nest in n: 0 for a scalar.
func (n *node) depth() int {
	if !n.container() {
		return 0
	}
	deepest := 0
	for _, item := range n.items {
		deepest = max(deepest, item.depth())
	}
	for _, m := range n.members {
		deepest = max(deepest, m.value.depth())
	}
	return deepest + 1
}

// valueOf turns a tree of parameters into a Value.
func (n *node) valueOf() Value {
	v := Value{Kind: n.kind, Text: n.text, Position: n.at}
	for _, item := range n.items {
		v.List = append(v.List, item.valueOf())
	}
	for _, m := range n.members {
		v.Map = append(v.Map, Parameter{Name: m.key, Value: m.value.valueOf(), Position: m.at})
	}
	return v
}

// nodeOf is the inverse of valueOf.
func nodeOf(v Value) *node {
	n := &node{kind: v.Kind, text: v.Text, at: v.Position}
	for i := range v.List {
		n.items = append(n.items, nodeOf(v.List[i]))
	}
	for i := range v.Map {
		n.add(v.Map[i].Name, v.Map[i].Position, nodeOf(v.Map[i].Value))
	}
	return n
}

// textNode is a string as a node.
func textNode(text string) *node { return &node{kind: KindString, text: text} }

// report gathers problems while one file is read.
type report struct {
	source   *Source
	spelling Spelling
	problems Problems
	dropped  int
	nodes    int
	// damaged marks elements that have problems of form, by where they start:
	// that something is missing there would be a second report of one mistake.
	damaged map[Position]bool
}

// add records a problem, or counts it once there are MaxProblems.
func (r *report) add(at Position, severity Severity, suggestion, message string) {
	if r.full() {
		r.dropped++
		return
	}
	r.problems = append(r.problems, r.source.Problem(at, severity, message, suggestion))
}

// full reports whether further problems are only counted; what is dear to
// describe need not be described then.
func (r *report) full() bool { return len(r.problems) >= MaxProblems }

func (r *report) errorf(at Position, format string, args ...any) {
	r.add(at, SeverityError, "", fmt.Sprintf(format, args...))
}

func (r *report) warnf(at Position, format string, args ...any) {
	r.add(at, SeverityWarning, "", fmt.Sprintf(format, args...))
}

// track marks the element at a position as damaged if problems were added
// since it was called: defer r.track(at)().
func (r *report) track(at Position) func() {
	before := len(r.problems) + r.dropped
	return func() {
		if len(r.problems)+r.dropped > before {
			if r.damaged == nil {
				r.damaged = map[Position]bool{}
			}
			r.damaged[at] = true
		}
	}
}

// finish returns the problems in the file's order.
func (r *report) finish() Problems {
	problems := r.problems.Sort()
	if r.dropped > 0 {
		problems = append(problems, Problem{
			File: r.source.name, Severity: SeverityError,
			Message: fmt.Sprintf("%d more problems are not shown", r.dropped),
		})
	}
	return problems
}

// count charges one node to the budget and reports whether it still holds.
func (r *report) count(at Position) bool {
	r.nodes++
	if r.nodes == maxRawNodes+1 {
		r.errorf(at, "more than %d pieces of markup", maxRawNodes)
	}
	return r.nodes <= maxRawNodes
}

// cursor turns rising byte offsets into positions in one pass.
type cursor struct {
	text   []byte
	offset int
	at     Position
}

func newCursor(text []byte) *cursor { return &cursor{text: text, at: Position{1, 1}} }

// move returns the position of offset, which must not be before the last one.
func (c *cursor) move(offset int) Position {
	for c.offset < offset && c.offset < len(c.text) {
		if c.text[c.offset] == '\n' {
			c.at.Line++
			c.at.Column = 1
			c.offset++
			continue
		}
		_, size := utf8.DecodeRune(c.text[c.offset:])
		c.offset += size
		c.at.Column++
	}
	return c.at
}

// unwritable returns the first character of text that not every spelling can
// hold: XML has no control characters and no U+FFFE.
func unwritable(text string) (rune, bool) {
	for _, c := range text {
		switch {
		case c == '\t' || c == '\n' || c == '\r':
		case c < 0x20, c == 0xfffe, c == 0xffff:
			return c, true
		}
	}
	return 0, false
}

// maxCandidates bounds the words compared with a mistyped one.
const maxCandidates = 1000

// nearest returns the word closest to a mistyped one, "" if none is near
// enough to be meant: a third of the letters may differ, at least one of two.
func nearest(typed string, words []string) string {
	best, bestDistance := "", max(len(typed)/3, 1)+1
	typed = strings.ToLower(typed)
	if len(typed) < 2 || len(typed) > 64 {
		return ""
	}
	for _, word := range words[:min(len(words), maxCandidates)] {
		if difference := len(word) - len(typed); difference >= bestDistance || -difference >= bestDistance {
			continue
		}
		distance := editDistance(typed, strings.ToLower(word))
		if distance < bestDistance {
			best, bestDistance = word, distance
		}
	}
	return best
}

// editDistance is Levenshtein's, with a swap of neighbours as one step.
func editDistance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, last, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}
