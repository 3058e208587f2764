package glidein

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// LoadConfig reads and checks a site's configuration. Every unknown key and every
// wrong value is reported, with its line.
func LoadConfig(file string) (*Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c, err := readConfig(b, file)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	c.fill(filepath.Dir(abs))
	return c, errors.Join(c.Validate(), c.validatePilots())
}

// readConfig reads the file twice where it has several queues: their names and what
// they have in common first, then each of them over a copy of that.
func readConfig(b []byte, file string) (*Config, error) {
	first := new(Config)
	if err := decodeConfig(b, file, first); err != nil {
		return nil, err
	}
	if len(first.Queues) == 0 {
		return first, nil
	}
	c := &Config{Queues: map[string]*Queue{}}
	for name := range first.Queues {
		q := first.Queue.clone()
		q.Label = name
		c.Queues[name] = q
	}
	return c, decodeConfig(b, file, c)
}

func decodeConfig(b []byte, file string, c *Config) error {
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		var all []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			row, column := e.Position()
			key := strings.Join(e.Key(), ".")
			if lines := bytes.Split(b, []byte("\n")); bytes.HasPrefix(bytes.TrimSpace(lines[row-1]), []byte("[")) {
				all = append(all, fmt.Errorf("%s:%d:%d: unknown section %q%s", file, row, column, key, nearestSection(e.Key())))
				continue
			}
			all = append(all, fmt.Errorf("%s:%d:%d: unknown key %q%s", file, row, column, key, nearest(e.Key())))
		}
		return errors.Join(all...)
	case errors.As(err, &wrong):
		row, column := wrong.Position()
		return fmt.Errorf("%s:%d:%d: %s: %s", file, row, column, strings.Join(wrong.Key(), "."), strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", file, err)
}

// clone is a copy that shares no list with q.
func (q *Queue) clone() *Queue {
	c := *q
	unshare(reflect.ValueOf(&c).Elem())
	return &c
}

// unshare gives a structure lists and maps of its own.
func unshare(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Kind() == reflect.Struct:
			unshare(f)
		case f.Kind() == reflect.Slice && !f.IsNil():
			f.Set(reflect.AppendSlice(reflect.MakeSlice(f.Type(), 0, f.Len()), f))
		case f.Kind() == reflect.Map && !f.IsNil():
			own := reflect.MakeMap(f.Type())
			for _, key := range f.MapKeys() {
				own.SetMapIndex(key, f.MapIndex(key))
			}
			f.Set(own)
		}
	}
}

// anyName stands in Keys for a name that the site gives.
const anyName = "*"

// Keys are all keys that the file may have, as section.key in the order of the types;
// * stands for a name that the site gives.
func Keys() []string { return keysOf(reflect.TypeFor[Config](), nil, nil) }

func keysOf(t reflect.Type, at, all []string) []string {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		here, inner := append(slices.Clone(at), tag), f.Type
		if inner.Kind() == reflect.Map {
			here, inner = append(here, anyName), inner.Elem()
		}
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			all = keysOf(inner, here, all)
		} else {
			all = append(all, strings.Join(here, "."))
		}
	}
	return all
}

// nearest suggests the key that differs least from a wrong one, or is in another section.
func nearest(key []string) string {
	wrong, last := strings.Join(key, "."), key[len(key)-1]
	best, distance := "", 4
	for _, k := range Keys() {
		words := named(k, key)
		k := strings.Join(words, ".")
		d := editDistance(wrong, k)
		if words[len(words)-1] == last && !slices.Contains(words, anyName) {
			d = min(d, 3)
		}
		if d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// named is a key with the names that the site gave in another.
func named(key string, like []string) []string {
	words := strings.Split(key, ".")
	for i := range min(len(words), len(like)) {
		if words[i] == anyName {
			words[i] = like[i]
		}
	}
	return words
}

// nearestSection suggests the section that differs least from a wrong one.
func nearestSection(key []string) string {
	if len(key) == 2 && key[0] == "queue" {
		return fmt.Sprintf("; a queue with a name of its own is [queues.%s]", key[1])
	}
	wrong := strings.Join(key, ".")
	best, distance := "", 4
	for _, k := range Keys() {
		words := named(k, key)
		section := strings.Join(words[:len(words)-1], ".")
		if d := editDistance(wrong, section); d < distance && section != "" {
			best, distance = section, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean [%s]?", best)
}

// editDistance is the Levenshtein distance of two short texts.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
