package steering

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// yamlReader turns YAML into the common tree. Syntax is the library's; types
// of plain scalars are YAML 1.2's core schema, decided here so that "1e11" is
// a number and "no" is a text whatever the library thinks. Anchors, aliases,
// merges, tags and several documents are refused: the other spellings have
// none, and a few aliases can stand for gigabytes.
type yamlReader struct {
	*report
}

// readYAML returns nil if the text could not be understood. The comments go to
// the nodes if the caller wants to print them again.
func readYAML(r *report, text []byte) (root *node, comments []*token.Token) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	// The library is the only reader here that is not our own; whatever it
	// panics on is one more text it cannot read.
	defer func() {
		if recovered := recover(); recovered != nil {
			r.errorf(Position{}, "not readable as YAML: %v", recovered)
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if at, problem := tooMuch(tokens); problem != "" {
		r.errorf(at, "%s", problem)
		return nil, nil
	}
	if len(tokens) > maxRawNodes {
		r.errorf(Position{}, "more than %d words", maxRawNodes)
		return nil, nil
	}
	for _, t := range tokens {
		if t.Type == token.CommentType {
			comments = append(comments, t)
		}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		y := yamlReader{r}
		y.syntaxError(err)
		return nil, nil
	}
	y := yamlReader{r}
	var bodies []ast.Node
	for _, document := range file.Docs {
		if document.Body != nil {
			bodies = append(bodies, document.Body)
		}
	}
	switch len(bodies) {
	case 0:
		r.errorf(Position{1, 1}, "the file is empty")
		return nil, nil
	case 1:
		return y.node(bodies[0]), comments
	}
	r.errorf(positionOf(bodies[1]), "a second document; a file holds one dataset")
	return nil, nil
}

// maxYAMLEntries bounds one block map. The library's parser recurses from
// entry to entry and copies the rest each time; 5,000 entries cost 0.25 s,
// 40,000 would cost 10 s. Source: measured with go-yaml v1.19.2.
const maxYAMLEntries = 5_000

// tooMuch looks for what would be too much for the library's parser, which
// recurses, and returns where.
func tooMuch(tokens token.Tokens) (Position, string) {
	type level struct{ column, entries int }
	flow, line := 0, 0
	var levels []level
	for _, t := range tokens {
		at := Position{t.Position.Line, max(t.Position.Column, 1)}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		}
		first := t.Position.Line != line
		line = t.Position.Line
		entry := t.Type == token.SequenceEntryType || t.Type == token.MappingKeyType
		if flow == 0 && (first || entry) && t.Type != token.CommentType {
			for len(levels) > 0 && levels[len(levels)-1].column > t.Position.Column {
				levels = levels[:len(levels)-1]
			}
			if len(levels) == 0 || levels[len(levels)-1].column < t.Position.Column {
				levels = append(levels, level{column: t.Position.Column})
			}
			levels[len(levels)-1].entries++
			if levels[len(levels)-1].entries > maxYAMLEntries {
				return at, fmt.Sprintf("more than %d entries in one YAML block; XML and JSON take more", maxYAMLEntries)
			}
		}
		// A sequence entry and the map in it take a level each.
		if flow > MaxDepth || len(levels) > 2*MaxDepth {
			return at, fmt.Sprintf("nested deeper than %d", MaxDepth)
		}
	}
	return Position{}, ""
}

// syntaxError reports the library's finding at its token.
func (y yamlReader) syntaxError(err error) {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		y.errorf(Position{1, 1}, "not YAML: %v", err)
		return
	}
	at := Position{1, 1}
	if t := syntax.GetToken(); t != nil && t.Position != nil {
		at = Position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
	}
	y.errorf(at, "not YAML: %s", strings.ToLower(syntax.GetMessage()))
}

func positionOf(n ast.Node) Position {
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return Position{1, 1}
	}
	return Position{t.Position.Line, max(t.Position.Column, 1)}
}

// node converts one node of the library's tree.
func (y yamlReader) node(source ast.Node) *node { return y.nodeAt(source, 1) }

