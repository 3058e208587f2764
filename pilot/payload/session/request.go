package session

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"floe/protocol"
)

// Limits of what a payload may say.
const (
	// MaxLine is the longest request, without its line feed: some forty paths.
	MaxLine = 4096
	// MaxPaths is how many paths a checkpoint may name; directories hold more.
	MaxPaths = 64
)

// Code names what is wrong with a request. Programs may rely on the names.
type Code string

// The codes.
const (
	CodeSyntax    Code = "syntax"     // not a request, or with the wrong words
	CodeName      Code = "name"       // no name, or one longer than protocol.MaxName
	CodeNotFinite Code = "not-finite" // no number, NaN, infinity, or a sum that would be
	CodeRange     Code = "range"      // a number outside of its range
	CodeTooMany   Code = "too-many"   // names, paths or connections
	CodeTooLong   Code = "too-long"   // a line or text; after a line the connection ends
	CodeNoModule  Code = "no-module"  // no module runs
	CodeNoLimit   Code = "no-limit"   // nothing limits the time of this task
	CodePath      Code = "path"       // a path that is not there, or leads outside the work directory
	CodeTooLarge  Code = "too-large"  // a checkpoint larger than the scratch disk granted
	CodeRefused   Code = "refused"    // the pilot could not do it
)

// Error is a refused request, as both sides see it.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Text }

// Errorf makes an Error.
func Errorf(c Code, format string, args ...any) error { return &Error{c, fmt.Sprintf(format, args...)} }

// verb is what a request wants.
type verb uint8

const (
	verbSet verb = iota + 1
	verbAdd
	verbProgress
	verbSaved
	verbRemaining
	verbAttempt
)

// request is one line that was understood.
type request struct {
	verb  verb
	name  string   // of a statistic, or the key of attempt
	value float64  // of a statistic; the fraction; the margin in seconds
	text  string   // of progress
	paths []string // of a checkpoint
}

// parse reads a line without its line feed.
func parse(line string) (r request, err error) {
	if len(line) > MaxLine {
		return r, Errorf(CodeTooLong, "a line has at most %d bytes", MaxLine)
	}
	if !utf8.ValidString(line) {
		return r, Errorf(CodeSyntax, "not UTF-8")
	}
	line = strings.TrimSuffix(line, "\r")
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "statistic":
		return parseStatistic(rest)
	case "progress":
		return parseProgress(rest)
	case "checkpoint":
		return parseCheckpoint(rest)
	case "remaining":
		r.verb = verbRemaining
		if rest != "" {
			r.value, err = number("margin", rest)
			if err == nil && (r.value < 0 || r.value > float64(protocol.MaxWalltime)) {
				err = Errorf(CodeRange, "margin %s: want 0 to %d seconds", rest, protocol.MaxWalltime)
			}
		}
		return r, err
	case "attempt":
		r.verb, r.name = verbAttempt, rest
		return r, nil
	}
	return r, Errorf(CodeSyntax, "%.40q: want statistic, progress, checkpoint, remaining or attempt", word)
}

func parseStatistic(rest string) (r request, err error) {
	how, rest, _ := strings.Cut(rest, " ")
	switch how {
	case "set":
		r.verb = verbSet
	case "add":
		r.verb = verbAdd
	default:
		return r, Errorf(CodeSyntax, "statistic %.40q: want set or add", how)
	}
	at := strings.LastIndexByte(rest, ' ')
	if at < 0 {
		return r, Errorf(CodeSyntax, "statistic: want a name and a number")
	}
	r.name = StatisticName(rest[:at])
	if r.name == "" || len(r.name) > protocol.MaxName {
		return r, Errorf(CodeName, "statistic %.40q: a name has 1 to %d bytes", r.name, protocol.MaxName)
	}
	r.value, err = number("statistic "+r.name, rest[at+1:])
	return r, err
}

func parseProgress(rest string) (r request, err error) {
	fraction, text, _ := strings.Cut(rest, " ")
	r.verb = verbProgress
	if r.value, err = number("progress", fraction); err != nil {
		return r, err
	}
	if r.value < 0 || r.value > 1 {
		return r, Errorf(CodeRange, "progress %s: want 0 to 1", fraction)
	}
	if len(text) > protocol.MaxProgressText {
		return r, Errorf(CodeTooLong, "progress: text of %d bytes, limit %d", len(text), protocol.MaxProgressText)
	}
	r.text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' ' // it is shown on terminals
		}
		return c
	}, text)
	return r, nil
}

func parseCheckpoint(rest string) (r request, err error) {
	how, paths, _ := strings.Cut(rest, " ")
	if how != "saved" {
		return r, Errorf(CodeSyntax, "checkpoint %.40q: want saved", how)
	}
	r.verb = verbSaved
	if paths == "" {
		return r, nil
	}
	r.paths = strings.Split(paths, "\t")
	if len(r.paths) > MaxPaths {
		return r, Errorf(CodeTooMany, "checkpoint: %d paths, limit %d; name their directory", len(r.paths), MaxPaths)
	}
	for _, p := range r.paths {
		if p == "" || strings.ContainsRune(p, 0) {
			return r, Errorf(CodePath, "checkpoint: path %q", p)
		}
	}
	return r, nil
}

// number reads a finite number.
func number(what, text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || text == "" || strings.ContainsAny(text, "xX_") {
		return 0, Errorf(CodeNotFinite, "%s: %.40q is no number", what, text)
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, Errorf(CodeNotFinite, "%s: %.40s is not a finite number", what, text)
	}
	return v, nil
}

// StatisticName replaces what the name of a statistic may not hold.
func StatisticName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-:/", r):
			return r
		}
		return '_'
	}, s)
}
