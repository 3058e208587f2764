package expr

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// sprintf is $sprintf(format,value,…). The format stands in quotes or reaches
// to the first comma. Values are text; each becomes what its directive needs.
// As in IceProd, values beyond the format's last are ignored.
func (x *expander) sprintf(text string) (Value, error) {
	format, values, err := splitFormat(text)
	if err != nil {
		return nil, err
	}
	verbs, err := formatVerbs(format)
	if err != nil {
		return nil, err
	}
	if len(values) < len(verbs) {
		return nil, fmt.Errorf("the format needs %d values, not %d", len(verbs), len(values))
	}
	args := make([]Value, len(verbs))
	for i, verb := range verbs {
		args[i] = formatValue(verb, values[i])
	}
	ev := evaluator{budget: x.budget}
	result, _, err := ev.format(format, args)
	return result, err
}

// splitFormat separates format and values.
func splitFormat(text string) (format string, values []string, err error) {
	text = strings.TrimLeft(text, " ")
	if text == "" {
		return "", nil, errors.New("the format is missing")
	}
	if quote := text[0]; quote == '"' || quote == '\'' {
		end := strings.IndexByte(text[1:], quote)
		if end < 0 {
			return "", nil, errors.New("the closing quote of the format is missing")
		}
		format, text = text[1:end+1], strings.TrimSpace(text[end+2:])
		if text == "" {
			return format, nil, nil
		}
		if text[0] != ',' {
			return "", nil, errors.New("a comma is missing after the format")
		}
		return format, splitItems(text[1:]), nil
	}
	format, rest, found := strings.Cut(text, ",")
	if !found {
		return "", nil, errors.New("a comma is missing after the format")
	}
	return format, splitItems(rest), nil
}

// formatVerbs returns the directive letter for each value a format takes, '*'
// for a width or precision.
func formatVerbs(format string) ([]byte, error) {
	var verbs []byte
	star := func() (Value, error) {
		verbs = append(verbs, '*')
		return Int(0), nil
	}
	for {
		_, rest, found := strings.Cut(format, "%")
		if !found {
			return verbs, nil
		}
		d, n, err := parseDirective(rest, star)
		if err != nil {
			return nil, err
		}
		if d.verb != '%' {
			verbs = append(verbs, d.verb)
		}
		format = rest[n:]
	}
}

// formatValue reads a value as its directive needs it. What does not fit stays
// text, which the directive refuses.
func formatValue(verb byte, text string) Value {
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	switch verb {
	case 's', 'a':
		return text
	case 'c':
		if utf8.RuneCountInString(text) == 1 {
			return text
		}
	case 'r':
		return Infer(text)
	}
	if v, err := parseInt(text, 10); err == nil {
		return v
	}
	if f, ok := parseFloat(text); ok {
		return Float(f)
	}
	return text
}
