package steering

import (
	"fmt"
	"slices"
	"strings"
)

// Reference returns the schema table as Markdown; docs/steering.md holds it.
func Reference() string {
	var b strings.Builder
	var done []*element
	var write func(e *element)
	write = func(e *element) {
		if slices.Contains(done, e) {
			return
		}
		done = append(done, e)
		fmt.Fprintf(&b, "### %s\n\n%s\n\n| key | XML | what | |\n| --- | --- | --- | --- |\n", e.xml, e.doc)
		for i := range e.fields {
			f := &e.fields[i]
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", keyNames(f), xmlName(f), f.kindName(), strings.ReplaceAll(f.doc, "|", `\|`))
		}
		b.WriteString("\n")
		for i := range e.fields {
			if inner := e.fields[i].element; inner != nil {
				write(inner)
			}
		}
	}
	write(&configurationElement)
	return b.String()
}

// keyNames returns a field's key and what else is read.
func keyNames(f *field) string {
	text := "`" + f.key + "`"
	for _, alias := range f.aliases {
		text += ", `" + alias + "`"
	}
	if f.required {
		text += " (required)"
	}
	return text
}

// xmlName returns how XML writes a field.
func xmlName(f *field) string {
	switch {
	case f.xml == "":
		return "`<parameter>`"
	case f.form == formArguments:
		return "`args=` or `<args>`"
	case f.form.attribute() && f.xmlRequired:
		return "`" + f.xml + "=` (required)"
	case f.form.attribute():
		return "`" + f.xml + "=`"
	}
	return "`<" + f.xml + ">`"
}

// kindName names a field's form in the reference.
func (f *field) kindName() string {
	switch f.form {
	case formExpression:
		return "expression"
	case formLabel:
		return "number or word"
	case formQuantity:
		return "number or expression"
	case formCount:
		return "whole number or expression"
	case formFlag:
		return "yes or no"
	case formWord:
		return strings.TrimPrefix(f.want(), "one of ")
	case formWords, formDepends:
		return "words"
	case formNames:
		return "texts"
	case formTexts:
		return "texts by name"
	case formParameters:
		return "parameters"
	case formBatch:
		return "parameters by system"
	case formArguments:
		return "text, list or map"
	case formElement:
		return "[" + f.element.xml + "](#" + f.element.xml + ")"
	case formElements:
		return "list of [" + f.element.xml + "](#" + f.element.xml + ")"
	}
	return "text"
}
