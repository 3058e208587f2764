package steering

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// XSD returns the XML spelling as an XML Schema for editors and other tools;
// docs/steering.xsd is its text. XSD 1.0 cannot tie a value to a type
// attribute, nor names in a list to tasks: Parse checks more.
func XSD() []byte {
	s := &schemaWriter{}
	s.line(`<?xml version="1.0" encoding="UTF-8"?>`)
	s.line("<!-- Made by go generate from the table in protocol/steering/schema.go. -->")
	s.open(`<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified">`)
	s.element(configurationElement.xml, configurationElement.xml, "", keysOf(&configurationElement))
	s.complexTypes(&configurationElement)
	s.fixedTypes()
	s.close("</xs:schema>")
	return s.Bytes()
}

// schemaWriter writes indented lines.
type schemaWriter struct {
	bytes.Buffer
	level int
	done  []*element
}

func (s *schemaWriter) line(text string) {
	s.WriteString(strings.Repeat("  ", s.level) + text + "\n")
}

func (s *schemaWriter) open(text string) {
	s.line(text)
	s.level++
}

func (s *schemaWriter) close(text string) {
	s.level--
	s.line(text)
}

// unique is a rule that names must not repeat.
type unique struct{ child, attribute string }

// keysOf returns the rules of a table element.
func keysOf(e *element) []unique {
	var keys []unique
	for i := range e.fields {
		switch f := &e.fields[i]; {
		case f.form == formTexts, f.form == formBatch, f.form == formElements && f.element == &taskElement:
			keys = append(keys, unique{f.xml, "name"})
		case f.form == formParameters && f.xml == "":
			keys = append(keys, unique{"parameter", "name"})
		}
	}
	return keys
}

// element writes a declaration with its rules.
func (s *schemaWriter) element(name, typeName, doc string, keys []unique) {
	start := fmt.Sprintf(`<xs:element name="%s" type="%s"`, name, typeName)
	if len(keys) == 0 && doc == "" {
		s.line(start + "/>")
		return
	}
	s.open(start + ">")
	s.documentation(doc)
	for _, key := range keys {
		// Names of rules are global to a schema.
		s.open(fmt.Sprintf(`<xs:unique name="%s.%s.%d">`, name, key.child, s.Len()))
		s.line(fmt.Sprintf(`<xs:selector xpath="%s"/>`, key.child))
		s.line(fmt.Sprintf(`<xs:field xpath="@%s"/>`, key.attribute))
		s.close("</xs:unique>")
	}
	s.close("</xs:element>")
}

func (s *schemaWriter) documentation(doc string) {
	if doc != "" {
		s.line("<xs:annotation><xs:documentation>" + escapeXML(doc, false) + "</xs:documentation></xs:annotation>")
	}
}

// complexTypes writes the type of e and of everything inside it, once each.
func (s *schemaWriter) complexTypes(e *element) {
	if slices.Contains(s.done, e) {
		return
	}
	s.done = append(s.done, e)
	s.open(fmt.Sprintf(`<xs:complexType name="%s">`, e.xml))
	s.documentation(e.doc)
	var once, others []*field
	for i := range e.fields {
		f := &e.fields[i]
		switch {
		case f.form.attribute() && f.form != formArguments:
		case f.once:
			once = append(once, f)
		default:
			others = append(others, f)
		}
	}
	s.content(once, others)
	for i := range e.fields {
		if e.fields[i].form.attribute() {
			s.attribute(&e.fields[i])
		}
	}
	s.close("</xs:complexType>")
	for i := range e.fields {
		if inner := e.fields[i].element; inner != nil {
			s.complexTypes(inner)
		}
	}
}

// content writes child elements in any order. The table has at most one that
// may come only once per element: XSD 1.0 has no better way to say so.
func (s *schemaWriter) content(once, others []*field) {
	if len(once)+len(others) == 0 {
		return
	}
	s.open("<xs:sequence>")
	s.choice(others)
	for _, f := range once {
		s.open(`<xs:sequence minOccurs="0">`)
		s.child(f)
		s.choice(others)
		s.close("</xs:sequence>")
	}
	s.close("</xs:sequence>")
}

func (s *schemaWriter) choice(fields []*field) {
	if len(fields) == 0 {
		return
	}
	s.open(`<xs:choice minOccurs="0" maxOccurs="unbounded">`)
	for _, f := range fields {
		s.child(f)
	}
	s.close("</xs:choice>")
}

// child declares a field written as an element.
func (s *schemaWriter) child(f *field) {
	parameterNames := []unique{{"parameter", "name"}}
	switch f.form {
	case formProse:
		s.element(f.xml, "xs:string", f.doc, nil)
	case formNames:
		s.element(f.xml, "_named", f.doc, nil)
	case formTexts:
		s.element(f.xml, "_text", f.doc, nil)
	case formParameters:
		if f.xml == "" {
			s.element("parameter", "_parameter", f.doc, parameterNames)
		} else {
			s.element(f.xml, "_parameters", f.doc, parameterNames)
		}
	case formBatch:
		s.element(f.xml, "_batchsys", f.doc, parameterNames)
	case formArguments:
		s.element(f.xml, "_arguments", f.doc, parameterNames)
	default:
		s.element(f.xml, f.element.xml, f.doc, keysOf(f.element))
	}
}

