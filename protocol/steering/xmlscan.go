package steering

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// xmlKind tells the nodes of an XML tree apart.
type xmlKind uint8

const (
	xmlElement xmlKind = iota + 1
	xmlText
	xmlComment
	xmlInstruction
	xmlDoctype
)

// xmlNode is a node of an XML tree that keeps comments, order and layout hints.
type xmlNode struct {
	kind  xmlKind
	name  string
	at    Position
	attrs []xmlAttr
	// text is the decoded text, or the inside of a comment, an instruction or
	// a DOCTYPE.
	text string
	// raw is a text as it stood in the source, so that fmt keeps CDATA.
	raw      string
	children []*xmlNode
}

// xmlAttr is one attribute.
type xmlAttr struct {
	name, value string
	at, valueAt Position
}

// attr returns the attribute called name, nil if there is none.
func (n *xmlNode) attr(name string) *xmlAttr {
	for i := range n.attrs {
		if n.attrs[i].name == name {
			return &n.attrs[i]
		}
	}
	return nil
}

// xmlScanner reads XML into a tree. It is not encoding/xml because that
// accepts repeated attributes, text behind the root and any nesting, and
// keeps neither columns nor the order of comments. It refuses what steering
// files have no use for: internal DTD subsets and entities of one's own.
type xmlScanner struct {
	*report
	text   []byte
	offset int
	cursor *cursor
	stack  []*xmlNode
	failed bool
}

// scanXML returns the document's nodes under a nameless root, nil if the text
// could not be understood.
func scanXML(r *report, text []byte) *xmlNode {
	text = unixLines(text)
	s := &xmlScanner{report: r, text: text, cursor: newCursor(text)}
	document := &xmlNode{kind: xmlElement}
	s.stack = []*xmlNode{document}
	for s.offset < len(s.text) && !s.failed {
		s.next()
	}
	if s.failed {
		return nil
	}
	for _, open := range s.stack[1:] {
		s.errorf(open.at, "<%s> is never closed", open.name)
	}
	if document.root() == nil {
		s.errorf(s.here(), "the file has no <%s>", configurationElement.xml)
		return nil
	}
	return document
}

// root returns the document's element.
func (n *xmlNode) root() *xmlNode {
	for _, child := range n.children {
		if child.kind == xmlElement {
			return child
		}
	}
	return nil
}

func (s *xmlScanner) here() Position { return s.cursor.move(s.offset) }

// fail reports a mistake that ends the reading.
func (s *xmlScanner) fail(at Position, format string, args ...any) {
	s.errorf(at, format, args...)
	s.failed = true
}

func (s *xmlScanner) ahead(prefix string) bool {
	return bytes.HasPrefix(s.text[s.offset:], []byte(prefix))
}

// until returns the text up to a terminator and steps behind it.
func (s *xmlScanner) until(terminator, what string) string {
	at := s.here()
	end := bytes.Index(s.text[s.offset:], []byte(terminator))
	if end < 0 {
		s.fail(at, "the %s that starts here never ends", what)
		return ""
	}
	text := string(s.text[s.offset : s.offset+end])
	s.offset += end + len(terminator)
	return text
}

// add appends a node to the innermost open element.
func (s *xmlScanner) add(n *xmlNode) *xmlNode {
	if !s.withinBudget(n.at) {
		return n
	}
	parent := s.stack[len(s.stack)-1]
	parent.children = append(parent.children, n)
	return n
}

// withinBudget charges a node.
func (s *xmlScanner) withinBudget(at Position) bool {
	if s.count(at) {
		return true
	}
	s.failed = true
	return false
}

// next reads one piece of markup or text.
func (s *xmlScanner) next() {
	at := s.here()
	switch {
	case s.ahead("<!--"):
		s.offset += len("<!--")
		text := s.until("-->", "comment")
		if strings.Contains(text, "--") || strings.HasSuffix(text, "-") {
			s.errorf(at, `"--" inside a comment`)
		}
		s.checkCharacters(text, at)
		s.add(&xmlNode{kind: xmlComment, at: at, text: text})
	case s.ahead("<![CDATA["):
		start := s.offset
		s.offset += len("<![CDATA[")
		text := s.until("]]>", "CDATA section")
		s.checkCharacters(text, at)
		s.addText(at, text, string(s.text[start:s.offset]))
	case s.ahead("<?"):
		s.instruction(at)
	case s.ahead("<!DOCTYPE"):
		s.doctype(at)
	case s.ahead("<!"):
		s.fail(at, "markup that steering files do not know")
	case s.ahead("</"):
		s.endTag(at)
	case s.ahead("<"):
		s.startTag(at)
	default:
		s.plainText(at)
	}
}