func (y yamlReader) nodeAt(source ast.Node, depth int) *node {
	n := &node{kind: KindNull}
	if source == nil {
		return n
	}
	n.at = positionOf(source)
	if depth > MaxDepth+1 {
		y.errorf(n.at, "nested deeper than %d", MaxDepth)
		return n
	}
	if !y.count(n.at) {
		return n
	}
	switch source := source.(type) {
	case *ast.MappingNode:
		n.kind = KindMap
		for _, value := range source.Values {
			y.member(n, value, depth)
		}
		if !source.IsFlowStyle && len(n.members) > 0 {
			n.at = n.members[0].at
		}
	case *ast.MappingValueNode:
		n.kind = KindMap
		y.member(n, source, depth)
	case *ast.SequenceNode:
		n.kind = KindList
		for _, value := range source.Values {
			n.items = append(n.items, y.nodeAt(value, depth+1))
		}
	case *ast.LiteralNode:
		n.kind, n.text = KindString, source.Value.Value
		y.checkText(n)
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode,
		*ast.InfinityNode, *ast.NanNode:
		y.scalar(n, source)
	case *ast.AnchorNode:
		y.errorf(n.at, "anchors, aliases and merges are refused in steering files")
		return y.nodeAt(source.Value, depth+1)
	case *ast.AliasNode, *ast.MergeKeyNode:
		y.errorf(n.at, "anchors, aliases and merges are refused in steering files")
	case *ast.TagNode:
		y.errorf(n.at, "tags are refused in steering files")
		return y.nodeAt(source.Value, depth+1)
	case *ast.DirectiveNode:
		y.errorf(n.at, "directives are refused in steering files")
	default:
		y.errorf(n.at, "%s is refused in steering files", strings.ToLower(source.Type().String()))
	}
	return n
}

// member converts one key and value.
func (y yamlReader) member(n *node, source *ast.MappingValueNode, depth int) {
	at := positionOf(source.Key)
	key := source.Key.GetToken().Value
	switch k := source.Key.(type) {
	case *ast.StringNode:
		key = k.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
	case *ast.MergeKeyNode:
		y.errorf(at, "anchors, aliases and merges are refused in steering files")
		return
	default:
		y.errorf(at, "a key must be a plain or quoted text")
		return
	}
	y.checkText(&node{text: key, at: at})
	n.add(key, at, y.nodeAt(source.Value, depth+1))
}

func (y yamlReader) checkText(n *node) {
	if r, bad := unwritable(n.text); bad {
		y.errorf(n.at, "control character %U in a text", r)
	}
}

// scalar gives a scalar its type.
func (y yamlReader) scalar(n *node, source ast.Node) {
	t := source.GetToken()
	n.kind, n.text = KindString, t.Value
	if text, ok := source.(*ast.StringNode); ok {
		n.text = text.Value
	}
	switch t.Type {
	case token.SingleQuoteType, token.DoubleQuoteType:
	case token.ImplicitNullType:
		n.kind, n.text = KindNull, ""
	default:
		n.plain, n.raw = true, n.text
		if problem := resolvePlain(n); problem != "" {
			y.errorf(n.at, "%s", problem)
		}
	}
	y.checkText(n)
}

// resolvePlain gives an unquoted scalar its type after YAML 1.2's core schema
// and returns what is wrong with it.
func resolvePlain(n *node) string {
	text := n.text
	switch text {
	case "", "~", "null", "Null", "NULL":
		n.kind, n.text = KindNull, ""
		return ""
	case "true", "True", "TRUE", "false", "False", "FALSE":
		n.kind, n.text = KindBool, strings.ToLower(text)
		return ""
	}
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) > 1 || digits == "" {
		return ""
	}
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0o") {
		if number, ok := new(big.Int).SetString(text, 0); ok && len(text) <= 64 && !strings.Contains(text, "_") {
			n.kind, n.text = KindInt, number.String()
		}
		return ""
	}
	if strings.EqualFold(digits, ".inf") || strings.EqualFold(text, ".nan") {
		n.kind = KindNull
		return fmt.Sprintf("%s is no number that all spellings can write", text)
	}
	if number, ok := plainInt(text); ok {
		n.kind = KindInt
		if len(digits) > 1 && digits[0] == '0' {
			return fmt.Sprintf("%s has a leading zero: write %s for the number, 0o… for octal, or quotes for a text", cut(text, 40), cut(number, 40))
		}
		n.text = number
		return ""
	}
	if number, ok := plainDouble(text); ok {
		n.kind, n.text = KindDouble, number
	}
	return ""
}

// oldBoolean reports whether an unquoted text was a bool to YAML 1.1.
func oldBoolean(text string) bool {
	return slices.Contains([]string{"y", "n", "yes", "no", "on", "off"}, strings.ToLower(text))
}
