package steering

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// xmlReader turns an XML tree into the common tree along the schema table.
type xmlReader struct {
	*report
}

// readXML returns nil if the text could not be understood.
func readXML(r *report, text []byte) *node {
	document := scanXML(r, text)
	if document == nil {
		return nil
	}
	root := document.root()
	if root.name != configurationElement.xml {
		r.add(root.at, SeverityError, quoteWord(nearest(root.name, []string{configurationElement.xml})),
			fmt.Sprintf("the outermost element is <%s>, want <%s>", cut(root.name, 60), configurationElement.xml))
		return nil
	}
	dropSchemaHints(root)
	x := xmlReader{r}
	return x.element(&configurationElement, root)
}

// dropSchemaHints removes the attributes by which a root names its schema.
func dropSchemaHints(root *xmlNode) {
	const instance = "http://www.w3.org/2001/XMLSchema-instance"
	declared := root.attr("xmlns:xsi") != nil && root.attr("xmlns:xsi").value == instance
	root.attrs = slices.DeleteFunc(slices.Clone(root.attrs), func(a xmlAttr) bool {
		return declared && (a.name == "xmlns:xsi" || a.name == "xsi:noNamespaceSchemaLocation" || a.name == "xsi:schemaLocation")
	})
}

// element converts one element of the table.
func (x xmlReader) element(e *element, el *xmlNode) *node {
	n := &node{kind: KindMap, at: el.at}
	x.into(n, e, el)
	return n
}

// into adds an element's attributes and children to n, which may already hold
// those of an earlier element of the same name.
func (x xmlReader) into(n *node, e *element, el *xmlNode) {
	defer x.track(n.at)()
	for _, a := range el.attrs {
		f := e.xmlAttribute(a.name)
		if f == nil {
			x.unknownAttribute(el, a, e.xmlAttributes(), e)
			continue
		}
		n.add(f.key, a.at, &node{kind: KindString, text: a.value, at: a.valueAt})
	}
	if len(e.xmlChildren()) == 0 {
		x.empty(el)
		return
	}
	for _, child := range x.childElements(el) {
		f := e.xmlChild(child.name)
		if f == nil {
			x.unknownElement(el, child, e.xmlChildren(), e)
			continue
		}
		x.child(n, f, child)
	}
}

// childElements returns el's elements and reports text between them.
func (x xmlReader) childElements(el *xmlNode) []*xmlNode {
	var children []*xmlNode
	for _, child := range el.children {
		switch child.kind {
		case xmlElement:
			children = append(children, child)
		case xmlText:
			if strings.TrimSpace(child.text) != "" {
				x.errorf(firstWord(child.raw, child.at), "text in <%s>, which has elements only", el.name)
			}
		}
	}
	return children
}

// child adds one child element to its parent's tree.
func (x xmlReader) child(n *node, f *field, child *xmlNode) {
	gathered := func(kind Kind) *node {
		if list := n.find(f.key); list != nil {
			return list
		}
		list := &node{kind: kind, at: child.at}
		n.add(f.key, child.at, list)
		return list
	}
	if f.once && n.find(f.key) != nil {
		x.errorf(child.at, "a second <%s>", child.name)
		return
	}
	switch f.form {
	case formProse:
		x.allow(child, nil, nil)
		n.add(f.key, child.at, &node{kind: KindString, text: x.onlyText(child), at: child.at})
	case formNames:
		x.allow(child, []string{"name"}, []string{"name"})
		x.empty(child)
		list := gathered(KindList)
		if a := child.attr("name"); a != nil {
			list.items = append(list.items, &node{kind: KindString, text: a.value, at: a.valueAt})
		}
	case formTexts:
		x.allow(child, []string{"name", "value"}, []string{"name", "value"})
		x.empty(child)
		list := gathered(KindMap)
		name, value := child.attr("name"), child.attr("value")
		if name != nil && value != nil {
			list.add(name.value, name.valueAt, &node{kind: KindString, text: value.value, at: value.valueAt})
		}
	case formParameters:
		list := gathered(KindMap)
		if f.xml == "" {
			x.parameter(list, child)
			return
		}
		x.allow(child, nil, nil)
		x.parameters(list, child)
	case formBatch:
		x.allow(child, []string{"name"}, nil)
		system := &node{kind: KindMap, at: child.at}
		name, at := "*", child.at
		if a := child.attr("name"); a != nil {
			name, at = a.value, a.valueAt
		}
		gathered(KindMap).add(name, at, system)
		x.parameters(system, child)
	case formArguments:
		x.allow(child, []string{"type", "value"}, nil)
		n.add(f.key, child.at, x.value(child))
	case formElement:
		x.into(gathered(KindMap), f.element, child)
	case formElements:
		list := gathered(KindList)
		list.items = append(list.items, x.element(f.element, child))
	}
}

