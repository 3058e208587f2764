package state

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// What cannot be understood stops the node and changes nothing, so that a newer
// build can go on from there.
func TestApplyRefusesWhatItCannotRead(t *testing.T) {
	tick := mustEncode(t, &Tick{})
	entry := func(commands ...[]byte) []byte { return EncodeEntry(&Entry{Term: 1, Commands: commands}) }
	newer, err := protocol.Marshal(&SetFormat{Format: Format + 1})
	if err != nil {
		t.Fatal(err)
	}
	good := entry(tick)
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for _, test := range []struct {
		name  string
		entry []byte
		want  error // nil for any
	}{
		{"empty", nil, nil},
		{"short", good[:entryHeader-1], nil},
		{"other format", changed(0, 2), nil},
		{"unknown flags", changed(1, 2), nil},
		{"time runs backwards", changed(10, 0x80), nil},
		{"command cut off", good[:len(good)-1], nil},
		{"command without kind", append(bytes.Clone(good), 0), nil},
		{"length without end", append(bytes.Clone(good), 0xff), nil},
		{"unknown command", entry(tick, []byte{0xff, 0xa0}), ErrUnknownCommand},
		{"unknown field", entry(tick, []byte{byte(KindTick), 0xa1, 0x01, 0x01}), nil},
		{"bytes after a command", entry(tick, append(bytes.Clone(tick), 0)), nil},
		{"newer format", entry(tick, append([]byte{byte(KindSetFormat)}, newer...)), ErrUnknownCommand},
	} {
		r := newRig(t)
		r.enrol("p1", "mill", big)
		before := persisted(t, r.m.Snapshot())
		answers, events, err := r.m.Apply(r.index+1, 1, test.entry)
		if err == nil || len(answers)+len(events) > 0 || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: Apply = %v, %v, %v; want an error", test.name, answers, events, err)
		}
		if !bytes.Equal(before, persisted(t, r.m.Snapshot())) {
			t.Errorf("%s: the record changed", test.name)
		}
		r.apply(0, &Tick{}) // the index is still free
	}
}

func TestApplyTakesAnIndexOnce(t *testing.T) {
	r := newRig(t)
	r.do(protocol.CodeOK, submission(1, 3, chain(2)))
	before := persisted(t, r.m.Snapshot())
	for _, index := range []uint64{0, 1} {
		answers, events, err := r.m.Apply(index, 1, r.log[0])
		if len(answers)+len(events) > 0 || err != nil {
			t.Errorf("Apply(%d) again = %v, %v, %v; want nothing", index, answers, events, err)
		}
	}
	// Not even an entry that this build could not read.
	if _, _, err := r.m.Apply(1, 1, nil); err != nil {
		t.Errorf("Apply of an old index = %v", err)
	}
	if !bytes.Equal(before, persisted(t, r.m.Snapshot())) {
		t.Error("the record changed")
	}
}

// Every command may come twice, in entries of their own: the second changes
// nothing, with the client's key or without.
func TestEveryCommandTwice(t *testing.T) {
	for _, keyed := range []bool{true, false} {
		r := newRig(t)
		for _, c := range append(samples(), samples2()...) {
			r.apply(0, c)
			before := headless(t, persisted(t, r.m.Snapshot()))
			if by := reflect.ValueOf(c).Elem().FieldByName("By"); by.IsValid() && !keyed {
				by.FieldByName("Key").SetString("")
			}
			answers, _ := r.apply(0, c)
			if !bytes.Equal(before, headless(t, persisted(t, r.m.Snapshot()))) {
				t.Errorf("%T twice, keyed %v: the record changed; answered %v: %s", c, keyed, answers[0].Code, answers[0].Reason)
			}
		}
	}
}

// The answer that a key was given is given again, with its numbers.
func TestKeysRepeatTheAnswer(t *testing.T) {
	r := newRig(t)
	by := Action{Actor: "ann", Key: "k"}
	r.do(protocol.CodeOK, submission(1, 3, chain(2)))
	suspend := &SuspendTasks{By: by, Select: Selection{Dataset: 1}}
	first := r.do(protocol.CodeOK, suspend)
	r.do(protocol.CodeOK, &ResumeTasks{Select: Selection{Dataset: 1}})
	again := r.do(protocol.CodeOK, suspend)
	if diff := cmp.Diff(first.Moved, again.Moved); diff != "" || first.Moved.Tasks != 6 {
		t.Errorf("moved %+v at first, then (-first +again):\n%s", first.Moved, diff)
	}
	if n := r.m.Queued(); n != 3 {
		t.Errorf("%d tasks may be pulled, want 3: the action was done twice", n)
	}
	// A refusal is not remembered: the same key may succeed later.
	by.Key = "other"
	grow := &AddJobs{By: by, Dataset: 1, From: 4, Jobs: 1}
	r.do(protocol.CodeConflict, grow)
	r.do(protocol.CodeOK, &AddJobs{Dataset: 1, From: 3, Jobs: 1})
	r.do(protocol.CodeOK, grow)
	// After a day the key is free.
	r.apply(KeyLifetime, &Tick{})
	if a := r.do(protocol.CodeOK, suspend); a.Reason == "done before" {
		t.Error("a key was remembered for more than its lifetime")
	}
}
