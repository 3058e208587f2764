package steering

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads JSON into a tree. It is not encoding/json because that
// drops positions, the order and repetition of keys, and the digits of
// numbers. Slips that people make (a comma too many or too few, NaN) are
// reported and stepped over; anything else ends the reading.
type jsonReader struct {
	*report
	text   []byte
	offset int
	cursor *cursor
}

// readStop unwinds a reader after a mistake it cannot step over.
type readStop struct{}

// readJSON returns nil if the text could not be understood.
func readJSON(r *report, text []byte) (root *node) {
	j := &jsonReader{report: r, text: text, cursor: newCursor(text)}
	defer func() {
		if stopped := recover(); stopped != nil {
			if _, ok := stopped.(readStop); !ok {
				panic(stopped)
			}
			root = nil
		}
	}()
	root = j.value(1)
	if j.peek() != 0 || j.offset < len(j.text) {
		j.stop("text after the end of the document")
	}
	return root
}

// here returns the position of the next byte.
func (j *jsonReader) here() Position { return j.cursor.move(j.offset) }

// stop reports a mistake at the next byte and ends the reading.
func (j *jsonReader) stop(format string, args ...any) {
	j.errorf(j.here(), format, args...)
	panic(readStop{})
}

// peek skips blanks and returns the next byte, 0 at the end.
func (j *jsonReader) peek() byte {
	for j.offset < len(j.text) {
		switch c := j.text[j.offset]; c {
		case ' ', '\t', '\r', '\n':
			j.offset++
		case '/', '#':
			if c == '#' || j.offset+1 < len(j.text) && j.text[j.offset+1] == '/' {
				j.errorf(j.here(), "JSON has no comments; YAML and XML do")
				for j.offset < len(j.text) && j.text[j.offset] != '\n' {
					j.offset++
				}
				continue
			}
			return c
		default:
			return c
		}
	}
	return 0
}

// value reads one value of any kind.
func (j *jsonReader) value(depth int) *node {
	c := j.peek()
	n := &node{at: j.here()}
	if !j.count(n.at) {
		panic(readStop{})
	}
	switch {
	case c == '{' || c == '[':
		if depth > MaxDepth {
			j.stop("nested deeper than %d", MaxDepth)
		}
		j.offset++
		if c == '{' {
			n.kind = KindMap
			j.members(n, '}', func() { j.member(n, depth) })
		} else {
			n.kind = KindList
			j.members(n, ']', func() { n.items = append(n.items, j.value(depth+1)) })
		}
	case c == '"':
		n.kind, n.text = KindString, j.quoted()
	case c == 0 && j.offset >= len(j.text):
		j.stop("the file ends where a value should be")
	default:
		j.bare(n)
	}
	return n
}

// members reads what stands between brackets.
func (j *jsonReader) members(n *node, closing byte, read func()) {
	opener := "{"
	if closing == ']' {
		opener = "["
	}
	if j.peek() == closing {
		j.offset++
		return
	}
	for {
		read()
		switch c := j.peek(); {
		case c == closing:
			j.offset++
			return
		case c == ',':
			comma := j.here()
			j.offset++
			if j.peek() == closing {
				j.errorf(comma, "a comma after the last entry")
				j.offset++
				return
			}
		case j.offset >= len(j.text):
			j.stop("the file ends inside the %q of line %d", opener, n.at.Line)
		case c == '"' || closing == ']' && c == '{':
			j.errorf(j.here(), "a comma is missing before this")
		default:
			j.stop("want a comma or %q, not %q", string(rune(closing)), j.rune())
		}
	}
}

// rune returns the character at the offset, for messages.
func (j *jsonReader) rune() string {
	r, _ := utf8.DecodeRune(j.text[j.offset:])
	return string(r)
}

// member reads one name and value.
func (j *jsonReader) member(n *node, depth int) {
	if j.peek() != '"' {
		if j.offset >= len(j.text) {
			j.stop("the file ends inside the \"{\" of line %d", n.at.Line)
		}
		j.stop("want a key in double quotes, not %q", j.rune())
	}
	at := j.here()
	key := j.quoted()
	if j.peek() != ':' {
		j.stop("want a colon after the key %q", cut(key, 60))
	}
	j.offset++
	n.add(key, at, j.value(depth+1))
}

// bare reads a number or a word.
func (j *jsonReader) bare(n *node) {
	start := j.offset
	for j.offset < len(j.text) && !strings.ContainsRune(" \t\r\n,:]}[{\"", rune(j.text[j.offset])) {
		j.offset++
	}
	n.text = string(j.text[start:j.offset])
	switch {
	case n.text == "null":
		n.kind, n.text = KindNull, ""
	case n.text == "true" || n.text == "false":
		n.kind = KindBool
	case isInt(n.text):
		n.kind = KindInt
	case isDouble(n.text):
		n.kind = KindDouble
	case n.text == "":
		j.stop("want a value, not %q", j.rune())
	default:
		n.kind = KindString
		suggestion := nearest(n.text, []string{"true", "false", "null"})
		if suggestion == "" && n.text != "" && !strings.ContainsAny(n.text[:1], "+-.0123456789") {
			suggestion = strconv.Quote(cut(n.text, 40))
		}
		j.add(n.at, SeverityError, suggestion, fmt.Sprintf("%q is no JSON value; text stands in double quotes", cut(n.text, 40)))
	}
}

// quoted reads a string; the next byte is its quote.
func (j *jsonReader) quoted() string {
	begin := j.here()
	j.offset++
	var b strings.Builder
	for {
		if j.offset >= len(j.text) || j.text[j.offset] == '\n' {
			j.errorf(begin, "the text that starts here has no closing quote on its line")
			panic(readStop{})
		}
		r, size := utf8.DecodeRune(j.text[j.offset:])
		switch {
		case r == '"':
			j.offset++
			return b.String()
		case r == '\\':
			j.escape(&b)
			continue
		case r < 0x20 || r == 0xfffe || r == 0xffff:
			j.errorf(j.here(), "control character %U in a text", r)
		default:
			b.WriteRune(r)
		}
		j.offset += size
	}
}

// escape reads one backslash escape.
func (j *jsonReader) escape(b *strings.Builder) {
	at := j.here()
	j.offset++
	if j.offset >= len(j.text) {
		j.stop("the file ends inside a text")
	}
	c := j.text[j.offset]
	j.offset++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		r := rune("\"\\/\b\f\n\r\t"[i])
		if _, bad := unwritable(string(r)); bad {
			j.errorf(at, "control character %U in a text", r)
			return
		}
		b.WriteRune(r)
		return
	}
	if c != 'u' {
		j.errorf(at, `no such escape: \%c`, c)
		return
	}
	r := j.hex()
	if utf16.IsSurrogate(r) {
		low := rune(-1)
		if j.offset+1 < len(j.text) && j.text[j.offset] == '\\' && j.text[j.offset+1] == 'u' {
			j.offset += 2
			low = j.hex()
		}
		r = utf16.DecodeRune(r, low)
		if r == utf8.RuneError {
			j.errorf(at, "half of a surrogate pair")
			return
		}
	}
	if _, bad := unwritable(string(r)); bad {
		j.errorf(at, "control character %U in a text", r)
		return
	}
	b.WriteRune(r)
}

// hex reads the four digits of a \u escape.
func (j *jsonReader) hex() rune {
	end := min(j.offset+4, len(j.text))
	digits := string(j.text[j.offset:end])
	value, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || len(digits) < 4 {
		j.stop(`want four hexadecimal digits after \u`)
	}
	j.offset = end
	return rune(value)
}
