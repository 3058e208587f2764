package steering

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// yamlReader turns YAML into the common tree. The library cuts the text into
// tokens; putting them together is done here, because the library's parser
// takes time quadratic in the entries of a map and recurses without bound, and
// because a steering file needs little of YAML: anchors, aliases, merges, tags,
// complex keys and several documents are refused. The other spellings have
// none of them, and a few aliases can stand for gigabytes. Types of plain
// scalars are YAML 1.2's core schema, so that "1e11" is a number and "no" a
// text whatever the library thinks.
type yamlReader struct {
	*report
	tokens token.Tokens
	next   int
}

// maxYAMLMarks bounds the characters that can become tokens: the library
// spends some 250 bytes on each. Source: five per value, as maxRawNodes, twice.
const maxYAMLMarks = 2 * maxRawNodes

// readYAML returns nil if the text could not be understood, and the comments
// for the caller who wants to print them again.
func readYAML(r *report, text []byte) (root *node, comments []*token.Token) {
	text = unixLines(text)
	marks := 0
	for _, c := range text {
		if strings.IndexByte("\n,:[]{}#-?&*!|>%@`'\"", c) >= 0 {
			marks++
		}
	}
	if marks > maxYAMLMarks {
		r.errorf(Position{1, 1}, "more than %d lines and marks", maxYAMLMarks)
		return nil, nil
	}
	// The tokens are the only reading here that is not our own; whatever the
	// library panics on is one more text that cannot be read.
	defer func() {
		switch stopped := recover(); stopped.(type) {
		case nil:
		case readStop:
			root = nil
		default:
			r.errorf(Position{1, 1}, "not YAML: %v", stopped)
			root = nil
		}
	}()
	y := &yamlReader{report: r}
	invalid := false
	for _, t := range lexer.Tokenize(string(text)) {
		switch t.Type {
		case token.CommentType:
			comments = append(comments, t)
			continue
		case token.InvalidType:
			y.errorf(positionOf(t), "not YAML: %s", t.Error)
			invalid = true
		}
		y.tokens = append(y.tokens, t)
	}
	if invalid {
		return nil, nil
	}
	return y.document(), comments
}

// unixLines makes every line break the one that all readers count.
func unixLines(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
}