// plainText reads text up to the next markup.
func (s *xmlScanner) plainText(at Position) {
	end := bytes.IndexByte(s.text[s.offset:], '<')
	if end < 0 {
		end = len(s.text) - s.offset
	}
	raw := string(s.text[s.offset : s.offset+end])
	if strings.Contains(raw, "]]>") {
		s.errorf(at, `"]]>" in a text; write "]]&gt;"`)
	}
	text := s.decode(raw, s.offset)
	s.offset += end
	if len(s.stack) == 1 && strings.TrimSpace(raw) != "" {
		s.errorf(firstWord(raw, at), "text outside <%s>", configurationElement.xml)
	}
	s.addText(at, text, raw)
}

// addText appends text. Text, CDATA and text again are three nodes.
func (s *xmlScanner) addText(at Position, text, raw string) {
	if len(s.stack) == 1 && raw != "" && strings.HasPrefix(raw, "<!") {
		s.errorf(at, "text outside <%s>", configurationElement.xml)
	}
	s.add(&xmlNode{kind: xmlText, at: at, text: text, raw: raw})
}

// firstWord returns where the first character that is no blank stands in text
// that begins at a position.
func firstWord(text string, at Position) Position {
	for _, r := range text {
		switch {
		case r == '\n':
			at.Line++
			at.Column = 1
		case r == ' ' || r == '\t':
			at.Column++
		default:
			return at
		}
	}
	return at
}

// instruction reads <?…?>; the XML declaration is one.
func (s *xmlScanner) instruction(at Position) {
	first := s.offset == 0
	s.offset += len("<?")
	text := s.until("?>", "instruction")
	target, _, _ := strings.Cut(strings.ReplaceAll(text, "\n", " "), " ")
	switch {
	case s.failed:
	case strings.EqualFold(target, "xml") && (!first || target != "xml"):
		s.errorf(at, "an XML declaration can only be the first thing in the file")
	case target == "xml":
		if !xmlDeclaration.MatchString(text) {
			s.errorf(at, "malformed XML declaration")
		}
	case !validName(target):
		s.errorf(at, "an instruction needs a name")
	default:
		s.checkCharacters(text, at)
		s.add(&xmlNode{kind: xmlInstruction, at: at, text: text})
	}
}

var (
	xmlDeclaration = regexp.MustCompile(`^xml\s+version\s*=\s*("1\.0"|'1\.0')(\s+encoding\s*=\s*("[A-Za-z][\w.-]*"|'[A-Za-z][\w.-]*'))?(\s+standalone\s*=\s*("(yes|no)"|'(yes|no)'))?\s*$`)
	xmlEncoding    = regexp.MustCompile(`^<\?xml[^>]*?\sencoding\s*=\s*["']([^"']*)["']`)
	externalDTD    = regexp.MustCompile(`^\s+[A-Za-z_][\w.-]*(\s+SYSTEM\s+("[^"]*"|'[^']*')|\s+PUBLIC\s+("[^"&<]*"|'[^'&<]*')\s+("[^"]*"|'[^']*'))?\s*$`)
)

// doctype reads a DOCTYPE. An external one is kept and ignored: the DTD is
// never fetched.
func (s *xmlScanner) doctype(at Position) {
	s.offset += len("<!DOCTYPE")
	text := s.until(">", "DOCTYPE")
	switch {
	case s.failed:
	case strings.Contains(text, "["):
		s.fail(at, "a DOCTYPE with declarations of its own is refused; one that names an external DTD is ignored")
	case !externalDTD.MatchString(text):
		s.errorf(at, "malformed DOCTYPE")
	case len(s.stack) > 1 || s.stack[0].root() != nil:
		s.errorf(at, "a DOCTYPE must stand before <%s>", configurationElement.xml)
	case slicesAny(s.stack[0].children, func(n *xmlNode) bool { return n.kind == xmlDoctype }):
		s.errorf(at, "a second DOCTYPE")
	default:
		s.add(&xmlNode{kind: xmlDoctype, at: at, text: text})
	}
}

