package steering

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// printYAML returns n as block-style YAML, with the comments its nodes carry.
// foot is what stands after the last entry.
func printYAML(n *node, foot []string) []byte {
	var b bytes.Buffer
	p := yamlPrinter{&b}
	for _, line := range n.head {
		p.comment(line, 0)
	}
	switch {
	case n.kind == KindMap && len(n.members) > 0:
		p.members(n, 0, false)
	case n.kind == KindList && len(n.items) > 0:
		p.items(n, 0)
	default:
		b.WriteString(yamlScalar(n) + "\n")
	}
	for _, line := range foot {
		p.comment(line, 0)
	}
	return b.Bytes()
}

type yamlPrinter struct{ *bytes.Buffer }

// comment writes a comment line; an empty one is a blank line.
func (p yamlPrinter) comment(line string, level int) {
	if line != "" {
		p.WriteString(strings.Repeat("  ", level) + line)
	}
	p.WriteByte('\n')
}

// members writes a map; the caller has written the first line's indent if
// inline.
func (p yamlPrinter) members(n *node, level int, inline bool) {
	for i, m := range n.members {
		for _, line := range m.head {
			p.comment(line, level)
		}
		if i > 0 || !inline || len(m.head) > 0 {
			p.WriteString(strings.Repeat("  ", level))
		}
		p.WriteString(yamlText(m.key) + ":")
		p.value(m.value, level, m.tail)
	}
}

// items writes a list; nested lists start on the line of their dash.
func (p yamlPrinter) items(n *node, level int) {
	for _, item := range n.items {
		for _, line := range item.head {
			p.comment(line, level)
		}
		p.WriteString(strings.Repeat("  ", level) + "-")
		if item.kind == KindMap && len(item.members) > 0 && item.tail == "" && len(item.members[0].head) == 0 {
			p.WriteByte(' ')
			p.members(item, level+1, true)
			continue
		}
		p.value(item, level, item.tail)
	}
}

// value writes what follows a key or a dash, down to its line's end.
func (p yamlPrinter) value(n *node, level int, tail string) {
	if tail != "" {
		tail = " " + tail
	}
	block := n.kind == KindMap && len(n.members) > 0 || n.kind == KindList && len(n.items) > 0
	if !block {
		text := yamlScalar(n)
		if literal, ok := yamlLiteral(n, level); ok {
			header, body, _ := strings.Cut(literal, "\n")
			p.WriteString(" " + header + tail + "\n" + body)
			return
		}
		p.WriteString(" " + text + tail + "\n")
		return
	}
	if line, ok := yamlFlow(n, level); ok {
		p.WriteString(" " + line + tail + "\n")
		return
	}
	p.WriteString(tail + "\n")
	if n.kind == KindMap {
		p.members(n, level+1, false)
	} else {
		p.items(n, level+1)
	}
}

// yamlScalar writes a scalar or an empty container. What a file had without
// quotes keeps its look: 0x1f stays hexadecimal, a flag's yes stays bare.
func yamlScalar(n *node) string {
	if n.plain && (n.kind != KindString || oldBoolean(n.text)) {
		return n.raw
	}
	switch n.kind {
	case KindString:
		return yamlText(n.text)
	case KindList:
		return "[]"
	case KindMap:
		return "{}"
	case KindNull, KindAbsent:
		return "null"
	}
	return n.text
}

// plainYAML is the texts that may stand without quotes: fewer than YAML
// allows, so that no reader of any YAML version takes one for something else.
var plainYAML = regexp.MustCompile(`^[A-Za-z_/$(]([A-Za-z0-9_/$().+=~^%;*@-]|:[A-Za-z0-9_/$(:]| [A-Za-z0-9_/$(])*$`)

// yamlText writes a text, in double quotes where it could be misread.
func yamlText(text string) string {
	guess := &node{kind: KindString, text: text}
	if plainYAML.MatchString(text) && !strings.HasSuffix(text, ":") && !oldBoolean(text) {
		if resolvePlain(guess); guess.kind == KindString {
			return text
		}
	}
	return string(appendQuoted(nil, text))
}

