package protocol_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"floe/protocol"
	"floe/protocol/wiretest"
)

var update = flag.Bool("update", false, "write the wire samples of this version anew; never those of a release")

// wireMessage is a message between machines. Coordinators read requests strictly;
// pilots and sites skip what they do not know in replies.
type wireMessage struct {
	value   func() any
	request bool
}

// wireMessages are all that pilots and sites exchange with coordinators as CBOR.
var wireMessages = map[string]wireMessage{
	"EnrolRequest":    {func() any { return new(protocol.EnrolRequest) }, true},
	"EnrolReply":      {func() any { return new(protocol.EnrolReply) }, false},
	"RenewRequest":    {func() any { return new(protocol.RenewRequest) }, true},
	"ExchangeRequest": {func() any { return new(protocol.ExchangeRequest) }, true},
	"ExchangeReply":   {func() any { return new(protocol.ExchangeReply) }, false},
	"Report":          {func() any { return new(protocol.Report) }, true}, // in a SignedReport
	"JoinRequest":     {func() any { return new(protocol.JoinRequest) }, true},
	"JoinReply":       {func() any { return new(protocol.JoinReply) }, false},
	"LaunchRequest":   {func() any { return new(protocol.LaunchRequest) }, true},
	"LaunchReply":     {func() any { return new(protocol.LaunchReply) }, false},
	"Error":           {func() any { return new(protocol.Error) }, false},
	"ModulePins":      {func() any { return new(protocol.ModulePins) }, false}, // a blob that a lease names
}

// filled sets every field of a message: numbers that differ, enums to their first
// value, lists to one element.
func filled(value any) any {
	next, within := int64(0), map[reflect.Type]bool{}
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		next++
		switch v.Kind() {
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Struct:
			within[v.Type()] = true
			for i := range v.NumField() {
				fill(v.Field(i))
			}
			delete(within, v.Type())
		case reflect.Slice:
			if within[v.Type().Elem()] {
				return // the alternatives of an alternative
			}
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		case reflect.Array:
			for i := range v.Len() {
				fill(v.Index(i))
			}
		case reflect.Map:
			key, element := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key)
			fill(element)
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(key, element)
		case reflect.String:
			v.SetString(fmt.Sprint("w", next))
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Uint8: // also the kinds of things, and bytes
			v.SetUint(1)
		case reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
			v.SetUint(uint64(next))
		case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
			v.SetInt(next)
		case reflect.Float32, reflect.Float64:
			v.SetFloat(0.5)
		default:
			panic(fmt.Sprintf("%v: no sample of it", v.Type()))
		}
	}
	fill(reflect.ValueOf(value).Elem())
	return value
}

// Messages that earlier versions sent are read, and nothing in them is lost; those of
// this version are written as its samples have them.
func TestWireSamples(t *testing.T) {
	own := wiretest.Minor(protocol.Version)
	for _, name := range slices.Sorted(maps.Keys(wireMessages)) {
		now, err := protocol.Marshal(filled(wireMessages[name].value()))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if *update {
			var text strings.Builder
			for part := range slices.Chunk([]byte(hex.EncodeToString(now)), 100) {
				text.WriteString(string(part) + "\n")
			}
			folder := filepath.Join("wiretest", "testdata", own)
			if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, name+".hex"), []byte(text.String()), 0o644)); err != nil {
				t.Fatal(err)
			}
			continue // what is built into this program is not what was written just now
		}
		if old := wiretest.Sample(t, own, name); !bytes.Equal(old, now) {
			t.Errorf("%s: version %s writes it otherwise than its sample. If no release has that version yet: go test ./protocol -run TestWireSamples -update; else raise protocol.Version first", name, own)
		}
	}
	if *update {
		return
	}
	for _, version := range wiretest.Versions(t) {
		for _, name := range wiretest.Messages(t, version) {
			m, known := wireMessages[name]
			if !known {
				t.Errorf("%s of version %s: nothing here is of that name", name, version)
				continue
			}
			old := wiretest.Sample(t, version, name)
			read, how := protocol.UnmarshalReply, "a pilot or site"
			if m.request {
				read, how = protocol.Unmarshal, "a coordinator"
			}
			value := m.value()
			if err := read(old, value); err != nil {
				t.Errorf("%s of version %s cannot be read by %s: %v", name, version, how, err)
				continue
			}
			again, err := protocol.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if lost := lost(generic(t, old), generic(t, again), name); lost != "" {
				t.Errorf("version %s: %s", version, lost)
			}
		}
	}
}

// Every sample sets every field that it could; else a field's change goes unseen.
func TestWireSamplesAreWhole(t *testing.T) {
	if *update {
		t.Skip("what is built into this program is not what was written just now")
	}
	for name, m := range wireMessages {
		value := m.value()
		if err := protocol.Unmarshal(wiretest.Sample(t, wiretest.Minor(protocol.Version), name), value); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(value, filled(m.value())) {
			t.Errorf("%s reads as %+v, want %+v", name, value, filled(m.value()))
		}
	}
}

// A newer coordinator may say more than this build knows: that is skipped.
func TestRepliesOfNewerCoordinators(t *testing.T) {
	for name, m := range wireMessages {
		if m.request {
			continue
		}
		more, ok := generic(t, wiretest.Sample(t, wiretest.Minor(protocol.Version), name)).(map[any]any)
		if !ok {
			continue // a list
		}
		more[uint64(4000)] = "of another time"
		text, err := cbor.Marshal(more)
		if err != nil {
			t.Fatal(err)
		}
		if err := protocol.UnmarshalReply(text, m.value()); err != nil {
			t.Errorf("%s with one field more: %v", name, err)
		}
	}
}

func generic(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := cbor.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// lost says what of a message is not in another one; empty is nothing.
func lost(old, now any, at string) string {
	switch old := old.(type) {
	case map[any]any:
		fields, _ := now.(map[any]any)
		for key, value := range old {
			inner := fmt.Sprintf("%s.%v", at, key)
			if _, there := fields[key]; !there {
				return inner + " is lost"
			}
			if text := lost(value, fields[key], inner); text != "" {
				return text
			}
		}
		return ""
	case []any:
		list, _ := now.([]any)
		if len(list) != len(old) {
			return fmt.Sprintf("%s has %d elements, had %d", at, len(list), len(old))
		}
		for i := range old {
			if text := lost(old[i], list[i], fmt.Sprintf("%s[%d]", at, i)); text != "" {
				return text
			}
		}
		return ""
	}
	if !reflect.DeepEqual(old, now) {
		return fmt.Sprintf("%s is %v, was %v", at, now, old)
	}
	return ""
}

// What the comparison of samples sees.
func TestWhatIsLost(t *testing.T) {
	type message = map[any]any
	for _, tt := range []struct {
		old, now any
		want     string
	}{
		{message{1: "a"}, message{1: "a", 2: true}, ""},
		{message{1: "a"}, message{2: "a"}, "m.1 is lost"},
		{message{1: message{3: 7}}, message{1: message{3: 8}}, "m.1.3 is 8, was 7"},
		{message{1: []any{1, 2}}, message{1: []any{1}}, "m.1 has 1 elements, had 2"},
		{message{1: []any{1, 2}}, message{1: []any{1, 3}}, "m.1[1] is 3, was 2"},
		{message{1: message{2: 1}}, message{1: 1}, "m.1.2 is lost"},
	} {
		if got := lost(tt.old, tt.now, "m"); got != tt.want {
			t.Errorf("lost(%v, %v) = %q, want %q", tt.old, tt.now, got, tt.want)
		}
	}
}