func slicesAny(nodes []*xmlNode, is func(*xmlNode) bool) bool {
	for _, n := range nodes {
		if is(n) {
			return true
		}
	}
	return false
}

// startTag reads <name attribute="…"> or <name/>.
func (s *xmlScanner) startTag(at Position) {
	s.offset++
	n := &xmlNode{kind: xmlElement, at: at, name: s.name()}
	if n.name == "" {
		s.fail(at, `a "<" that starts nothing; in a text write "&lt;"`)
		return
	}
	if len(s.stack) == 1 && s.stack[0].root() != nil {
		s.fail(at, "a second <%s>; a file has one <%s>", cut(n.name, 60), configurationElement.xml)
		return
	}
	s.add(n)
	for !s.failed {
		blank := s.blanks()
		switch {
		case s.offset >= len(s.text):
			s.fail(at, "the tag <%s that starts here never ends", cut(n.name, 60))
		case s.ahead("/>"):
			s.offset += 2
			return
		case s.ahead(">"):
			s.offset++
			if len(s.stack) > MaxDepth {
				s.fail(at, "nested deeper than %d", MaxDepth)
				return
			}
			s.stack = append(s.stack, n)
			return
		case s.ahead("<"):
			s.fail(at, "the tag <%s that starts here is not closed before the next one", cut(n.name, 60))
		default:
			if !blank {
				s.errorf(s.here(), "a blank is missing before the attribute")
			}
			s.attribute(n)
		}
	}
}

// blanks skips blanks and reports whether there were any.
func (s *xmlScanner) blanks() bool {
	start := s.offset
	for s.offset < len(s.text) && strings.IndexByte(" \t\n", s.text[s.offset]) >= 0 {
		s.offset++
	}
	return s.offset > start
}

// name reads a name, "" if there is none.
func (s *xmlScanner) name() string {
	start := s.offset
	for s.offset < len(s.text) {
		r, size := utf8.DecodeRune(s.text[s.offset:])
		if !nameCharacter(r, s.offset == start) {
			break
		}
		s.offset += size
	}
	return string(s.text[start:s.offset])
}

// nameCharacter is XML's rule, a little stricter outside ASCII: letters and
// digits only.
func nameCharacter(r rune, first bool) bool {
	switch {
	case r == '_' || r == ':' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z':
		return true
	case r == '-' || r == '.' || '0' <= r && r <= '9':
		return !first
	}
	return r >= 0xc0 && r != 0xd7 && r != 0xf7 && r < 0x2000 && unicode.IsLetter(r)
}

func validName(text string) bool {
	for i, r := range text {
		if !nameCharacter(r, i == 0) {
			return false
		}
	}
	return text != ""
}

// maxAttributes bounds the attributes of one element; the table's widest has
// ten, and looking for repeated ones compares each with each.
const maxAttributes = 64

