package expr

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// token is one word of a Python expression. The kinds are the operators
// themselves ("+", "<=", "("), and the names below.
type token struct {
	kind       string
	value      Value // of a literal
	text       string
	start, end int
}

const (
	tokenEnd     = "end of expression"
	tokenLiteral = "literal"
	tokenName    = "name"
)

// operators, longest first where one begins another.
var operators = []string{
	"**", "//", "==", "!=", "<=", ">=", "<<", ">>",
	"+", "-", "*", "/", "%", "^", "~", "&", "|", "<", ">", "(", ")", "[", "]", "{", "}", ",", ":",
}

// keywords are names with grammar of their own; those of Python that this
// language has no use for are refused by name.
var keywords = map[string]bool{"and": true, "or": true, "not": true, "in": true, "if": true, "else": true}

var forbidden = map[string]bool{
	"import": true, "lambda": true, "for": true, "while": true, "def": true, "class": true, "yield": true,
	"await": true, "async": true, "exec": true, "print": true, "open": true, "is": true, "with": true,
	"from": true, "global": true, "del": true, "return": true, "assert": true, "raise": true, "try": true,
}

// syntaxError is something that is not an expression of this language.
func syntaxError(at int, format string, args ...any) error {
	return fmt.Errorf("column %d: %s", at+1, fmt.Sprintf(format, args...))
}

// lex splits a Python expression into tokens.
func lex(text string) ([]token, error) {
	if len(text) > MaxString {
		return nil, fmt.Errorf("%w: expression longer than %d bytes", ErrLimit, MaxString)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("not valid UTF-8")
	}
	var tokens []token
	for at := 0; ; {
		for at < len(text) && strings.IndexByte(" \t\r\n\f", text[at]) >= 0 {
			at++
		}
		if at == len(text) {
			return append(tokens, token{kind: tokenEnd, start: at, end: at}), nil
		}
		t, err := lexOne(text, at)
		if err != nil {
			return nil, err
		}
		t.start, t.text = at, text[at:t.end]
		tokens = append(tokens, t)
		at = t.end
	}
}

func lexOne(text string, at int) (token, error) {
	c := text[at]
	switch {
	case c == '"' || c == '\'':
		return lexString(text, at, at, false)
	case isDigit(c) || c == '.' && at+1 < len(text) && isDigit(text[at+1]):
		return lexNumber(text, at)
	case isNameStart(c):
		end := at
		for end < len(text) && (isNameStart(text[end]) || isDigit(text[end])) {
			end++
		}
		word := text[at:end]
		if end < len(text) && (text[end] == '"' || text[end] == '\'') {
			switch strings.ToLower(word) {
			case "r":
				return lexString(text, at, end, true)
			case "u":
				return lexString(text, at, end, false)
			}
			return token{}, syntaxError(at, "text with prefix %q is not part of this language", word)
		}
		return lexName(word, at, end)
	}
	for _, op := range operators {
		if strings.HasPrefix(text[at:], op) {
			return token{kind: op, end: at + len(op)}, nil
		}
	}
	if c == '.' {
		return token{}, syntaxError(at, "attributes (a.b) are not part of this language")
	}
	r, _ := utf8.DecodeRuneInString(text[at:])
	return token{}, syntaxError(at, "unexpected %q", r)
}

func lexName(word string, at, end int) (token, error) {
	t := token{kind: tokenLiteral, end: end}
	switch word {
	// true, false and null come from values that were lists or dicts, written
	// as JSON.
	case "True", "true":
		t.value = true
	case "False", "false":
		t.value = false
	case "None", "null":
	default:
		switch {
		case forbidden[word]:
			return token{}, syntaxError(at, "%q is not part of this language", word)
		case keywords[word]:
			t.kind = word
		default:
			t.kind = tokenName
		}
	}
	return t, nil
}

