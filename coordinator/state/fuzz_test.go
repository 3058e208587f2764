package state

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecodeEntry(f *testing.F) {
	f.Add(EncodeEntry(&Entry{Term: 7, First: true, Elapsed: Minute, Wall: 5, Nonce: Nonce{1, 2}}))
	for _, c := range append(samples(), samples2()...) {
		f.Add(EncodeEntry(&Entry{Term: 1, Commands: [][]byte{mustEncode(f, c), mustEncode(f, &Tick{})}}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			return
		}
		again, err := DecodeEntry(EncodeEntry(e))
		if err != nil {
			t.Fatalf("an entry that was read cannot be read again: %v", err)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Errorf("an entry comes back changed (-first +again):\n%s", diff)
		}
	})
}

// What decodes and validates can be applied, and leaves the record whole.
func FuzzDecodeCommand(f *testing.F) {
	var m Machine
	r := newRig(f)
	for _, c := range append(samples(), samples2()...) {
		f.Add(mustEncode(f, c))
		if r.index < 17 {
			r.apply(Second, c)
		}
	}
	r.apply(Second, &SetFormat{Format: Format})
	record := persisted(f, r.m.Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		body := mustEncode(t, c)
		again, err := DecodeCommand(body)
		if err != nil || !bytes.Equal(mustEncode(t, again), body) {
			t.Fatalf("%T cannot be read again: %v", c, err)
		}
		if c.Validate() != nil {
			return
		}
		if err := m.Restore(bytes.NewReader(record)); err != nil {
			t.Fatal(err)
		}
		if s, big := c.(*SubmitDataset); big && s.Jobs > 1000 {
			return // the checks below look at every job
		}
		if a, big := c.(*AddJobs); big && a.Jobs > 1000 {
			return
		}
		entry := EncodeEntry(&Entry{Term: 1, Commands: [][]byte{body}})
		if _, _, err := m.Apply(m.Index()+1, 1, entry); err != nil {
			t.Fatalf("%T: Apply = %v", c, err)
		}
		checkInvariants(t, &m)
	})
}

func FuzzDecodeEvent(f *testing.F) {
	r := newRig(f)
	for _, c := range append(samples(), samples2()...) {
		_, events := r.apply(0, c)
		for _, e := range events {
			b, err := EncodeEvent(e.Body)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEvent(b)
		if err != nil {
			return
		}
		again, err := EncodeEvent(e)
		if err != nil {
			t.Fatalf("an event that was read cannot be written: %v", err)
		}
		if _, err := DecodeEvent(again); err != nil {
			t.Fatalf("an event that was written cannot be read: %v", err)
		}
	})
}

// A record that restores is one that persists to what restores to the same; one
// that does not leaves the machine as it was.
func FuzzRestore(f *testing.F) {
	r := newRig(f)
	f.Add(persisted(f, r.m.Snapshot()))
	for i, c := range append(samples(), samples2()...) {
		r.apply(0, c)
		if i%4 == 0 {
			f.Add(persisted(f, r.m.Snapshot()))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New()
		if err := m.Restore(bytes.NewReader(b)); err != nil {
			if m.Index() != 0 || m.NextDataset() != 1 {
				t.Error("a failed Restore changed the machine")
			}
			return
		}
		first := persisted(t, m.Snapshot())
		if !bytes.Equal(first, persisted(t, restored(t, m.Snapshot()).Snapshot())) {
			t.Error("a restored record persists otherwise when it is restored again")
		}
	})
}

// A snapshot that was cut off or damaged anywhere is refused, never half taken in.
func TestRestoreRefusesDamage(t *testing.T) {
	r := newRig(t)
	for _, c := range samples()[:18] {
		r.apply(Second, c)
	}
	whole := persisted(t, r.m.Snapshot())
	for n := range whole {
		m := New()
		if m.Restore(bytes.NewReader(whole[:n])) == nil {
			t.Fatalf("a record of %d bytes cut at %d was restored", len(whole), n)
		}
	}
	if New().Restore(bytes.NewReader(append(bytes.Clone(whole), 0))) == nil {
		t.Error("a record with a byte after its end was restored")
	}
}
