package steering

import (
	"reflect"
	"strconv"
)

// encode turns a model struct into a tree for one spelling, leaving out what
// is not set. It is the inverse of decoder.element.
func encode(e *element, source reflect.Value, spelling Spelling) *node {
	n := &node{kind: KindMap}
	for i := range e.fields {
		f := &e.fields[i]
		if value := encodeField(f, source.FieldByName(f.goName), spelling); value != nil {
			n.add(f.key, Position{}, value)
		}
	}
	return n
}

// encodeField returns nil for a field that is not set.
func encodeField(f *field, source reflect.Value, spelling Spelling) *node {
	if source.IsZero() || source.Kind() == reflect.Slice && source.Len() == 0 {
		return nil
	}
	switch value := source.Interface().(type) {
	case Expression:
		if value.Empty() {
			return nil
		}
		return scalar(f, value.Text)
	case Value:
		if value.Absent() {
			return nil
		}
		return nodeOf(value)
	case Parameters:
		return nodeOf(Value{Kind: KindMap, Map: value})
	case Flag:
		if spelling == XML {
			return textNode(flagWord(value))
		}
		return &node{kind: KindBool, text: strconv.FormatBool(value == FlagYes)}
	case Division:
		return &node{kind: KindInt, text: strconv.Itoa(int(value))}
	case []Dependence:
		n := &node{kind: KindList}
		for _, dependence := range value {
			n.items = append(n.items, textNode(dependence.Name))
		}
		return n
	case []string:
		n := &node{kind: KindList}
		for _, text := range value {
			n.items = append(n.items, textNode(text))
		}
		return n
	case []BatchSys:
		n := &node{kind: KindMap}
		for _, system := range value {
			n.add(system.Name, Position{}, nodeOf(Value{Kind: KindMap, Map: system.Parameters}))
		}
		return n
	}
	switch f.form {
	case formElement:
		n := encode(f.element, source, spelling)
		if len(n.members) == 0 {
			return nil
		}
		return n
	case formElements:
		n := &node{kind: KindList}
		for i := range source.Len() {
			n.items = append(n.items, encode(f.element, source.Index(i), spelling))
		}
		return n
	case formWord:
		return enumeration(f, source.String(), spelling)
	}
	return scalar(f, source.String())
}

func flagWord(flag Flag) string {
	if flag == FlagYes {
		return "yes"
	}
	return "no"
}

// enumeration writes a word as the spelling's readers expect it.
func enumeration(f *field, text string, spelling Spelling) *node {
	for _, w := range f.words {
		if w.text == text && w.plain != "" && spelling != XML {
			return &node{kind: KindBool, text: w.plain}
		}
	}
	return textNode(text)
}

// scalar writes text, as a number where the form takes numbers and it is one.
func scalar(f *field, text string) *node {
	if f.form == formLabel || f.form == formCount || f.form == formQuantity {
		switch {
		case isInt(text):
			return &node{kind: KindInt, text: text}
		case isDouble(text):
			return &node{kind: KindDouble, text: text}
		}
	}
	return textNode(text)
}