func isDigit(c byte) bool     { return c >= '0' && c <= '9' }
func isNameStart(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// lexNumber reads an integer or float literal as Python defines them.
func lexNumber(text string, at int) (token, error) {
	end := at
	for end < len(text) {
		c := text[end]
		switch {
		case isDigit(c) || isNameStart(c) || c == '.':
		case (c == '+' || c == '-') && (text[end-1] == 'e' || text[end-1] == 'E') && !isRadix(text[at:end]):
		default:
			v, err := parseNumber(text[at:end], at)
			return token{kind: tokenLiteral, value: v, end: end}, err
		}
		// Python ends a number before a keyword (1if x else 2); here they are
		// told apart by a space.
		end++
	}
	v, err := parseNumber(text[at:end], at)
	return token{kind: tokenLiteral, value: v, end: end}, err
}

func isRadix(s string) bool {
	return len(s) > 1 && s[0] == '0' && strings.IndexByte("xXoObB", s[1]) >= 0
}

func parseNumber(s string, at int) (Value, error) {
	digits, ok := dropUnderscores(s)
	if !ok {
		return nil, syntaxError(at, "%q is not a number", s)
	}
	if isRadix(digits) {
		base := map[byte]int{'x': 16, 'o': 8, 'b': 2}[digits[1]|0x20]
		if i, ok := new(big.Int).SetString(digits[2:], base); ok && isHexDigits(digits[2:]) {
			return fitInt(i)
		}
		return nil, syntaxError(at, "%q is not a number", s)
	}
	if strings.Trim(digits, "0123456789") == "" {
		if digits[0] == '0' && strings.Trim(digits, "0") != "" {
			return nil, syntaxError(at, "%q: an integer does not begin with 0 (octal is 0o17)", s)
		}
		i, _ := new(big.Int).SetString(digits, 10)
		return fitInt(i)
	}
	if strings.Trim(digits, "0123456789.eE+-") == "" {
		f, err := strconv.ParseFloat(digits, 64)
		if err == nil || math.IsInf(f, 0) {
			return Float(f), nil
		}
	}
	return nil, syntaxError(at, "%q is not a number", s)
}

func isHexDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// dropUnderscores removes the single underscores that may stand between digits.
func dropUnderscores(s string) (string, bool) {
	if !strings.Contains(s, "_") {
		return s, true
	}
	for i := range len(s) {
		if s[i] != '_' {
			continue
		}
		before := i > 0 && (isHexDigits(s[i-1:i]) || i == 2 && isRadix(s))
		if !before || i+1 == len(s) || !isHexDigits(s[i+1:i+2]) {
			return "", false
		}
		if !isRadix(s) && !(isDigit(s[i-1]) && isDigit(s[i+1])) {
			return "", false
		}
	}
	return strings.ReplaceAll(s, "_", ""), true
}

// fitInt refuses integers beyond MaxIntBits.
func fitInt(i *big.Int) (Value, error) {
	if i.BitLen() > MaxIntBits {
		return nil, fmt.Errorf("%w: integer of more than %d bits", ErrLimit, MaxIntBits)
	}
	return i, nil
}

// lexString reads a text literal whose quote stands at open.
func lexString(text string, start, open int, raw bool) (token, error) {
	quote := text[open : open+1]
	if strings.HasPrefix(text[open:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	var b []byte
	for at := open + len(quote); at < len(text); {
		c := text[at]
		switch {
		case strings.HasPrefix(text[at:], quote):
			return token{kind: tokenLiteral, value: string(b), end: at + len(quote)}, nil
		case c == '\n' && len(quote) == 1:
			return token{}, syntaxError(start, "text without a closing quote")
		case c == '\\' && at+1 < len(text):
			n := 0
			if raw {
				_, size := utf8.DecodeRuneInString(text[at+1:])
				b, n = append(b, text[at:at+1+size]...), 1+size
			} else if b, n = appendEscape(b, text[at:]); n == 0 {
				return token{}, syntaxError(at, "bad escape in text")
			}
			at += n
		default:
			b = append(b, c)
			at++
		}
	}
	return token{}, syntaxError(start, "text without a closing quote")
}

var simpleEscapes = map[byte]string{
	'\\': "\\", '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\n': "",
}

// appendEscape appends what the escape at the beginning of s stands for and
// returns its length, 0 if it is malformed.
func appendEscape(b []byte, s string) ([]byte, int) {
	c := s[1]
	if plain, ok := simpleEscapes[c]; ok {
		return append(b, plain...), 2
	}
	first, base := 2, 16
	var last int
	switch c {
	case 'x':
		last = 4
	case 'u':
		last = 6
	case 'U':
		last = 10
	case 'N':
		return b, 0
	default:
		if c < '0' || c > '7' {
			// Python keeps the backslash of an escape it does not know.
			return append(b, '\\'), 1
		}
		first, base = 1, 8
		for last = 2; last < min(4, len(s)) && s[last] >= '0' && s[last] <= '7'; {
			last++
		}
	}
	if last > len(s) {
		return b, 0
	}
	n, err := strconv.ParseUint(s[first:last], base, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return b, 0
	}
	return utf8.AppendRune(b, rune(n)), last
}