func positionOf(t *token.Token) Position {
	return Position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// peek returns the next token, nil at the end.
func (y *yamlReader) peek() *token.Token {
	if y.next < len(y.tokens) {
		return y.tokens[y.next]
	}
	return nil
}

// stop reports a mistake and ends the reading.
func (y *yamlReader) stop(t *token.Token, format string, args ...any) {
	y.errorf(positionOf(t), format, args...)
	panic(readStop{})
}

// document reads the one document of a file.
func (y *yamlReader) document() *node {
	if t := y.peek(); t != nil && t.Type == token.DirectiveType {
		y.stop(t, "directives are refused in steering files")
	}
	if t := y.peek(); t != nil && t.Type == token.DocumentHeaderType {
		y.next++
		if after := y.peek(); after != nil && after.Position.Line == t.Position.Line {
			y.stop(after, "the document starts on the line below its mark")
		}
	}
	mark := func(t *token.Token) bool {
		return t.Type == token.DocumentHeaderType || t.Type == token.DocumentEndType
	}
	if end := slices.IndexFunc(y.tokens[y.next:], mark); end >= 0 {
		end += y.next
		for _, t := range y.tokens[end:] {
			if !mark(t) {
				y.stop(t, "a second document; a file holds one dataset")
			}
		}
		y.tokens = y.tokens[:end]
	}
	if y.peek() == nil {
		y.errorf(Position{1, 1}, "the file is empty")
		return nil
	}
	root := y.block(1)
	if t := y.peek(); t != nil {
		y.stop(t, "%q does not belong to what stands before: check indentation and quotes", cut(t.Value, 40))
	}
	return root
}

// newNode starts a node at a token.
func (y *yamlReader) newNode(t *token.Token, kind Kind, depth int) *node {
	if depth > MaxDepth+1 || depth > MaxDepth && (kind == KindMap || kind == KindList) {
		y.stop(t, "nested deeper than %d", MaxDepth)
	}
	n := &node{kind: kind, at: positionOf(t)}
	if !y.count(n.at) {
		panic(readStop{})
	}
	return n
}

// refused reports and skips anchors and tags before a value.
func (y *yamlReader) refused() {
	for t := y.peek(); t != nil; t = y.peek() {
		switch t.Type {
		case token.AnchorType:
			y.errorf(positionOf(t), "anchors, aliases and merges are refused in steering files")
			y.next += 2
		case token.TagType:
			y.errorf(positionOf(t), "tags are refused in steering files")
			y.next++
		default:
			return
		}
	}
}

// block reads the node at the next token, which is on a line of its own or
// behind a dash.
func (y *yamlReader) block(depth int) *node {
	y.refused()
	switch t := y.peek(); {
	case t == nil:
		return &node{kind: KindNull, at: positionOf(y.tokens[len(y.tokens)-1])}
	case t.Type == token.SequenceEntryType:
		return y.sequence(depth)
	case y.atKey():
		return y.mapping(depth)
	}
	return y.inline(depth)
}

// atKey reports whether the next tokens are a key and its colon.
func (y *yamlReader) atKey() bool {
	if y.next+1 >= len(y.tokens) {
		return false
	}
	t, colon := y.tokens[y.next], y.tokens[y.next+1]
	if t.Type == token.StringType && t.Value == "" {
		return false // the content of an empty block text
	}
	return (isScalar(t) || t.Type == token.MergeKeyType) && colon.Type == token.MappingValueType &&
		colon.Position.Line == t.Position.Line
}

// mapping reads a block map; its first key is the next token.
func (y *yamlReader) mapping(depth int) *node {
	column := y.peek().Position.Column
	n := y.newNode(y.peek(), KindMap, depth)
	for {
		key, colon := y.tokens[y.next], y.tokens[y.next+1]
		y.next += 2
		value := y.after(colon, column, depth, true)
		y.member(n, key, value)
		t := y.peek()
		if t == nil || t.Position.Column < column {
			return n
		}
		if t.Position.Column > column || !y.atKey() {
			y.stop(t, "want a key in column %d, not %q: check indentation and quotes", column, cut(t.Value, 40))
		}
	}
}

// member adds a key and its value.
func (y *yamlReader) member(n *node, key *token.Token, value *node) {
	at := positionOf(key)
	if key.Type == token.MergeKeyType {
		y.errorf(at, "anchors, aliases and merges are refused in steering files")
		return
	}
	y.checkText(key.Value, at)
	n.add(key.Value, at, value)
}

// sequence reads a block list; its first dash is the next token.
func (y *yamlReader) sequence(depth int) *node {
	column := y.peek().Position.Column
	n := y.newNode(y.peek(), KindList, depth)
	for {
		dash := y.peek()
		if dash == nil || dash.Type != token.SequenceEntryType || dash.Position.Column != column {
			return n
		}
		y.next++
		n.items = append(n.items, y.after(dash, column, depth, false))
		if t := y.peek(); t != nil && t.Position.Column > column {
			y.stop(t, "want a dash in column %d, not %q: check indentation and quotes", column, cut(t.Value, 40))
		}
	}
}

// after reads what belongs to a colon or a dash in a container at a column.
func (y *yamlReader) after(mark *token.Token, column, depth int, inMap bool) *node {
	y.refused()
	t := y.peek()
	switch {
	case t == nil:
	case t.Position.Line == mark.Position.Line && inMap:
		if t.Type == token.SequenceEntryType || y.atKey() {
			y.stop(t, "a map or list cannot start on the line of its key; a text with a colon needs quotes")
		}
		return y.inline(depth + 1)
	case t.Position.Line == mark.Position.Line, t.Position.Column > column:
		return y.block(depth + 1)
	case inMap && t.Position.Column == column && t.Type == token.SequenceEntryType:
		return y.sequence(depth + 1)
	}
	return y.newNode(mark, KindNull, depth+1)
}

// inline reads a scalar, a block text or a container in brackets.
func (y *yamlReader) inline(depth int) *node {
	t := y.peek()
	y.next++
	var n *node
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		n = y.flow(t, depth)
	case token.LiteralType, token.FoldedType:
		n = y.newNode(t, KindString, depth)
		if content := y.peek(); content != nil && content.Type == token.StringType && !y.atKey() {
			n.text = content.Value
			y.checkText(n.text, n.at)
			y.next++
		}
		return n
	case token.AliasType:
		y.errorf(positionOf(t), "anchors, aliases and merges are refused in steering files")
		y.next++
		return y.newNode(t, KindNull, depth)
	default:
		n = y.scalar(t, depth)
	}
	if colon := y.peek(); colon != nil && colon.Type == token.MappingValueType {
		y.stop(t, "the colon behind this makes it a key, which cannot stand here: check indentation; a text with a colon needs quotes")
	}
	return n
}

