package steering

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Parse reads a document of any spelling; name is what problems call the
// file. All problems of form come at once, and where the form is right those
// of Check too. If the problems have errors the Document, which is never nil,
// is only what could be understood.
func Parse(name string, source []byte) (*Document, Problems) {
	r := &report{source: NewSource(name, source), spelling: Detect(source)}
	text, ok := prepare(r, source)
	if !ok {
		return &Document{}, r.finish()
	}
	var root *node
	switch r.spelling {
	case XML:
		root = readXML(r, text)
	case JSON:
		root = readJSON(r, text)
	default:
		root, _ = readYAML(r, text)
	}
	if root == nil {
		return &Document{}, r.finish()
	}
	doc := decoder{r}.document(root)
	if count := countNodes(encode(&configurationElement, reflect.ValueOf(doc).Elem(), JSON)); count > MaxNodes {
		r.errorf(Position{1, 1}, "%d elements and values, more than %d", count, MaxNodes)
		return doc, r.finish()
	}
	checker{r, doc}.check()
	return doc, r.finish()
}

// countNodes counts a tree's nodes.
func countNodes(n *node) int {
	count := 1
	for _, item := range n.items {
		count += countNodes(item)
	}
	for _, m := range n.members {
		count += countNodes(m.value)
	}
	return count
}

// prepare checks what all spellings share and returns the text as UTF-8
// without a byte order mark.
func prepare(r *report, source []byte) ([]byte, bool) {
	if len(source) > MaxBytes {
		r.errorf(Position{}, "the file has %d bytes, more than %d MiB", len(source), MaxBytes>>20)
		return nil, false
	}
	text := bytes.TrimPrefix(source, byteOrderMark)
	if r.spelling == XML {
		var ok bool
		if text, ok = decodeCharset(r, text); !ok {
			return nil, false
		}
	}
	if !utf8.Valid(text) {
		valid := 0
		for valid < len(text) {
			c, size := utf8.DecodeRune(text[valid:])
			if c == utf8.RuneError && size == 1 {
				break
			}
			valid += size
		}
		r.errorf(newCursor(text).move(valid), "byte 0x%02x is not UTF-8", text[valid])
		return nil, false
	}
	return text, true
}

// decodeCharset turns the Latin-1 of old XML files into UTF-8.
func decodeCharset(r *report, text []byte) ([]byte, bool) {
	match := xmlEncoding.FindSubmatch(text[:min(len(text), 200)])
	if match == nil {
		return text, true
	}
	switch strings.ToLower(string(match[1])) {
	case "utf-8", "us-ascii":
		return text, true
	case "iso-8859-1", "latin1", "latin-1":
		wide := make([]byte, 0, len(text)+len(text)/8)
		for _, c := range text {
			wide = utf8.AppendRune(wide, rune(c))
		}
		// Excerpts must show the characters, not the bytes.
		r.source = NewSource(r.source.name, wide)
		return wide, true
	}
	r.errorf(Position{1, 1}, "encoding %q is not known; write UTF-8", cut(string(match[1]), 40))
	return nil, false
}

// Write writes d in a spelling. Documents that Parse accepted can always be
// written; one made by hand may hold what no file can, which is an error.
func Write(w io.Writer, d *Document, spelling Spelling) error {
	tree := encode(&configurationElement, reflect.ValueOf(d).Elem(), spelling)
	if err := writable(tree); err != nil {
		return fmt.Errorf("write steering as %s: %w", spelling, err)
	}
	var text []byte
	switch spelling {
	case XML:
		text = printXML(xmlOf(tree))
	case JSON:
		text = printJSON(tree)
	case YAML:
		text = printYAML(tree, nil)
	default:
		return fmt.Errorf("write steering: no spelling %d", spelling)
	}
	_, err := w.Write(text)
	return err
}

// writable reports texts that no spelling could give back.
func writable(n *node) error {
	if r, bad := unwritable(n.text); bad || !utf8.ValidString(n.text) {
		return fmt.Errorf("a text has the character %U, which XML cannot hold", r)
	}
	for _, item := range n.items {
		if err := writable(item); err != nil {
			return err
		}
	}
	for _, m := range n.members {
		if err := writable(textNode(m.key)); err != nil {
			return err
		}
		if err := writable(m.value); err != nil {
			return fmt.Errorf("%s: %w", m.key, err)
		}
	}
	return nil
}

// Format lays a file out anew in its own spelling: two blanks of indent, one
// way to quote. Comments, order and the words chosen stay, and so does the
// meaning; formatting twice changes nothing. It needs a file that can be read,
// not one without problems.
func Format(name string, source []byte) ([]byte, Problems) {
	r := &report{source: NewSource(name, source), spelling: Detect(source)}
	text, ok := prepare(r, source)
	if !ok {
		return nil, r.finish()
	}
	switch r.spelling {
	case XML:
		document := scanXML(r, text)
		if problems := r.finish(); problems.HasErrors() {
			return nil, problems
		}
		return printXML(document), nil
	case JSON:
		root := readJSON(r, text)
		if problems := r.finish(); problems.HasErrors() {
			return nil, problems
		}
		return printJSON(root), nil
	}
	root, comments := readYAML(r, text)
	if problems := r.finish(); problems.HasErrors() {
		return nil, problems
	}
	foot := attachComments(root, comments, text)
	return printYAML(root, foot), nil
}
