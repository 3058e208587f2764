package history

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
)

func rowsOf(t testing.TB, n int) (rows []row) {
	t.Helper()
	for i := uint64(1); i <= uint64(n); i++ {
		e := entry(i, ended(i, 1, 0, protocol.JobIndex(i), true, protocol.Statistic{Name: "v", Value: 1}))[0]
		k, _ := rowKey(&e)
		r, err := makeRow(k, &e)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

func FuzzSplitRows(f *testing.F) {
	var raw []byte
	for _, r := range rowsOf(f, 3) {
		raw = append(binary.AppendUvarint(raw, uint64(len(r))), r...)
		f.Add(bytes.Clone(raw))
	}
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		rows, err := splitRows(raw)
		if err != nil {
			return
		}
		var again []byte
		for _, r := range rows {
			_, _ = r.event()
			again = append(binary.AppendUvarint(again, uint64(len(r))), r...)
		}
		if len(again) > len(raw) {
			t.Errorf("%d bytes became %d", len(raw), len(again))
		}
	})
}

func FuzzSealedFile(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.close)
	dir := f.TempDir()
	for _, n := range []int{0, 1, 5} {
		seal, err := writeSeal(context.Background(), dir, c, 1, uint64(n), func(yield func(row) error) error {
			for _, r := range rowsOf(f, n) {
				if err := yield(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(sealPath(dir, seal.Digest))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := readIndex(bytes.NewReader(b), int64(len(b)), c)
		if err != nil {
			return
		}
		for i := range index.Pages {
			p := &index.Pages[i]
			_, _ = c.unpack(b[p.Offset : p.Offset+int64(p.Length)])
		}
	})
}

func FuzzRow(f *testing.F) {
	for _, r := range rowsOf(f, 1) {
		f.Add([]byte(r))
	}
	f.Add(make([]byte, rowHeader+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := row(b)
		if r.check() != nil {
			return
		}
		body, err := r.event()
		if err != nil {
			return
		}
		e := state.Event{Index: r.key().place().index, Ordinal: r.key().place().ordinal, Time: r.time(), Wall: r.wall(), Body: body}
		if again, err := makeRow(r.key(), &e); err != nil {
			t.Fatal(err)
		} else if _, err := again.event(); err != nil {
			t.Errorf("a row that was read and written cannot be read: %v", err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	a := Attempt{AttemptEnded: *ended(1, 7, 0, 0, true)}
	f.Add(cursorAt(&a, nil))
	f.Add(cursorAt(&a, []byte{0, 1}))
	f.Add("7-2")
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, extra := range []int{0, 2} {
			s := ofDataset(tableAttempts, 7)
			before := s
			if _, err := s.resume(cursor, extra); err != nil {
				continue
			}
			if s.from.compare(before.from) < 0 || s.to != before.to {
				t.Errorf("cursor %q leads out of the dataset", cursor)
			}
		}
		if p, err := parsePlace(cursor); err == nil && cursor != "" && p.String() != cursor {
			t.Errorf("cursor %q is read as %v", cursor, p)
		}
	})
}

func FuzzWideDecode(f *testing.F) {
	for _, xs := range [][]float64{nil, {1}, {-1, 1e300}, {5e-324}} {
		b, _ := foldAll(xs).Sum.MarshalBinary()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w wide
		if w.UnmarshalBinary(b) != nil {
			return
		}
		again, err := w.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is read and written as %x, %v", b, again, err)
		}
	})
}
