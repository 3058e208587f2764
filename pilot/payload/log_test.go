package payload

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/protocol"
)

// logFor writes n numbered lines of 100 bytes, as a payload does, trimming as
// the pilot does.
func logFor(t *testing.T, lines int, whole bool) *Log {
	t.Helper()
	l, err := OpenLog(filepath.Join(t.TempDir(), "log"), 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.whole = whole
	for i := range lines {
		if _, err := l.file.WriteString(numbered(i)); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := l.Trim(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

func numbered(i int) string { return fmt.Sprintf("%099d\n", i) }

func TestLogKeepsBothEnds(t *testing.T) {
	for _, whole := range []bool{false, true} {
		for _, lines := range []int{0, 1, 100, 170, 1000, 5000} {
			t.Run(fmt.Sprintf("lines=%d whole=%v", lines, whole), func(t *testing.T) {
				l := logFor(t, lines, whole)
				record, err := l.Seal()
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(l.path)
				if err != nil {
					t.Fatal(err)
				}
				if int(record.Size) != len(b) || record.Digest != protocol.DigestOf(b) {
					t.Errorf("record %+v, file of %d bytes", record, len(b))
				}
				if len(b) > 2*8<<10+100 {
					t.Errorf("%d bytes kept, want at most both ends of 8 KiB", len(b))
				}
				if lines > 0 && (!bytes.HasPrefix(b, []byte(numbered(0))) || !bytes.HasSuffix(b, []byte(numbered(lines-1)))) {
					t.Errorf("first or last line is lost: %.120s … %s", b, b[max(0, len(b)-100):])
				}
				if lines <= 160 {
					if record.Cut != 0 || len(b) != lines*100 {
						t.Errorf("a short log was cut: %+v", record)
					}
					return
				}
				marker := fmt.Sprintf("\n%s%d bytes left out here\n", bannerMark, record.Cut)
				if !strings.Contains(string(b), marker) || len(b)-len(marker)+int(record.Cut) != lines*100 {
					t.Errorf("marker %q is not true of %d bytes kept of %d", marker, len(b), lines*100)
				}
			})
		}
	}
}

func TestLogTailFollows(t *testing.T) {
	for _, whole := range []bool{false, true} {
		l := logFor(t, 5000, whole)
		// A reader who comes late gets the beginning, then what follows the cut.
		var got bytes.Buffer
		offset, jumps := int64(0), 0
		for {
			data, at, err := l.ReadFrom(offset, 3000)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) == 0 {
				break
			}
			if at != offset {
				jumps++
				got.Reset()
			}
			got.Write(data)
			offset = at + int64(len(data))
		}
		if offset != 500000 || jumps != 1 {
			t.Errorf("whole=%v: read to %d with %d jumps, want 500000 with 1", whole, offset, jumps)
		}
		if !strings.HasSuffix(got.String(), numbered(4998)+numbered(4999)) {
			t.Errorf("whole=%v: tail ends with %q", whole, got.String()[max(0, got.Len()-100):])
		}
		if strings.ContainsRune(got.String(), 0) {
			t.Errorf("whole=%v: the hole was read", whole)
		}
		if size, err := l.Size(); err != nil || size != 500000 {
			t.Errorf("whole=%v: Size = %d, %v", whole, size, err)
		}
	}
}

func TestLongLogOfARunningPayload(t *testing.T) {
	a := newAttempt(t, script("i=0; while [ $i -lt 4000 ]; do echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done; kill -9 $$"))
	a.limits.LogKeep = 16 << 10
	out := a.run(t.Context())
	b := a.log()
	if out.Log.Cut == 0 || len(b) > 40<<10 {
		t.Errorf("log of %d bytes, %+v", len(b), out.Log)
	}
	if !strings.Contains(b, "line 0 ") || !strings.Contains(b, "line 3999 ") {
		t.Error("first or last line is lost")
	}
	if out.Verdict != protocol.VerdictPayload || !strings.Contains(out.Evidence, "line 3999") {
		t.Errorf("Run = %v, %s; want the last line as evidence", out.Verdict, out.Evidence)
	}
}

func TestLastLines(t *testing.T) {
	l := logFor(t, 0, false)
	fmt.Fprintf(l.file, "a\n\x1b[31mred\x1b[0m\n%sbanner\n\n  b \xff\n", bannerMark)
	if got, want := l.lastLines(2), "[31mred[0m ⏎ b"; got != want {
		t.Errorf("lastLines = %q, want %q", got, want)
	}
}
