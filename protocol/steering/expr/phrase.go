package expr

import "strings"

// A text is plain text with phrases in it:
//
//	phrase = "$" [ name ] "(" text ")" { "[" text "]" }
//	name   = a letter or "_", then letters, digits or "_"
//
// A phrase ends at the ")" that matches its "("; quotes have no meaning here.
// "\" before one of $ ( ) [ ] \ makes that character plain; before any other
// it stands for itself. A "$" that begins no phrase is plain text, and so is a
// phrase that is never closed.

// part is a piece of a text: plain text, or a phrase.
type part struct {
	text   string
	phrase *phrase
}

// phrase is one $name(body)[key]….
type phrase struct {
	start, end int // its bytes in the text
	name       string
	body       []part
	keys       [][]part
}

// flaw is something in a text that looks like a phrase and is none.
type flaw struct {
	start  int
	reason string
}

// phraseParser splits a text. It finds the matching brackets in one pass
// first, so that its time is linear in the text whatever stands there.
type phraseParser struct {
	text  string
	match map[int]int // "(" and "[" to their ")" and "]"
	depth int
	flaws []flaw
}

func parsePhrases(text string) ([]part, []flaw) {
	if !strings.ContainsAny(text, `$\`) {
		return []part{{text: text}}, nil
	}
	p := &phraseParser{text: text, match: matchBrackets(text)}
	return p.parts(0, len(text)), p.flaws
}

func matchBrackets(text string) map[int]int {
	match := map[int]int{}
	var round, square []int
	for at := 0; at < len(text); at++ {
		switch text[at] {
		case '\\':
			if escapes(text, at) {
				at++
			}
		case '(':
			round = append(round, at)
		case '[':
			square = append(square, at)
		case ')':
			if n := len(round); n > 0 {
				match[round[n-1]], round = at, round[:n-1]
			}
		case ']':
			if n := len(square); n > 0 {
				match[square[n-1]], square = at, square[:n-1]
			}
		}
	}
	return match
}

// escapes reports whether the backslash at an offset makes the next character
// plain.
func escapes(text string, at int) bool {
	return at+1 < len(text) && strings.IndexByte(`$()[]\`, text[at+1]) >= 0
}

// parts splits text[from:to].
func (p *phraseParser) parts(from, to int) []part {
	var parts []part
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			parts = append(parts, part{text: plain.String()})
			plain.Reset()
		}
	}
	for at := from; at < to; {
		switch c := p.text[at]; {
		case c == '\\' && escapes(p.text[:to], at):
			plain.WriteByte(p.text[at+1])
			at += 2
		case c == '$':
			if ph := p.phrase(at, to); ph != nil {
				flush()
				parts = append(parts, part{phrase: ph})
				at = ph.end
				continue
			}
			plain.WriteByte(c)
			at++
		default:
			plain.WriteByte(c)
			at++
		}
	}
	flush()
	return parts
}

// phrase reads the phrase that begins at a "$", nil if there is none.
func (p *phraseParser) phrase(start, to int) *phrase {
	open := start + 1
	for open < to && (isNameStart(p.text[open]) || open > start+1 && isDigit(p.text[open])) {
		open++
	}
	if open == to || p.text[open] != '(' {
		return nil
	}
	end, closed := p.match[open]
	if !closed || end >= to {
		p.flaws = append(p.flaws, flaw{start, "a ) is missing"})
		return nil
	}
	if p.depth == MaxDepth {
		p.flaws = append(p.flaws, flaw{start, "phrases nest deeper than 20"})
		return nil
	}
	p.depth++
	defer func() { p.depth-- }()
	ph := &phrase{start: start, name: p.text[start+1 : open], body: p.parts(open+1, end), end: end + 1}
	for ph.end < to && p.text[ph.end] == '[' {
		end, closed := p.match[ph.end]
		if !closed || end >= to {
			break
		}
		ph.keys = append(ph.keys, p.parts(ph.end+1, end))
		ph.end = end + 1
	}
	return ph
}
