package steering

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder turns a tree into a Document along the schema table.
type decoder struct {
	*report
}

// document decodes the root.
func (d decoder) document(root *node) *Document {
	doc := &Document{}
	d.element(&configurationElement, root, reflect.ValueOf(doc).Elem())
	defaultMovements(doc)
	return doc
}

// element decodes n into the struct that target is.
func (d decoder) element(e *element, n *node, target reflect.Value) {
	target.FieldByName("Position").Set(reflect.ValueOf(n.at))
	defer d.track(n.at)()
	if n.kind != KindMap {
		d.errorf(n.at, "%s: want %s, not %s", d.noun(e), wantMap, describe(n))
		return
	}
	seen, given := map[string]bool{}, map[string]bool{}
	for _, m := range n.members {
		f := e.field(m.key)
		if f == nil {
			d.unknownKey(e, m)
			continue
		}
		if seen[f.key] {
			d.errorf(m.at, "%s is given twice in %s", d.name(f, m.key), d.noun(e))
			continue
		}
		seen[f.key] = true
		if m.value.kind != KindNull {
			given[f.key] = true
			d.field(f, m.key, m.value, target.FieldByName(f.goName))
		}
	}
	for i := range e.fields {
		f := &e.fields[i]
		if !given[f.key] && (f.required || f.xmlRequired && d.spelling == XML) {
			d.errorf(n.at, "%s lacks the required %s", d.noun(e), d.name(f, f.key))
		}
	}
}

// unknownKey reports a key the table does not have; XML's are reported where
// its elements and attributes are still known.
func (d decoder) unknownKey(e *element, m member) {
	suggestion := nearest(m.key, e.keys())
	for i := range e.fields {
		if e.fields[i].xml == m.key {
			suggestion = e.fields[i].key
		}
	}
	d.add(m.at, SeverityError, quoteWord(suggestion), fmt.Sprintf("unknown key %q in %s", cut(m.key, 60), d.noun(e)))
}

// field decodes one value.
func (d decoder) field(f *field, key string, n *node, target reflect.Value) {
	switch f.form {
	case formText, formProse, formLabel:
		if text, ok := d.text(f, key, n); ok {
			target.SetString(text)
		}
	case formExpression, formCount, formQuantity:
		if text, ok := d.text(f, key, n); ok {
			target.Set(reflect.ValueOf(Expression{Text: text, Position: n.at}))
		}
	case formFlag, formWord:
		d.word(f, key, n, target)
	case formWords, formNames:
		d.words(f, key, n, func(text string, _ Position) {
			target.Set(reflect.Append(target, reflect.ValueOf(text)))
		})
	case formDepends:
		d.words(f, key, n, func(text string, at Position) {
			target.Set(reflect.Append(target, reflect.ValueOf(Dependence{Name: text, Position: at})))
		})
	case formTexts, formParameters:
		target.Set(reflect.ValueOf(d.parameters(f, key, n)))
	case formArguments:
		if n.kind != KindString && !n.container() {
			d.wrongType(f, key, n)
			return
		}
		if n.kind == KindString && n.text == "" {
			return
		}
		d.checkValue(n)
		target.Set(reflect.ValueOf(n.valueOf()))
	case formElement:
		d.element(f.element, n, target)
	case formElements:
		if n.kind != KindList {
			d.wrongType(f, key, n)
			return
		}
		for _, item := range n.items {
			one := reflect.New(target.Type().Elem()).Elem()
			d.element(f.element, item, one)
			target.Set(reflect.Append(target, one))
		}
	case formBatch:
		d.batch(f, key, n, target)
	}
}

// text decodes the forms that are text in the model.
func (d decoder) text(f *field, key string, n *node) (string, bool) {
	text := n.text
	number := n.kind == KindInt || n.kind == KindDouble
	ok := n.kind == KindString
	switch f.form {
	case formProse:
		text = strings.TrimSpace(text)
	case formLabel:
		ok = ok || number
	case formCount:
		text = strings.Trim(text, " \t\r\n")
		ok = (ok || n.kind == KindInt) && (text == "" || isExpression(text) || isCount(text))
	case formQuantity:
		text = strings.Trim(text, " \t\r\n")
		ok = (ok || number) && (text == "" || isExpression(text) || isQuantity(text))
	}
	if !ok {
		d.wrongType(f, key, n)
		return "", false
	}
	if f.goName == "Name" && f.required {
		d.checkName(f, key, n)
	}
	return text, true
}

// checkName checks a name that others refer to.
func (d decoder) checkName(f *field, key string, n *node) {
	switch {
	case n.text == "":
		d.errorf(n.at, "%s is empty", d.name(f, key))
	case strings.ContainsFunc(n.text, isSeparator):
		d.errorf(n.at, "%s: %q has blanks or commas, which separate names in lists", d.name(f, key), cut(n.text, 60))
	}
}

