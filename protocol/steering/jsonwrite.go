package steering

import "strings"

// jsonLine is how long a list of scalars may be to stand on one line.
const jsonLine = 80

// printJSON returns n as indented JSON with a final newline.
func printJSON(n *node) []byte {
	return append(appendIndented(nil, n, 0), '\n')
}

func appendIndented(b []byte, n *node, level int) []byte {
	switch {
	case n.kind == KindList && len(n.items) == 0:
		return append(b, "[]"...)
	case n.kind == KindMap && len(n.members) == 0:
		return append(b, "{}"...)
	case n.kind == KindList:
		if line, ok := oneLine(n, level); ok {
			return append(b, line...)
		}
		b = append(b, '[')
		for i, item := range n.items {
			b = appendIndented(separate(b, i, level+1), item, level+1)
		}
		return append(separate(b, 0, level), ']')
	case n.kind == KindMap:
		b = append(b, '{')
		for i, m := range n.members {
			b = append(appendQuoted(separate(b, i, level+1), m.key), ": "...)
			b = appendIndented(b, m.value, level+1)
		}
		return append(separate(b, 0, level), '}')
	}
	return appendJSON(b, n.valueOf())
}

// separate starts the line of the i-th entry.
func separate(b []byte, i, level int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return append(append(b, '\n'), strings.Repeat("  ", level)...)
}

// oneLine returns a list of short scalars as one line.
func oneLine(n *node, level int) (string, bool) {
	var b []byte
	for i, item := range n.items {
		if item.container() {
			return "", false
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendJSON(b, item.valueOf())
		if len(b)+2*level > jsonLine {
			return "", false
		}
	}
	return "[" + string(b) + "]", true
}
