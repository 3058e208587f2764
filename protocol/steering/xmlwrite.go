package steering

import (
	"bytes"
	"strconv"
	"strings"
)

// xmlOf turns a tree made by encode into an XML tree.
func xmlOf(root *node) *xmlNode {
	document := &xmlNode{kind: xmlElement}
	document.children = []*xmlNode{elementXML(&configurationElement, root)}
	return document
}

func newElement(name string) *xmlNode { return &xmlNode{kind: xmlElement, name: name} }

func (n *xmlNode) set(name, value string) {
	n.attrs = append(n.attrs, xmlAttr{name: name, value: value})
}

func (n *xmlNode) append(children ...*xmlNode) { n.children = append(n.children, children...) }

// elementXML writes one element of the table.
func elementXML(e *element, n *node) *xmlNode {
	el := newElement(e.xml)
	for _, m := range n.members {
		f := e.field(m.key)
		if f.form.attribute() && !m.value.container() {
			el.set(f.xml, m.value.text)
			continue
		}
		fieldXML(el, f, m.value)
	}
	return el
}

// fieldXML adds what is no scalar attribute to el.
func fieldXML(el *xmlNode, f *field, n *node) {
	switch f.form {
	case formWords, formDepends:
		var words []string
		for _, item := range n.items {
			words = append(words, item.text)
		}
		el.set(f.xml, strings.Join(words, " "))
	case formProse:
		child := newElement(f.xml)
		child.append(&xmlNode{kind: xmlText, text: n.text})
		el.append(child)
	case formNames:
		for _, item := range n.items {
			child := newElement(f.xml)
			child.set("name", item.text)
			el.append(child)
		}
	case formTexts:
		for _, m := range n.members {
			child := newElement(f.xml)
			child.set("name", m.key)
			child.set("value", m.value.text)
			el.append(child)
		}
	case formParameters:
		if f.xml != "" {
			section := newElement(f.xml)
			el.append(section)
			el = section
		}
		el.append(parametersXML(n)...)
	case formBatch:
		for _, m := range n.members {
			child := newElement(f.xml)
			child.set("name", m.key)
			child.append(parametersXML(m.value)...)
			el.append(child)
		}
	case formArguments:
		child := newElement(f.xml)
		valueXML(child, n)
		el.append(child)
	case formElement:
		el.append(elementXML(f.element, n))
	case formElements:
		for _, item := range n.items {
			el.append(elementXML(f.element, item))
		}
	}
}

// parametersXML writes a map as <parameter> elements.
func parametersXML(n *node) []*xmlNode {
	var list []*xmlNode
	for _, m := range n.members {
		child := newElement("parameter")
		child.set("name", m.key)
		valueXML(child, m.value)
		list = append(list, child)
	}
	return list
}

// valueXML adds a typed value to el; a text of several lines becomes the
// element's text, which people can read.
func valueXML(el *xmlNode, n *node) {
	if n.kind != KindString {
		el.set("type", n.kind.String())
	}
	switch n.kind {
	case KindList:
		for _, item := range n.items {
			child := newElement("item")
			valueXML(child, item)
			el.append(child)
		}
	case KindMap:
		el.append(parametersXML(n)...)
	case KindNull:
	case KindString:
		if strings.Contains(n.text, "\n") && strings.TrimSpace(n.text) != "" {
			el.append(&xmlNode{kind: xmlText, text: n.text})
			return
		}
		el.set("value", n.text)
	default:
		el.set("value", n.text)
	}
}

// printXML returns a document as indented XML with a final newline. Comments,
// their place, single blank lines and texts are kept as they are.
func printXML(document *xmlNode) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	p := xmlPrinter{&b}
	p.block(document.children, 0)
	return b.Bytes()
}

type xmlPrinter struct{ *bytes.Buffer }

// block writes the children of an element that has no text of its own.
func (p xmlPrinter) block(children []*xmlNode, level int) {
	lines, first := 1, true
	for _, child := range children {
		if child.kind == xmlText {
			lines += strings.Count(child.text, "\n")
			continue
		}
		switch {
		case child.kind == xmlComment && lines == 0 && !first:
			// The comment stands behind its element on the same line.
			p.Truncate(p.Len() - 1)
			p.WriteByte(' ')
		default:
			if lines > 1 && !first {
				p.WriteByte('\n')
			}
			p.WriteString(strings.Repeat("  ", level))
		}
		p.node(child, level)
		p.WriteByte('\n')
		lines, first = 0, false
	}
}

// node writes one node without the line break behind it.
func (p xmlPrinter) node(n *xmlNode, level int) {
	switch n.kind {
	case xmlText:
		if n.raw != "" {
			p.WriteString(n.raw)
			return
		}
		p.WriteString(escapeXML(n.text, false))
	case xmlComment:
		p.WriteString("<!--" + n.text + "-->")
	case xmlInstruction:
		p.WriteString("<?" + n.text + "?>")
	case xmlDoctype:
		p.WriteString("<!DOCTYPE" + n.text + ">")
	case xmlElement:
		p.element(n, level)
	}
}

func (p xmlPrinter) element(n *xmlNode, level int) {
	p.WriteString("<" + n.name)
	for _, a := range n.attrs {
		p.WriteString(" " + a.name + `="` + escapeXML(a.value, true) + `"`)
	}
	switch content := contentOf(n); {
	case content == contentNone:
		p.WriteString("/>")
	case content == contentText:
		p.WriteByte('>')
		for _, child := range n.children {
			p.node(child, level)
		}
		p.WriteString("</" + n.name + ">")
	default:
		p.WriteString(">\n")
		p.block(n.children, level+1)
		p.WriteString(strings.Repeat("  ", level) + "</" + n.name + ">")
	}
}

// content says how an element's inside is laid out.
type content uint8

const (
	contentNone content = iota
	contentText
	contentBlock
)

func contentOf(n *xmlNode) content {
	kind := contentNone
	for _, child := range n.children {
		switch {
		case child.kind != xmlText:
			if kind != contentText {
				kind = contentBlock
			}
		case strings.TrimSpace(child.text) != "":
			kind = contentText
		}
	}
	// Blanks are a value where nothing else gives one, so none may be added.
	valued := n.name == "parameter" || n.name == "item" || n.name == "args"
	if valued && n.attr("value") == nil && len(n.children) > 0 {
		if t := n.attr("type"); t == nil || t.value == "string" {
			return contentText
		}
	}
	return kind
}

// escapeXML writes text so that a reader gives back each character.
func escapeXML(text string, attribute bool) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '"' && attribute:
			b.WriteString("&quot;")
		case r == '\r', attribute && (r == '\n' || r == '\t'), r == 0x85, r == 0xa0, r == 0x2028, r == 0xfeff:
			b.WriteString("&#" + strconv.Itoa(int(r)) + ";")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