// word decodes an enumeration.
func (d decoder) word(f *field, key string, n *node, target reflect.Value) {
	if n.container() || n.kind == KindDouble {
		d.wrongType(f, key, n)
		return
	}
	meaning, ok := meaningOf(f.vocabulary(), n.text)
	if !ok {
		if n.kind == KindString && n.text == "" && !f.xmlRequired {
			return
		}
		var texts []string
		for _, w := range f.vocabulary() {
			texts = append(texts, w.text)
		}
		suggestion := nearest(n.text, texts)
		d.add(n.at, SeverityError, quoteWord(suggestion), fmt.Sprintf("%s: unknown word %q; want %s", d.name(f, key), cut(n.text, 60), f.want()))
		return
	}
	switch target.Kind() {
	case reflect.String:
		target.SetString(meaning)
	case reflect.Int8:
		flag := FlagNo
		if meaning == "yes" {
			flag = FlagYes
		}
		target.SetInt(int64(flag))
	default:
		number, _ := strconv.Atoi(meaning)
		target.SetInt(int64(number))
	}
}

// meaningOf returns what a word means to the model.
func meaningOf(vocabulary []word, text string) (string, bool) {
	for _, w := range vocabulary {
		if w.text == text {
			if w.means != "" {
				return w.means, true
			}
			return w.text, true
		}
	}
	return "", false
}

// words decodes a list of words or names. Where no item may hold a blank, one
// text with blanks or commas between the words will do.
func (d decoder) words(f *field, key string, n *node, yield func(string, Position)) {
	if n.kind == KindString && f.form != formNames {
		for _, w := range splitWords(n.text, n.at) {
			yield(w.text, w.at)
		}
		return
	}
	if n.kind != KindList {
		d.wrongType(f, key, n)
		return
	}
	for _, item := range n.items {
		index := f.form == formDepends && item.kind == KindInt
		switch {
		case item.kind != KindString && !index:
			d.errorf(item.at, "%s: want text in the list, not %s", d.name(f, key), describe(item))
		case item.text == "":
			d.errorf(item.at, "%s: an empty text in the list", d.name(f, key))
		case f.form != formNames && strings.ContainsFunc(item.text, isSeparator):
			d.errorf(item.at, "%s: %q has blanks or commas, which separate the words", d.name(f, key), cut(item.text, 60))
		default:
			yield(item.text, item.at)
		}
	}
}

// splitWords splits text at blanks and commas, keeping positions.
func splitWords(text string, at Position) []*node {
	var words []*node
	var current *node
	for _, c := range text {
		if isSeparator(c) {
			current = nil
		} else {
			if current == nil {
				current = &node{kind: KindString, at: at}
				words = append(words, current)
			}
			current.text += string(c)
		}
		at.Column++
	}
	return words
}

func isSeparator(c rune) bool { return strings.ContainsRune(" \t\r\n,", c) }

// parameters decodes a map of values, or of texts.
func (d decoder) parameters(f *field, key string, n *node) Parameters {
	if n.kind != KindMap {
		d.wrongType(f, key, n)
		return nil
	}
	if f.form == formTexts {
		for _, m := range n.members {
			if m.value.kind != KindString {
				d.errorf(m.value.at, "%s %q: want text, not %s", d.name(f, key), cut(m.key, 60), describe(m.value))
			}
		}
	}
	d.checkValue(n)
	return n.valueOf().Map
}

// batch decodes the properties per batch system.
func (d decoder) batch(f *field, key string, n *node, target reflect.Value) {
	if n.kind != KindMap {
		d.wrongType(f, key, n)
		return
	}
	d.checkKeys(n)
	for _, m := range n.members {
		system := BatchSys{Position: m.at, Name: m.key}
		if m.value.kind != KindNull {
			system.Parameters = d.parameters(f, key, m.value)
		}
		target.Set(reflect.Append(target, reflect.ValueOf(system)))
	}
}

// checkValue checks what every typed value must obey.
func (d decoder) checkValue(n *node) {
	if n.depth() > MaxValueDepth+1 {
		d.errorf(n.at, "lists and maps nest deeper than %d", MaxValueDepth)
		return
	}
	d.checkKeys(n)
}

// checkKeys reports empty and repeated names in n and below.
func (d decoder) checkKeys(n *node) {
	for _, item := range n.items {
		d.checkKeys(item)
	}
	seen := make(map[string]Position, len(n.members))
	for _, m := range n.members {
		first, twice := seen[m.key]
		switch {
		case m.key == "":
			d.errorf(m.at, "a parameter without a name")
		case twice:
			d.errorf(m.at, "%q is given twice; the first is on line %d", cut(m.key, 60), first.Line)
		default:
			seen[m.key] = m.at
		}
		if m.value.plain && oldBoolean(m.value.text) {
			d.warnf(m.value.at, "%s is a text; write true or false for a bool, quotes to keep the text", m.value.text)
		}
		d.checkKeys(m.value)
	}
}

