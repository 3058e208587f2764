package steering

import (
	"cmp"
	"encoding"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity says whether a problem stops a document from being submitted.
type Severity uint8

// The severities.
const (
	SeverityError Severity = iota + 1
	SeverityWarning
)

var _ encoding.TextMarshaler = Severity(0)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == SeverityWarning {
		return "warning"
	}
	return "error"
}

// MarshalText writes the severity's word, for -o json.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one thing wrong with a steering file.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	// Excerpt is the source line; Problem.Format draws a caret below Column.
	Excerpt string `json:"excerpt,omitempty"`
	// Suggestion is the nearest right word, empty if none is near.
	Suggestion string `json:"suggestion,omitempty"`
}

// Error returns the problem on one line: file:line:column: severity: message.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(p.Severity.String() + ": " + p.Message)
	if p.Suggestion != "" {
		b.WriteString(" (did you mean " + p.Suggestion + "?)")
	}
	return b.String()
}

// Format returns the problem as people read it: the one line, the source line
// and a caret below the column.
func (p Problem) Format() string {
	if p.Excerpt == "" {
		return p.Error() + "\n"
	}
	number := fmt.Sprintf("%5d", p.Line)
	var margin strings.Builder
	column := 1
	for _, r := range p.Excerpt {
		if column >= p.Column {
			break
		}
		// A tab stays a tab, so that the caret stands right whatever its width.
		if r == '\t' {
			margin.WriteByte('\t')
		} else {
			margin.WriteByte(' ')
		}
		column++
	}
	for ; column < p.Column && column < maxExcerpt; column++ {
		margin.WriteByte(' ')
	}
	return fmt.Sprintf("%s\n%s | %s\n%s | %s^\n", p.Error(), number, p.Excerpt, strings.Repeat(" ", len(number)), margin.String())
}

// Problems is everything wrong with a file, in the file's order.
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Format returns every problem with its excerpt.
func (ps Problems) Format() string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.Format())
	}
	return b.String()
}

// HasErrors reports whether any problem is more than a warning.
func (ps Problems) HasErrors() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == SeverityError })
}

// Err returns ps as an error if it has errors, otherwise nil.
func (ps Problems) Err() error {
	if ps.HasErrors() {
		return ps
	}
	return nil
}

// Sort orders problems by file and position and drops repetitions.
func (ps Problems) Sort() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(ps)
}

// maxExcerpt bounds a quoted source line, in characters. A generated file may
// be one line of megabytes.
const maxExcerpt = 240

// Source is a file as problems quote it.
type Source struct {
	name  string
	lines []string
}

// NewSource prepares text, known to its author as name, for quoting.
func NewSource(name string, text []byte) *Source {
	return &Source{name: name, lines: strings.Split(string(text), "\n")}
}

// Problem returns a problem of this file at a position.
func (s *Source) Problem(at Position, severity Severity, message, suggestion string) Problem {
	p := Problem{
		File: s.name, Line: at.Line, Column: at.Column, Severity: severity, Message: visible(message), Suggestion: visible(suggestion),
	}
	if at.Line < 1 || at.Line > len(s.lines) {
		return p
	}
	line := strings.TrimRight(s.lines[at.Line-1], "\r")
	if at.Column <= maxExcerpt {
		p.Excerpt = visible(cut(line, maxExcerpt))
	}
	return p
}

// visible replaces control characters but tabs, which a terminal would obey.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || 0x7f <= r && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, text)
}

// cut returns the first characters of text, in valid UTF-8.
func cut(text string, characters int) string {
	if len(text) > 4*characters {
		text = text[:4*characters]
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if utf8.RuneCountInString(text) <= characters {
		return text
	}
	return string([]rune(text)[:characters]) + "…"
}