// attribute declares a field written as an attribute.
func (s *schemaWriter) attribute(f *field) {
	use := ""
	if f.required || f.xmlRequired {
		use = ` use="required"`
	}
	typeName := "xs:string"
	switch {
	case f.form == formCount:
		typeName = "_count"
	case f.form == formQuantity:
		typeName = "_quantity"
	case f.form == formFlag:
		typeName = "_flag"
	case f.goName == "Checksum":
		typeName = "_checksum"
	case f.required:
		typeName = "_name"
	case f.form == formWord:
		s.open(fmt.Sprintf(`<xs:attribute name="%s"%s>`, f.xml, use))
		s.documentation(f.doc)
		s.enumeration("", f.words, !f.xmlRequired)
		s.close("</xs:attribute>")
		return
	}
	s.open(fmt.Sprintf(`<xs:attribute name="%s" type="%s"%s>`, f.xml, typeName, use))
	s.documentation(f.doc)
	s.close("</xs:attribute>")
}

// enumeration writes a simple type of words, and nothing too if silence is
// allowed to be written.
func (s *schemaWriter) enumeration(name string, words []word, silence bool) {
	if name != "" {
		name = fmt.Sprintf(` name="%s"`, name)
	}
	s.open("<xs:simpleType" + name + ">")
	s.open(`<xs:restriction base="xs:string">`)
	if silence {
		s.line(`<xs:enumeration value=""/>`)
	}
	for _, w := range words {
		s.line(fmt.Sprintf(`<xs:enumeration value="%s"/>`, w.text))
	}
	s.close("</xs:restriction>")
	s.close("</xs:simpleType>")
}

// pattern writes a simple type of texts that match.
func (s *schemaWriter) pattern(name, pattern string) {
	s.open(fmt.Sprintf(`<xs:simpleType name="%s">`, name))
	s.open(`<xs:restriction base="xs:string">`)
	s.line(fmt.Sprintf(`<xs:pattern value="%s"/>`, pattern))
	s.close("</xs:restriction>")
	s.close("</xs:simpleType>")
}

// fixedTypes writes the types that are not in the table.
func (s *schemaWriter) fixedTypes() {
	const (
		whole      = `(0|[1-9][0-9]*)`
		fraction   = `(\.[0-9]+)?([eE][+\-]?[0-9]+)?`
		anything   = `(.|\n|\r)`
		expression = anything + `*$` + anything + `*`
	)
	s.pattern("_count", `\s*`+whole+`?\s*|`+expression)
	s.pattern("_quantity", `\s*(`+whole+fraction+`)?\s*|`+expression)
	s.pattern("_checksum", `(sha256:[0-9a-fA-F]{64}|md5:[0-9a-fA-F]{32}|adler32:[0-9a-fA-F]{8})?|`+expression)
	s.pattern("_name", `[^\s,]+`)
	s.pattern("_some", anything+"+")
	s.enumeration("_flag", flagWords, true)
	types := func(words []string) (list []word) {
		for _, text := range words {
			list = append(list, word{text: text})
		}
		return list
	}
	s.enumeration("_type", types(parameterTypes), false)
	s.enumeration("_argumentsType", types([]string{"string", "list", "map"}), false)

	s.open(`<xs:complexType name="_named">`)
	s.line(`<xs:attribute name="name" type="_some" use="required"/>`)
	s.close("</xs:complexType>")

	s.open(`<xs:complexType name="_text">`)
	s.line(`<xs:attribute name="name" type="_some" use="required"/>`)
	s.line(`<xs:attribute name="value" type="xs:string" use="required"/>`)
	s.close("</xs:complexType>")

	for _, t := range []struct{ name, mixed, attributes string }{
		{"_parameters", "", ""},
		{"_batchsys", "", `<xs:attribute name="name" type="_some" default="*"/>`},
		{"_parameter", ` mixed="true"`, `<xs:attribute name="name" type="_some" use="required"/>`},
		{"_item", ` mixed="true"`, " "},
		{"_arguments", ` mixed="true"`, " "},
	} {
		s.open(fmt.Sprintf(`<xs:complexType name="%s"%s>`, t.name, t.mixed))
		s.open(`<xs:choice minOccurs="0" maxOccurs="unbounded">`)
		s.element("parameter", "_parameter", "", []unique{{"parameter", "name"}})
		if t.mixed != "" {
			s.element("item", "_item", "", []unique{{"parameter", "name"}})
		}
		s.close("</xs:choice>")
		if strings.TrimSpace(t.attributes) != "" {
			s.line(t.attributes)
		}
		if t.mixed != "" {
			typeName := "_type"
			if t.name == "_arguments" {
				typeName = "_argumentsType"
			}
			s.line(fmt.Sprintf(`<xs:attribute name="type" type="%s" default="string"/>`, typeName))
			s.line(`<xs:attribute name="value" type="xs:string"/>`)
		}
		s.close("</xs:complexType>")
	}
}
