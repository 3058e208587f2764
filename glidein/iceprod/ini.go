package iceprod

import (
	"fmt"
	"strings"
)

// entry is one key of an INI file.
type entry struct {
	line    int
	section string // lower case
	key     string // as it is written
	value   string // lines joined by \n
}

// mistake is a line that is no INI.
type mistake struct {
	line int
	text string
	why  string
}

// parseINI reads sections, keys and values, in order.
func parseINI(text string) (entries []entry, mistakes []mistake) {
	section := ""
	named := false
	open := false // a value may go on
	for n, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		n++
		bare := strings.TrimSpace(line)
		switch {
		case bare == "":
			continue
		case strings.HasPrefix(bare, "#") || strings.HasPrefix(bare, ";"):
			continue
		case open && (line[0] == ' ' || line[0] == '\t'):
			last := &entries[len(entries)-1]
			last.value += "\n" + uncommented(bare)
			continue
		case strings.HasPrefix(bare, "["):
			name, rest, ok := strings.Cut(bare[1:], "]")
			if rest = strings.TrimSpace(rest); !ok || rest != "" && rest[0] != '#' && rest[0] != ';' {
				mistakes = append(mistakes, mistake{n, bare, "want [section]"})
				continue
			}
			section, named, open = strings.ToLower(strings.TrimSpace(name)), true, false
			continue
		}
		at := strings.IndexAny(bare, "=:")
		switch {
		case at < 0:
			mistakes = append(mistakes, mistake{n, bare, "want KEY = VALUE, or [section]"})
			open = false
			continue
		case strings.TrimSpace(bare[:at]) == "":
			mistakes = append(mistakes, mistake{n, bare, "it has no key"})
			open = false
			continue
		case !named:
			mistakes = append(mistakes, mistake{n, bare, "it is in no section"})
			open = false
			continue
		}
		entries = append(entries, entry{n, section, strings.TrimSpace(bare[:at]), uncommented(strings.TrimSpace(bare[at+1:]))})
		open = true
	}
	return entries, mistakes
}

// uncommented cuts what follows a semicolon behind a blank.
func uncommented(value string) string {
	for _, mark := range []string{" ;", "\t;"} {
		value, _, _ = strings.Cut(value, mark)
	}
	if strings.HasPrefix(value, ";") {
		return ""
	}
	return strings.TrimSpace(value)
}

// defaults is the section whose keys all others see.
const defaults = "default"

// maxDepth is how deep values may name others. Source: Python's ConfigParser.
const maxDepth = 10

// maxLength bounds a value that names others, maxNames how often it does.
const (
	maxLength = 64 << 10
	maxNames  = 1000
)

// interpolate replaces %(name)s by the value of that key.
func interpolate(entries []entry, e *entry) (string, error) {
	table := map[string]string{}
	for _, section := range []string{defaults, e.section} {
		for i := range entries {
			if entries[i].section == section {
				table[strings.ToLower(entries[i].key)] = entries[i].value
			}
		}
	}
	names := maxNames
	return expand(e.value, table, 0, &names)
}

func expand(value string, table map[string]string, depth int, names *int) (string, error) {
	if depth > maxDepth {
		return "", fmt.Errorf("its %%(…)s go more than %d deep", maxDepth)
	}
	var b strings.Builder
	for {
		at := strings.IndexByte(value, '%')
		if at < 0 || at+1 == len(value) {
			b.WriteString(value)
			return b.String(), nil
		}
		b.WriteString(value[:at])
		switch value[at+1] {
		case '%':
			b.WriteByte('%')
			value = value[at+2:]
			continue
		case '(':
		default:
			b.WriteByte('%')
			value = value[at+1:]
			continue
		}
		name, rest, ok := strings.Cut(value[at+2:], ")s")
		if !ok {
			return "", fmt.Errorf("it has a %%( without )s")
		}
		inner, ok := table[strings.ToLower(name)]
		if !ok {
			return "", fmt.Errorf("it names %q, which neither its section nor [DEFAULT] has", name)
		}
		if *names--; *names < 0 {
			return "", fmt.Errorf("it names more than %d others", maxNames)
		}
		inner, err := expand(inner, table, depth+1, names)
		if err != nil {
			return "", err
		}
		b.WriteString(inner)
		if b.Len() > maxLength {
			return "", fmt.Errorf("with what it names it has more than %d bytes", maxLength)
		}
		value = rest
	}
}
