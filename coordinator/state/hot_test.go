package state

import (
	"bytes"
	"math/rand"
	"reflect"
	"testing"
	"testing/quick"

	"floe/protocol"
	"floe/protocol/canon"
)

// The same structs without their methods: the general codec reads and writes them.
type (
	generalAcquire        Acquire
	generalReport         Report
	generalLeaseGranted   LeaseGranted
	generalAttemptEnded   AttemptEnded
	generalAttemptCleaned AttemptCleaned
	generalSiteRule       SiteRule
	generalTasksReleased  TasksReleased
	generalJobFinished    JobFinished
)

// hotTypes are all that is written without reflection, each beside its twin.
var hotTypes = []struct{ hot, general any }{
	{Acquire{}, generalAcquire{}},
	{Report{}, generalReport{}},
	{LeaseGranted{}, generalLeaseGranted{}},
	{AttemptEnded{}, generalAttemptEnded{}},
	{AttemptCleaned{}, generalAttemptCleaned{}},
	{SiteRule{}, generalSiteRule{}},
	{TasksReleased{}, generalTasksReleased{}},
	{JobFinished{}, generalJobFinished{}},
}

// Everything is written as the general encoder writes it, and read as the general
// decoder reads it.
func TestHotIsGeneral(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for _, pair := range hotTypes {
		hotType, generalType := reflect.TypeOf(pair.hot), reflect.TypeOf(pair.general)
		for i := range 200 {
			v, ok := quick.Value(hotType, random)
			if !ok {
				t.Fatalf("%v: no random value", hotType)
			}
			if i == 0 {
				v = reflect.Zero(hotType)
			}
			hot, general := reflect.New(hotType), reflect.New(generalType)
			hot.Elem().Set(v)
			general.Elem().Set(v.Convert(generalType))
			want, err := protocol.Marshal(general.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := protocol.Marshal(hot.Interface()); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v is written as %x, %v; want %x", hotType, got, err, want)
			}
			read, reads := reflect.New(hotType).Interface().(canon.Readable)
			if !reads {
				continue
			}
			readGeneral := reflect.New(generalType)
			if err := protocol.Unmarshal(want, readGeneral.Interface()); err != nil {
				t.Fatal(err)
			}
			if !canon.Read(want, read) {
				t.Fatalf("%v: %x is left to the general decoder", hotType, want)
			}
			if got := reflect.ValueOf(read).Elem().Convert(generalType).Interface(); !reflect.DeepEqual(got, readGeneral.Elem().Interface()) {
				t.Fatalf("%v: %x reads as %+v, want %+v", hotType, want, got, readGeneral.Elem().Interface())
			}
		}
	}
}

// FuzzDecodeHot holds the readers to the general decoder: what they read, it reads
// as the same.
func FuzzDecodeHot(f *testing.F) {
	r := newRig(f)
	r.quick = true
	for _, c := range samples() {
		if k := c.Kind(); k == KindAcquire || k == KindReport {
			f.Add(byte(k), mustEncode(f, c)[1:])
		}
		_, events := r.apply(0, c)
		for _, e := range events {
			if e.Body.Kind() == EventAttemptEnded {
				b, err := EncodeEvent(e.Body)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(byte(2), b[1:])
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		var got canon.Readable
		var want, twin any
		switch which % 3 {
		case 0:
			a := new(Acquire)
			got, want, twin = a, new(generalAcquire), (*generalAcquire)(a)
		case 1:
			a := new(Report)
			got, want, twin = a, new(generalReport), (*generalReport)(a)
		default:
			a := new(AttemptEnded)
			got, want, twin = a, new(generalAttemptEnded), (*generalAttemptEnded)(a)
		}
		if !canon.Read(body, got) {
			return
		}
		if err := protocol.Unmarshal(body, want); err != nil {
			t.Fatalf("%T: %x was read, the general decoder says: %v", got, body, err)
		}
		// By their bytes: a statistic may be what does not equal itself.
		a, errA := protocol.Marshal(twin)
		b, errB := protocol.Marshal(want)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%T: %x was read as %+v, want %+v", got, body, got, want)
		}
	})
}

// The samples of all releases take the short way.
func TestHotCommandsAreReadHot(t *testing.T) {
	for _, c := range samples() {
		if r, hot := newCommand(c.Kind()).(canon.Readable); hot && !canon.Read(mustEncode(t, c)[1:], r) {
			t.Errorf("%T is left to the general decoder", c)
		}
	}
}

// EncodeEvents writes each event as EncodeEvent does.
func TestEncodeEvents(t *testing.T) {
	events := []Event{{Body: &CheckpointTaken{}}, {Body: &JobsAdded{Dataset: 1, Jobs: 2}}, {Body: &JobFinished{Dataset: 1}}}
	all, err := EncodeEvents(events)
	if err != nil {
		t.Fatal(err)
	}
	var joined []byte
	for i, e := range events {
		want, err := EncodeEvent(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(events[i].Encoded, want) {
			t.Errorf("event %d is written as %x, want %x", i, events[i].Encoded, want)
		}
		joined = append(joined, want...)
	}
	if !bytes.Equal(all, joined) {
		t.Errorf("all are written as %x, want %x", all, joined)
	}
}
