package state

import (
	"bytes"
	"reflect"
	"testing"

	"floe/protocol"
)

// FuzzDecodeHot holds the decoder of the hot commands to the general one: what it
// reads, the other reads as the same.
func FuzzDecodeHot(f *testing.F) {
	for _, c := range hotSamples() {
		body := mustEncode(f, c)[1:]
		f.Add(byte(c.Kind()), body)
		for i := range body { // one byte off
			f.Add(byte(c.Kind()), append(append(bytes.Clone(body[:i]), body[i]^1), body[i+1:]...))
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		got, ok := decodeHot(Kind(kind), body)
		if !ok {
			return
		}
		want := newCommand(Kind(kind))
		if err := protocol.Unmarshal(body, want); err != nil {
			t.Fatalf("decodeHot read what the general decoder refuses: %v", err)
		}
		// By their bytes: a statistic may be what does not equal itself.
		a, b := mustEncode(t, got), mustEncode(t, want)
		if !bytes.Equal(a, b) {
			t.Fatalf("decodeHot read %+v, the general decoder %+v", got, want)
		}
	})
}

func hotSamples() []Command {
	list := []Command{
		&Acquire{}, &Report{},
		&Acquire{Pilot: "p", Want: 1<<16 - 1, Sequence: 1<<64 - 1, Free: protocol.Resources{Cores: -1, Memory: 1<<63 - 1, Tags: []string{}}},
		&Report{Verdict: 255, ExitCode: -1 << 31, Outputs: []protocol.FileRecord{{}, {}}, Cleaned: true},
	}
	for _, c := range samples() {
		if k := c.Kind(); k == KindAcquire || k == KindReport {
			list = append(list, c)
		}
	}
	return list
}

// The hot commands do take the short way, in the form in which they are written.
func TestHotCommandsAreReadHot(t *testing.T) {
	for _, c := range hotSamples() {
		got, ok := decodeHot(c.Kind(), mustEncode(t, c)[1:])
		if !ok {
			t.Errorf("decodeHot leaves %+v to the general decoder", c)
			continue
		}
		want := newCommand(c.Kind())
		if err := protocol.Unmarshal(mustEncode(t, c)[1:], want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("decodeHot = %+v, want %+v, %v", got, want, err)
		}
	}
}