// parameters adds the <parameter> children of el to list.
func (x xmlReader) parameters(list *node, el *xmlNode) {
	for _, child := range x.childElements(el) {
		if child.name != "parameter" {
			x.unknownElement(el, child, []string{"parameter"}, nil)
			continue
		}
		x.parameter(list, child)
	}
}

// parameter adds one <parameter> to list.
func (x xmlReader) parameter(list *node, el *xmlNode) {
	x.allow(el, []string{"name", "type", "value"}, []string{"name"})
	value := x.value(el)
	if name := el.attr("name"); name != nil {
		list.add(name.value, name.valueAt, value)
	}
}

// value reads the typed value of a <parameter>, an <item> or <args>.
func (x xmlReader) value(el *xmlNode) *node {
	n := &node{kind: KindNull, at: el.at}
	kind := "string"
	if a := el.attr("type"); a != nil {
		kind = a.value
		if !slices.Contains(parameterTypes, kind) {
			x.add(a.valueAt, SeverityError, quoteWord(nearest(kind, parameterTypes)),
				fmt.Sprintf("unknown type %q; want one of %s", cut(kind, 60), strings.Join(parameterTypes, ", ")))
			return n
		}
	}
	switch kind {
	case "list":
		n.kind = KindList
		for _, child := range x.valueElements(el, "item") {
			x.allow(child, []string{"type", "value"}, nil)
			n.items = append(n.items, x.value(child))
		}
		return n
	case "map":
		n.kind = KindMap
		for _, child := range x.valueElements(el, "parameter") {
			x.parameter(n, child)
		}
		return n
	}
	n.text = x.onlyText(el)
	if a := el.attr("value"); a != nil {
		if strings.TrimSpace(n.text) != "" {
			x.errorf(el.at, "<%s> has both a value and a text", el.name)
		}
		n.text, n.at = a.value, a.valueAt
	}
	x.scalar(n, kind)
	return n
}

// valueElements returns the children of a list or a map.
func (x xmlReader) valueElements(el *xmlNode, name string) []*xmlNode {
	if a := el.attr("value"); a != nil {
		x.errorf(a.at, `a %s has <%s> elements, no attribute "value"`, el.attr("type").value, name)
	}
	children := x.childElements(el)
	return slices.DeleteFunc(children, func(child *xmlNode) bool {
		if child.name != name {
			x.unknownElement(el, child, []string{name}, nil)
		}
		return child.name != name
	})
}

// scalar gives n the type it was said to have.
func (x xmlReader) scalar(n *node, kind string) {
	switch kind {
	case "string":
		n.kind = KindString
		return
	case "null":
		if n.text != "" {
			x.errorf(n.at, "null has no value, not %q", cut(n.text, 40))
		}
		n.kind, n.text = KindNull, ""
		return
	case "bool":
		if word, ok := meaningOf(flagWords, strings.TrimSpace(n.text)); ok {
			n.kind, n.text = KindBool, strconv.FormatBool(word == "yes")
			return
		}
	case "int":
		if text, ok := plainInt(strings.TrimSpace(n.text)); ok {
			n.kind, n.text = KindInt, text
			return
		}
	case "double":
		if text, ok := plainDouble(strings.TrimSpace(n.text)); ok {
			n.kind, n.text = KindDouble, text
			return
		}
	}
	if isExpression(n.text) {
		x.errorf(n.at, `%q is no %s; an expression has type "string"`, cut(n.text, 40), kind)
		return
	}
	x.errorf(n.at, "%q is no %s", cut(n.text, 40), kind)
}

