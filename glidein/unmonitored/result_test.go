package unmonitored

import (
	"bytes"
	"strings"
	"testing"
)

func TestResultIsTheLastOfItsLaunch(t *testing.T) {
	var b bytes.Buffer
	for _, r := range []Result{{Evidence: "first"}, {Evidence: strings.Repeat("x", 10_000)}} {
		b.WriteString("words without an end")
		if err := r.Write(&b, "run-abc"); err != nil {
			t.Fatal(err)
		}
	}
	if got := parseResult(b.Bytes(), "run-abc"); got == nil || len(got.Evidence) != maxEvidence {
		t.Errorf("result = %+v, want the last", got)
	}
	if got := parseResult(b.Bytes(), "run-abd"); got != nil {
		t.Errorf("result of another launch = %+v", got)
	}
	cut := b.Bytes()[:b.Len()-1]
	if got := parseResult(cut, "run-abc"); got == nil || got.Evidence != "first" {
		t.Errorf("result of an output that is cut = %+v, want the one before", got)
	}
}

func FuzzResult(f *testing.F) {
	f.Add([]byte("x\nfloe: result of run-abc: {\"ok\":true}\n"))
	f.Add([]byte("floe: result of run-abc: {\"verdict\":\"ok\",\"started\":\"\"}\n"))
	f.Add([]byte("floe: result of run-abc: null\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := parseResult(b, "run-abc"); r != nil && !bytes.Contains(b, []byte(mark("run-abc"))) {
			t.Fatalf("a result of nothing: %+v", r)
		}
	})
}
