package expr

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Infer gives text the type it reads as, since a dataset in JSON may write a
// number in quotes because an expression stood there: JSON (with ' allowed for
// "), true and false in any case. Text whose digits would change, such as
// 000012 or 1.10, stays text; so does text in double quotes.
func Infer(text string) Value {
	switch strings.ToLower(text) {
	case "":
		return text
	case "true":
		return true
	case "false":
		return false
	}
	switch c := text[0]; {
	case text == "null":
		return nil
	case c == '-' || isDigit(c):
		if v, ok := inferNumber(text); ok {
			return v
		}
	case c == '[' || c == '{':
		if v, ok := inferContainer(text); ok {
			return v
		}
	}
	return text
}

// inferNumber reads a number of JSON's grammar.
func inferNumber(text string) (Value, bool) {
	if len(text) > MaxIntBits || !json.Valid([]byte(text)) {
		return nil, false
	}
	if strings.Trim(text, "-0123456789") == "" {
		i, ok := new(big.Int).SetString(text, 10)
		if !ok || i.BitLen() > MaxIntBits || i.String() != text {
			return nil, false
		}
		return i, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, false
	}
	if !strings.ContainsAny(text, "eE") && Float(f).String() != text {
		return nil, false
	}
	return Float(f), true
}

// inferContainer reads a JSON list or map, or one with Python's quotes.
func inferContainer(text string) (Value, bool) {
	if len(text) > MaxString {
		return nil, false
	}
	v, err := ParseJSON(text)
	if err != nil {
		v, err = ParseJSON(strings.ReplaceAll(text, "'", `"`))
	}
	return v, err == nil
}

// ParseJSON reads a JSON text, keeping the order of keys and the difference of
// integers and floats.
func ParseJSON(text string) (Value, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	v, err := decodeJSON(d, 0)
	if err != nil {
		return nil, err
	}
	if d.More() || d.InputOffset() < int64(len(strings.TrimRight(text, " \t\r\n"))) {
		return nil, errors.New("text after the JSON value")
	}
	return v, nil
}

func decodeJSON(d *json.Decoder, depth int) (Value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return decodeNumber(t.String())
	case json.Delim:
		if depth == maxNesting {
			return nil, ErrLimit
		}
		if t == '[' {
			list := List{}
			for d.More() {
				item, err := decodeJSON(d, depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, item)
			}
			_, err := d.Token()
			return list, err
		}
		var pairs []Value
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := decodeJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, key, value)
		}
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		return makeDict(pairs)
	}
	return t, nil // nil, bool, string
}

func decodeNumber(text string) (Value, error) {
	if strings.ContainsAny(text, ".eE") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && !math.IsInf(f, 0) {
			return nil, err
		}
		return Float(f), nil
	}
	if len(text) > MaxIntBits {
		return nil, ErrLimit
	}
	i, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return nil, errors.New("not a number")
	}
	return fitInt(i)
}