// plainInt brings a whole number as people write it into JSON's grammar.
func plainInt(text string) (string, bool) {
	text = strings.TrimPrefix(text, "+")
	digits, negative := strings.CutPrefix(text, "-")
	if !allDigits(digits) {
		return "", false
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		digits = "0"
	}
	if negative {
		digits = "-" + digits
	}
	return digits, true
}

// plainDouble brings a number as people write it into JSON's grammar, with a
// fraction or an exponent so that it stays a double.
func plainDouble(text string) (string, bool) {
	mantissa, exponent := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i:]
	}
	whole, fraction, hasFraction := strings.Cut(mantissa, ".")
	bare := strings.TrimLeft(whole, "+-")
	if bare == "" && fraction == "" || len(whole)-len(bare) > 1 {
		return "", false
	}
	if bare == "" {
		whole += "0"
	}
	whole, ok := plainInt(whole)
	switch {
	case !ok:
		return "", false
	case hasFraction && fraction == "" && exponent == "", !hasFraction && exponent == "":
		fraction = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole + exponent, isDouble(whole + exponent)
}

// onlyText returns the text of an element that has no elements.
func (x xmlReader) onlyText(el *xmlNode) string {
	var b strings.Builder
	for _, child := range el.children {
		switch child.kind {
		case xmlElement:
			x.unknownElement(el, child, nil, nil)
		case xmlText:
			b.WriteString(child.text)
		}
	}
	return b.String()
}

// empty reports anything but comments inside an element that has attributes
// only; to XML Schema and DTDs even a blank is something.
func (x xmlReader) empty(el *xmlNode) {
	for _, child := range el.children {
		switch child.kind {
		case xmlElement:
			x.unknownElement(el, child, nil, nil)
		case xmlText:
			x.errorf(child.at, "<%s> must be empty: write <%s …/>", el.name, el.name)
			return
		}
	}
}

// allow reports attributes that are not allowed and required ones that are
// not there.
func (x xmlReader) allow(el *xmlNode, allowed, required []string) {
	for _, a := range el.attrs {
		if !slices.Contains(allowed, a.name) {
			x.unknownAttribute(el, a, allowed, nil)
		}
	}
	for _, name := range required {
		if el.attr(name) == nil {
			x.errorf(el.at, "<%s> lacks the required attribute %q", el.name, name)
		}
	}
}

// unknownAttribute reports an attribute and the one that may be meant: one
// with a similar name, the XML name of a JSON key, or a child element.
func (x xmlReader) unknownAttribute(el *xmlNode, a xmlAttr, known []string, e *element) {
	suggestion := quoteWord(nearest(a.name, known))
	if e != nil {
		if f := e.field(a.name); f != nil && f.form.attribute() {
			suggestion = quoteWord(f.xml)
		} else if e.xmlChild(a.name) != nil {
			suggestion = "the element <" + a.name + ">"
		}
	}
	x.add(a.at, SeverityError, suggestion, fmt.Sprintf("unknown attribute %q in <%s>", cut(a.name, 60), el.name))
}

// unknownElement is unknownAttribute for elements.
func (x xmlReader) unknownElement(parent, child *xmlNode, known []string, e *element) {
	suggestion := nearest(child.name, known)
	if suggestion != "" {
		suggestion = "<" + suggestion + ">"
	}
	if e != nil {
		if f := e.field(child.name); f != nil && !f.form.attribute() {
			suggestion = "<" + f.xml + ">"
			if f.xml == "" {
				suggestion = "<parameter>"
			}
		} else if e.xmlAttribute(child.name) != nil {
			suggestion = "the attribute " + strconv.Quote(child.name)
		}
	}
	x.add(child.at, SeverityError, suggestion, fmt.Sprintf("unknown element <%s> in <%s>", cut(child.name, 60), cut(parent.name, 60)))
}
