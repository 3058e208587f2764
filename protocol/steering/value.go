package steering

// Kind is the type of a parameter's value.
type Kind uint8

// The kinds. The zero Kind is a value that is not there at all.
const (
	KindAbsent Kind = iota
	KindNull
	KindBool
	KindInt
	KindDouble
	KindString
	KindList
	KindMap
)

var kindNames = [...]string{"absent", "null", "bool", "int", "double", "string", "list", "map"}

// String returns the kind's word in steering files.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Value is a typed value. Numbers are kept as written, so that neither the
// digits of a seed nor those of a spectrum change on the way.
type Value struct {
	Kind Kind
	// Text is the text of a KindString, the literal of a KindInt or KindDouble
	// in JSON's grammar, "true" or "false" for a KindBool.
	Text string
	// List holds the items of a KindList.
	List []Value
	// Map holds the members of a KindMap in the order written.
	Map      Parameters
	Position Position
}

// Absent reports whether nothing was written.
func (v Value) Absent() bool { return v.Kind == KindAbsent }

// String returns v as JSON.
func (v Value) String() string { return string(appendJSON(nil, v)) }

// TextValue is a KindString holding text.
func TextValue(text string) Value { return Value{Kind: KindString, Text: text} }

// Parameter is a named value. A name may hold "::" and anything else but
// control characters.
type Parameter struct {
	Name     string
	Value    Value
	Position Position
}

// Parameters is an ordered set of parameters; no name comes twice.
type Parameters []Parameter

// Find returns the value called name.
func (p Parameters) Find(name string) (Value, bool) {
	for i := range p {
		if p[i].Name == name {
			return p[i].Value, true
		}
	}
	return Value{}, false
}

// appendJSON appends v as compact JSON.
func appendJSON(b []byte, v Value) []byte {
	switch v.Kind {
	case KindBool, KindInt, KindDouble:
		return append(b, v.Text...)
	case KindString:
		return appendQuoted(b, v.Text)
	case KindList:
		b = append(b, '[')
		for i := range v.List {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, v.List[i])
		}
		return append(b, ']')
	case KindMap:
		b = append(b, '{')
		for i := range v.Map {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, v.Map[i].Name)
			b = append(b, ':')
			b = appendJSON(b, v.Map[i].Value)
		}
		return append(b, '}')
	default:
		return append(b, "null"...)
	}
}

// appendQuoted appends text as a JSON string, leaving what browsers fear
// (<, >, &) readable.
func appendQuoted(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r < 0x20 || r == 0x7f || r == 0x85 || r == 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
