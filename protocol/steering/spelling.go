package steering

import (
	"bytes"
	"fmt"
)

// Spelling is one of the three ways to write a document.
type Spelling uint8

// The spellings.
const (
	XML Spelling = iota + 1
	JSON
	YAML
)

// The budget of one file; whatever exceeds it is refused, never cut.
// Source: research on hostile input (threat T16); the largest real dataset
// configuration known has some 3,000 nodes.
const (
	MaxBytes = 16 << 20
	// MaxDepth bounds the nesting of elements, objects and arrays.
	MaxDepth = 64
	// MaxValueDepth bounds lists and maps inside one parameter, so that a
	// document that fits one spelling fits all.
	MaxValueDepth = 32
	// MaxNodes bounds the elements and values of a document, counted in the
	// model and so alike for all spellings.
	MaxNodes = 100_000
	// MaxProblems bounds a report; a file in the wrong language has one problem
	// per word otherwise.
	MaxProblems = 200
)

// maxRawNodes bounds what a reader builds before the model can be counted: XML
// spends up to four pieces of markup on one value.
const maxRawNodes = 5 * MaxNodes

// String returns the spelling's word on command lines.
func (s Spelling) String() string {
	switch s {
	case XML:
		return "xml"
	case JSON:
		return "json"
	case YAML:
		return "yaml"
	}
	return "unknown"
}

// ParseSpelling reads a spelling's word.
func ParseSpelling(word string) (Spelling, error) {
	for _, s := range []Spelling{XML, JSON, YAML} {
		if s.String() == word {
			return s, nil
		}
	}
	return 0, fmt.Errorf("spelling %q: want xml, json or yaml", word)
}

// byteOrderMark is what Windows editors put before UTF-8 text.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Detect tells the spelling of source by its first character: "<" is XML, "{"
// and "[" are JSON, anything else YAML.
func Detect(source []byte) Spelling {
	source = bytes.TrimLeft(bytes.TrimPrefix(source, byteOrderMark), " \t\r\n")
	switch {
	case len(source) == 0:
		return YAML
	case source[0] == '<':
		return XML
	case source[0] == '{' || source[0] == '[':
		return JSON
	}
	return YAML
}