// yamlFlow writes a short list of scalars on one line.
func yamlFlow(n *node, level int) (string, bool) {
	if n.kind != KindList || slices.ContainsFunc(n.items, func(item *node) bool {
		return item.container() || len(item.head) > 0 || item.tail != ""
	}) {
		return "", false
	}
	var texts []string
	for _, item := range n.items {
		texts = append(texts, yamlScalar(item))
	}
	line := "[" + strings.Join(texts, ", ") + "]"
	return line, len(line)+2*level <= jsonLine
}

// yamlLiteral writes a text of several lines as a block, if every reader will
// give it back unchanged.
func yamlLiteral(n *node, level int) (string, bool) {
	body := strings.TrimSuffix(n.text, "\n")
	if n.kind != KindString || !strings.Contains(body, "\n") || strings.ContainsAny(n.text, "\t\r\u0085\u2028\u2029\ufeff\u00a0\u007f") {
		return "", false
	}
	header := "|"
	if body == n.text {
		header = "|-"
	}
	indent := strings.Repeat("  ", level+1)
	var b strings.Builder
	b.WriteString(header + "\n")
	for i, line := range strings.Split(body, "\n") {
		if strings.TrimRight(line, " ") != line || i == 0 && (line == "" || line[0] == ' ') {
			return "", false
		}
		if line != "" {
			b.WriteString(indent + line)
		}
		b.WriteByte('\n')
	}
	if strings.HasSuffix(body, "\n") {
		return "", false
	}
	return b.String(), true
}

// attachComments gives each comment to the entry it stands before, or behind
// on its line, and keeps one blank line where there were any. It returns the
// comments after the last entry.
func attachComments(root *node, comments []*token.Token, text []byte) (foot []string) {
	lines := strings.Split(string(text), "\n")
	blank := func(line int) bool {
		return line >= 1 && line <= len(lines) && strings.TrimSpace(lines[line-1]) == ""
	}
	next := 0
	take := func(before int, entry int) []string {
		var head []string
		line := entry
		for start := next; next < len(comments) && comments[next].Position.Line < before; next++ {
			if next == start {
				line = comments[next].Position.Line
			}
			head = append(head, "#"+strings.TrimRight(comments[next].Value, " \r"))
		}
		if len(head) > 0 && blank(entry-1) {
			head = append(head, "")
		}
		if blank(line-1) && line > 1 {
			head = append([]string{""}, head...)
		}
		return head
	}
	slots := commentSlots(root)
	for i, slot := range slots {
		if i == 0 || slots[i-1].line != slot.line {
			*slot.head = take(slot.line, slot.line)
		}
		last := i+1 == len(slots) || slots[i+1].line != slot.line
		if last && next < len(comments) && comments[next].Position.Line == slot.line {
			*slot.tail = "#" + strings.TrimRight(comments[next].Value, " \r")
			next++
		}
	}
	if len(slots) > 0 && len(*slots[0].head) > 0 && (*slots[0].head)[0] == "" {
		*slots[0].head = (*slots[0].head)[1:]
	}
	if next < len(comments) {
		foot = take(len(lines)+1, comments[next].Position.Line)
	}
	return foot
}

// commentSlot is a place for comments.
type commentSlot struct {
	line int
	head *[]string
	tail *string
}

// commentSlots lists the entries of n in the order of the text. Scalars in a
// list on one line are no entries: what stands behind them belongs to the list.
func commentSlots(n *node) []commentSlot {
	var slots []commentSlot
	for i := range n.members {
		m := &n.members[i]
		slots = append(slots, commentSlot{m.at.Line, &m.head, &m.tail})
		slots = append(slots, valueSlots(m.value, m.at.Line)...)
	}
	for _, item := range n.items {
		slots = append(slots, commentSlot{item.at.Line, &item.head, &item.tail})
		slots = append(slots, valueSlots(item, item.at.Line)...)
	}
	return slots
}

func valueSlots(n *node, line int) []commentSlot {
	elsewhere := func(item *node) bool { return item.container() || item.at.Line != line }
	if n.kind == KindList && !slices.ContainsFunc(n.items, elsewhere) {
		return nil
	}
	return commentSlots(n)
}
