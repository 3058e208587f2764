package steering

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// treeText is a tree without positions, for comparing readers.
func treeText(n *node) string {
	switch n.kind {
	case KindList:
		var b strings.Builder
		for _, item := range n.items {
			b.WriteString(treeText(item) + ", ")
		}
		return "[" + b.String() + "]"
	case KindMap:
		var b strings.Builder
		for _, m := range n.members {
			b.WriteString(string(appendQuoted(nil, m.key)) + ": " + treeText(m.value) + ", ")
		}
		return "{" + b.String() + "}"
	}
	return n.kind.String() + string(appendQuoted(nil, n.text))
}

// libraryTree reads text with the library's own parser.
func libraryTree(text []byte) (tree *node, err error) {
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, document := range file.Docs {
		if document.Body != nil {
			return libraryNode(document.Body), nil
		}
	}
	return nil, nil
}

func libraryNode(source ast.Node) *node {
	n := &node{kind: KindNull}
	switch source := source.(type) {
	case *ast.MappingNode:
		n.kind = KindMap
		for _, value := range source.Values {
			n.add(value.Key.GetToken().Value, Position{}, libraryNode(value.Value))
		}
	case *ast.MappingValueNode:
		n.kind = KindMap
		n.add(source.Key.GetToken().Value, Position{}, libraryNode(source.Value))
	case *ast.SequenceNode:
		n.kind = KindList
		for _, value := range source.Values {
			n.items = append(n.items, libraryNode(value))
		}
	case *ast.LiteralNode:
		n.kind, n.text = KindString, source.Value.Value
	case ast.ScalarNode:
		t := source.GetToken()
		n.kind, n.text = KindString, t.Value
		switch t.Type {
		case token.SingleQuoteType, token.DoubleQuoteType:
		case token.ImplicitNullType:
			n.kind, n.text = KindNull, ""
		default:
			resolvePlain(n)
		}
	}
	return n
}

// What the reader accepts, the library's parser reads the same way.
func sameAsLibrary(t *testing.T, source []byte) {
	source = unixLines(source)
	r := &report{source: NewSource("x", source), spelling: YAML}
	tree, _ := readYAML(r, source)
	if tree == nil || r.problems.HasErrors() {
		return
	}
	want, err := libraryTree(source)
	if err != nil {
		t.Fatalf("the library refuses what readYAML accepts: %v\n%s", err, source)
	}
	if diff := cmp.Diff(treeText(want), treeText(tree)); diff != "" {
		t.Errorf("readYAML(%q) (-library +got):\n%s", source, diff)
	}
}

var yamlTexts = []string{
	"a: 1", "a:\nb: 2", "a:\n- x\n- y\nb: z", "- - a\n  - b\n-\n  c: d\n- - - e", "a: |\nb: c", "a: |", "a: >\n\n\nb: |+\n  x\n\n",
	"a: {b: , c: 1, \"d\":1}", "a: [b, [c], {d: e},]", "---\na: b\n...\n", "a:\n  b:\n    c:\n  d: e\nf: g", "- a: 1\n  b: 2\n- c: 3\n",
	"'a': 'it''s'\n\"b\" : \"\\u00e9\\n\"", "a: b\n  c", "a: \"b\n  c\"", "a: [b,\n c]", "# c\na: b # d\n# e\n", "- |\n  x\n- y", "a:\n  |\n  x\n",
	"a:\n    - b:\n        c\n      d: e", "1: 2\ntrue: 3\nnull: 4", "plain text", "- 1\n- 0x1f\n- 1e5\n- ~\n-", "a: b: c", "a: - b", "a: [b: c]",
	"a: [b", "a: 1\n b: 2", "a:\n  b: 1\n c: 2", "- a\nb", "{a: b}: c", "? a\n: b", "a: \"b\" c", "<<: {a: b}", "--- a\n--- b", "a: !t b", "a: &x b", "a: *x",
}

func TestReadYAML(t *testing.T) {
	for _, text := range yamlTexts {
		sameAsLibrary(t, []byte(text))
	}
	for text, want := range map[string]string{
		"a: b: c":         "a text with a colon needs quotes",
		"a: - b":          "cannot start on the line of its key",
		"a: [b: c]":       "the colon behind this makes it a key",
		"a: [b":           `"[" that starts here is never closed`,
		"a: 1\n b: 2":     "check indentation",
		"# c\n{a: b}: c":  "the colon behind this makes it a key",
		"? a\n: b":        "want a value",
		"---\na\n---\nb":  "second document",
		"--- a":           "on the line below",
		"%YAML 1.2\n---a": "directives are refused",
		"a: @x\nb: `y":    "reserved character",
	} {
		_, problems := Parse("x.yaml", []byte(text))
		if !strings.Contains(problems.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, problems, want)
		}
	}
}

func FuzzYAMLLikeLibrary(f *testing.F) {
	seed(f, YAML)
	for _, text := range yamlTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(sameAsLibrary)
}
