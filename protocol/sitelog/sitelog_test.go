package sitelog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/protocol"
)

func write(t *testing.T, dir string, pilot protocol.PilotID, entries ...Entry) {
	t.Helper()
	w, err := Open(dir, Entry{Host: "n7.example.org", Pilot: pilot, BatchID: "17"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// ran is an attempt that began and, unless it is zero, ended so many minutes from noon.
func ran(n uint64, begin, end int) Entry {
	e := Entry{Lease: protocol.LeaseID{Index: n}, Dataset: 3, Task: "make", User: "ann", Begin: noon.Add(time.Duration(begin) * time.Minute).UnixMilli()}
	if end != 0 {
		e.End, e.Verdict = noon.Add(time.Duration(end)*time.Minute).UnixMilli(), "ok"
	}
	return e
}

func found(t *testing.T, dir, host string, minutes int) (leases []uint64) {
	t.Helper()
	all, _, err := Read(dir, Query{Host: host, At: noon.Add(time.Duration(minutes) * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		leases = append(leases, e.Lease.Index)
	}
	return leases
}

func same(a []uint64, b ...uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestWhoRanWhen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, _, err := Read(dir, Query{At: noon}); err == nil || !strings.Contains(err.Error(), "no pilot has written") {
		t.Errorf("a log that is not there: %v", err)
	}
	write(t, dir, "p1", ran(1, 0, 0), ran(1, 0, 10), ran(2, 5, 0))
	write(t, dir, "p2", ran(3, 7, 0), ran(3, 7, 8))
	for minutes, want := range map[int][]uint64{-1: nil, 6: {1, 2}, 7: {1, 2, 3}, 60: {2}} {
		if got := found(t, dir, "n7", minutes); !same(got, want...) {
			t.Errorf("%d minutes after noon: %v, want %v", minutes, got, want)
		}
	}
	if got := found(t, dir, "n8", 7); got != nil {
		t.Errorf("on another node: %v", got)
	}
	// A line that is being written, or was torn by a crash, is none yet.
	f, err := os.OpenFile(filepath.Join(dir, openDir, "p1"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"host":"n7","le`); err != nil {
		t.Fatal(err)
	}
	if got, damaged, err := Read(dir, Query{At: noon.Add(6 * time.Minute)}); err != nil || len(got) != 2 || damaged != 0 {
		t.Errorf("with a torn line: %v, %d damaged, %v", got, damaged, err)
	}
	// What is written behind it is found, and the torn one counted.
	if _, err := f.WriteString("\n" + strings.Repeat("x", 2*maxLine) + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "p1", ran(4, 6, 0))
	if got, damaged, err := Read(dir, Query{At: noon.Add(6 * time.Minute)}); err != nil || len(got) != 3 || damaged != 2 {
		t.Errorf("behind a torn line: %v, %d damaged, %v", got, damaged, err)
	}
}

func TestWhatIsSettledIsGathered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	month := -noon.Day() * 24 * 60 // the month before
	write(t, dir, "old", ran(1, month-60, 0), ran(1, month-60, month-10), ran(2, 0, 30))
	write(t, dir, "busy", ran(3, 0, 0))
	info, err := os.Stat(filepath.Join(dir, openDir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	past := info.ModTime().Add(-2 * settled)
	if err := os.Chtimes(filepath.Join(dir, openDir, "old"), past, past); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, openDir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a pass that was killed before it removed the file gathers it again
		if err := os.WriteFile(filepath.Join(dir, openDir, "old"), kept, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, openDir, "old"), past, past); err != nil {
			t.Fatal(err)
		}
		if err := Tidy(dir, info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, openDir, "old")); !os.IsNotExist(err) {
		t.Errorf("a settled file stays: %v", err)
	}
	if got := found(t, dir, "n7", 10); !same(got, 2, 3) {
		t.Errorf("at noon: %v", got)
	}
	if got := found(t, dir, "n7", month-30); !same(got, 1) {
		t.Errorf("a month before: %v", got)
	}
	b, err := os.ReadFile(filepath.Join(dir, "2026-10.log"))
	if err != nil || strings.Count(string(b), "\n") != 2 {
		t.Errorf("October: %q, %v", b, err)
	}
}

func TestOldMonthsGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, openDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range KeepMonths + 3 {
		name := time.Date(2020, time.Month(1+i), 1, 0, 0, 0, 0, time.UTC).Format(monthForm) + monthEnd
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Tidy(dir, noon); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+monthEnd))
	if err != nil || len(files) != KeepMonths || filepath.Base(files[0]) != "2020-04.log" {
		t.Errorf("%d months are kept, the oldest %v, %v", len(files), files, err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add("{}\n")
	f.Add("{\"lease\":\"1-0\",\"begin\":1}\n{")
	f.Add(strings.Repeat("x", maxLine+1) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines := 0
		damaged, err := readLines(strings.NewReader(text), func(e *Entry) {
			lines++
			if e.Lease.IsZero() || e.Begin <= 0 {
				t.Errorf("entry %+v", e)
			}
		})
		if err != nil || lines+damaged > strings.Count(text, "\n")+1 {
			t.Errorf("%d lines and %d damaged of %q, %v", lines, damaged, text, err)
		}
	})
}