// defaultMovements fills in what JSON and YAML may leave out: a file is
// permanent, and it is an input (or both, before IceProd 3.1).
func defaultMovements(doc *Document) {
	movement := MovementInput
	if doc.Version == "3" || doc.Version == "3.0" {
		movement = MovementBoth
	}
	for data := range allData(doc) {
		if data.Type == "" {
			data.Type = DataPermanent
		}
		if data.Movement == "" {
			data.Movement = movement
		}
	}
}

// allData yields every Data of the document, header first.
func allData(doc *Document) func(yield func(*Data) bool) {
	return func(yield func(*Data) bool) {
		each := func(list []Data) bool {
			for i := range list {
				if !yield(&list[i]) {
					return false
				}
			}
			return true
		}
		if !each(doc.Steering.Data) {
			return
		}
		for i := range doc.Tasks {
			task := &doc.Tasks[i]
			if !each(task.Data) {
				return
			}
			for j := range task.Trays {
				tray := &task.Trays[j]
				if !each(tray.Data) {
					return
				}
				for k := range tray.Modules {
					if !each(tray.Modules[k].Data) {
						return
					}
				}
			}
		}
	}
}

// wrongType reports a value of a kind the field cannot have.
func (d decoder) wrongType(f *field, key string, n *node) {
	d.errorf(n.at, "%s: want %s, not %s", d.name(f, key), f.want(), describe(n))
}

// noun names an element in the words of the file's spelling.
func (r *report) noun(e *element) string {
	if r.spelling == XML {
		return "<" + e.xml + ">"
	}
	return e.noun
}

// name names a field in the words of the file's spelling.
func (r *report) name(f *field, key string) string {
	switch {
	case r.spelling != XML:
		return fmt.Sprintf("key %q", key)
	case f.xml == "":
		return "<parameter>"
	case f.form.attribute():
		return fmt.Sprintf("attribute %q", f.xml)
	}
	return "<" + f.xml + ">"
}

const wantMap = "names and values"

// want says what the field takes.
func (f *field) want() string {
	switch f.form {
	case formLabel:
		return "a number or text"
	case formCount:
		return "a whole number or a $expression"
	case formQuantity:
		return fmt.Sprintf("a number (%s) or a $expression", f.doc)
	case formFlag:
		return "true or false"
	case formWord:
		var texts []string
		for _, w := range f.words {
			if w.means == "" {
				texts = append(texts, w.text)
			}
		}
		return "one of " + strings.Join(texts, ", ")
	case formWords, formDepends, formNames:
		return "a list of texts"
	case formTexts, formParameters, formElement, formBatch:
		return wantMap
	case formArguments:
		return "text, a list, or " + wantMap
	case formElements:
		return "a list"
	}
	return "text"
}

// vocabulary returns the words a flag or an enumeration takes.
func (f *field) vocabulary() []word {
	if f.form == formFlag {
		return flagWords
	}
	return f.words
}

// describe names a value in an error text.
func describe(n *node) string {
	switch n.kind {
	case KindNull:
		return "null"
	case KindList:
		return "a list"
	case KindMap:
		return wantMap
	case KindString:
		return fmt.Sprintf("the text %q", cut(n.text, 40))
	}
	return fmt.Sprintf("the %s %s", n.kind, cut(n.text, 40))
}

// quoteWord quotes a suggestion, if there is one.
func quoteWord(word string) string {
	if word == "" {
		return ""
	}
	return strconv.Quote(word)
}

func isExpression(text string) bool { return strings.Contains(text, "$") }

// isCount reports whether text is a whole number.
func isCount(text string) bool { return isInt(text) && text[0] != '-' }

// isQuantity reports whether text is a number that is not negative.
func isQuantity(text string) bool { return (isInt(text) || isDouble(text)) && text[0] != '-' }

// isInt reports whether text is a whole number in JSON's grammar.
func isInt(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return allDigits(digits) && (digits == "0" || digits[0] != '0')
}

// isDouble reports whether text is a number in JSON's grammar with a fraction
// or an exponent.
func isDouble(text string) bool {
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, hasFraction := strings.Cut(mantissa, ".")
	if exponent != "" && (exponent[0] == '+' || exponent[0] == '-') {
		exponent = exponent[1:]
	}
	if hasExponent && !allDigits(exponent) {
		return false
	}
	return isInt(whole) && (!hasFraction || allDigits(fraction)) && (hasFraction || hasExponent)
}

func allDigits(text string) bool {
	return text != "" && !slices.ContainsFunc([]byte(text), func(c byte) bool { return c < '0' || c > '9' })
}