// attribute reads name="value".
func (s *xmlScanner) attribute(n *xmlNode) {
	a := xmlAttr{at: s.here(), name: s.name()}
	if a.name == "" {
		r, _ := utf8.DecodeRune(s.text[s.offset:])
		s.fail(a.at, "want an attribute in <%s>, not %q", cut(n.name, 60), string(r))
		return
	}
	s.blanks()
	if !s.ahead("=") {
		s.errorf(a.at, "attribute %q has no value", cut(a.name, 60))
		return
	}
	s.offset++
	s.blanks()
	a.valueAt = s.here()
	if !s.ahead(`"`) && !s.ahead(`'`) {
		s.errorf(a.valueAt, "the value of attribute %q must stand in quotes", cut(a.name, 60))
		for s.offset < len(s.text) && strings.IndexByte(" \t\n>", s.text[s.offset]) < 0 {
			s.offset++
		}
		return
	}
	quote := string(s.text[s.offset])
	s.offset++
	a.valueAt = s.here()
	start := s.offset
	raw := s.until(quote, "value")
	if s.failed || !s.withinBudget(a.at) {
		return
	}
	if i := strings.IndexByte(raw, '<'); i >= 0 {
		// Almost always a quote is missing and the next tags were swallowed.
		s.errorf(a.valueAt, `"<" in the value of attribute %q: a quote is missing, or write "&lt;"`, cut(a.name, 60))
	}
	// XML reads a line break or tab inside a value as a blank.
	a.value = s.decode(strings.NewReplacer("\n", " ", "\t", " ").Replace(raw), start)
	if len(n.attrs) == maxAttributes {
		s.fail(a.at, "more than %d attributes in <%s>", maxAttributes, cut(n.name, 60))
		return
	}
	if n.attr(a.name) != nil {
		s.errorf(a.at, "attribute %q is given twice in <%s>", cut(a.name, 60), cut(n.name, 60))
		return
	}
	n.attrs = append(n.attrs, a)
}

// endTag closes an element. One that fits an outer element closes the inner
// ones too, so that one missing end is one problem.
func (s *xmlScanner) endTag(at Position) {
	s.offset += 2
	name := s.name()
	s.blanks()
	if !s.ahead(">") {
		s.fail(at, "malformed end tag </%s", cut(name, 60))
		return
	}
	s.offset++
	if len(s.stack) == 1 {
		s.errorf(at, "</%s> closes nothing", cut(name, 60))
		return
	}
	open := s.stack[len(s.stack)-1]
	if open.name == name {
		s.stack = s.stack[:len(s.stack)-1]
		return
	}
	s.add(&xmlNode{kind: xmlText, at: at})
	s.report.add(at, SeverityError, strconv.Quote("</"+cut(open.name, 60)+">"),
		"</"+cut(name, 60)+"> does not close the <"+cut(open.name, 60)+"> of line "+strconv.Itoa(open.at.Line))
	for i := len(s.stack) - 2; i > 0; i-- {
		if s.stack[i].name == name {
			s.stack = s.stack[:i]
			return
		}
	}
	if nearest(name, []string{open.name}) != "" {
		s.stack = s.stack[:len(s.stack)-1]
	}
}

// decode replaces character references in raw, which starts at offset.
func (s *xmlScanner) decode(raw string, offset int) string {
	s.checkCharacters(raw, Position{})
	if !strings.Contains(raw, "&") {
		return raw
	}
	var b strings.Builder
	ahead := *s.cursor
	for {
		i := strings.IndexByte(raw, '&')
		if i < 0 {
			b.WriteString(raw)
			return b.String()
		}
		b.WriteString(raw[:i])
		offset += i
		raw = raw[i:]
		end := strings.IndexByte(raw[:min(len(raw), 40)], ';')
		if end < 0 {
			s.errorf(ahead.move(offset), `a "&" that starts no character reference; write "&amp;"`)
			b.WriteByte('&')
			raw, offset = raw[1:], offset+1
			continue
		}
		r, ok := reference(raw[1:end])
		if !ok {
			s.errorf(ahead.move(offset), "reference %s is refused: only &lt; &gt; &amp; &quot; &apos; and characters by number are known", cut(raw[:end+1], 40))
		} else {
			b.WriteRune(r)
		}
		raw, offset = raw[end+1:], offset+end+1
	}
}

// reference resolves the inside of &…;.
func reference(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, base := strings.CutPrefix(name, "#x")
	number, err := strconv.ParseUint(digits, 16, 32)
	if !base {
		digits, base = strings.CutPrefix(name, "#")
		number, err = strconv.ParseUint(digits, 10, 32)
	}
	r := rune(number)
	if !base || err != nil || !utf8.ValidRune(r) || number > utf8.MaxRune {
		return 0, false
	}
	_, bad := unwritable(string(r))
	return r, !bad
}

// checkCharacters reports a character XML does not have.
func (s *xmlScanner) checkCharacters(text string, at Position) {
	if r, bad := unwritable(text); bad {
		if at == (Position{}) {
			at = s.here()
		}
		s.errorf(at, "control character %U in what starts here", r)
	}
}