// flow reads what stands in brackets; the opening one has been read.
func (y *yamlReader) flow(opening *token.Token, depth int) *node {
	kind, closing := KindList, token.SequenceEndType
	if opening.Type == token.MappingStartType {
		kind, closing = KindMap, token.MappingEndType
	}
	n := y.newNode(opening, kind, depth)
	for {
		y.refused()
		t := y.peek()
		switch {
		case t == nil:
			y.stop(opening, "the %q that starts here is never closed", opening.Value)
		case t.Type == closing:
			y.next++
			return n
		case kind == KindMap:
			y.flowMember(n, depth)
		default:
			n.items = append(n.items, y.inline(depth+1))
		}
		switch t := y.peek(); {
		case t == nil || t.Type == closing:
		case t.Type == token.CollectEntryType:
			y.next++
		default:
			y.stop(t, "want a comma or the end of the %q of line %d, not %q", opening.Value, opening.Position.Line, cut(t.Value, 40))
		}
	}
}

// flowMember reads one entry of a map in braces.
func (y *yamlReader) flowMember(n *node, depth int) {
	key := y.peek()
	if !isScalar(key) && key.Type != token.MergeKeyType {
		y.stop(key, "want a key, not %q", cut(key.Value, 40))
	}
	y.next++
	colon := y.peek()
	if colon == nil || colon.Type != token.MappingValueType {
		y.stop(key, "the key %q has no value", cut(key.Value, 40))
	}
	y.next++
	y.refused()
	value := &node{kind: KindNull, at: positionOf(colon)}
	if t := y.peek(); t != nil && t.Type != token.CollectEntryType && t.Type != token.MappingEndType {
		value = y.inline(depth + 1)
	}
	y.member(n, key, value)
}

func (y *yamlReader) checkText(text string, at Position) {
	if r, bad := unwritable(text); bad {
		y.errorf(at, "control character %U in a text", r)
	}
}

// isScalar reports whether a token is a text or what the library takes for
// something better.
func isScalar(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.SingleQuoteType, token.DoubleQuoteType, token.NullType, token.BoolType,
		token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType,
		token.FloatType, token.InfinityType, token.NanType:
		return true
	}
	return false
}

// scalar gives a scalar its type.
func (y *yamlReader) scalar(t *token.Token, depth int) *node {
	if !isScalar(t) {
		y.stop(t, "want a value, not %q", cut(t.Value, 40))
	}
	n := y.newNode(t, KindString, depth)
	n.text = t.Value
	if t.Type != token.SingleQuoteType && t.Type != token.DoubleQuoteType {
		n.plain, n.raw = true, n.text
		if problem := resolvePlain(n); problem != "" {
			y.errorf(n.at, "%s", problem)
		}
	}
	y.checkText(n.text, n.at)
	return n
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
