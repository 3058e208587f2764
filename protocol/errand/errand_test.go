package errand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startDoer runs errands in a directory until the test ends.
func startDoer(t *testing.T, dir string, do func(ctx context.Context, r Request, in io.Reader, out io.Writer) Answer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &Doer{Desk: Desk{dir}, Do: do, AtOnce: 4, Logger: slog.New(slog.DiscardHandler)}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestErrandsGoOutAndComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stage")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	far := map[string]string{}
	startDoer(t, dir, func(_ context.Context, r Request, in io.Reader, out io.Writer) Answer {
		mu.Lock()
		defer mu.Unlock()
		switch r.Verb {
		case Put:
			b, err := io.ReadAll(in)
			if err != nil {
				return Answer{Error: err.Error()}
			}
			far[r.URL] = string(b)
		case Get:
			text, ok := far[r.URL]
			if !ok {
				return Answer{Error: "nothing there", Class: "input"}
			}
			fmt.Fprint(out, text)
		case Move:
			far[r.To] = far[r.URL]
			delete(far, r.URL)
		case Remove:
			delete(far, r.URL)
		}
		return Answer{}
	})
	var asking sync.WaitGroup
	for i := range 10 {
		asking.Go(func() {
			desk, at := Desk{dir}, fmt.Sprintf("far/%d", i)
			text := strings.Repeat(at, 10_000)
			ask := func(r Request, body io.Reader) (string, Answer) {
				f, a, err := desk.Ask(t.Context(), r, body)
				if err != nil {
					t.Errorf("%s: %v", r.Verb, err)
					return "", a
				}
				if f == nil {
					return "", a
				}
				defer f.Close()
				b, err := io.ReadAll(f)
				if err != nil {
					t.Error(err)
				}
				return string(b), a
			}
			ask(Request{Verb: Put, URL: at, Size: int64(len(text))}, strings.NewReader(text))
			ask(Request{Verb: Move, URL: at, To: at + "/final"}, nil)
			if got, a := ask(Request{Verb: Get, URL: at + "/final"}, nil); got != text || a.Error != "" {
				t.Errorf("%s: %d bytes came back, %+v", at, len(got), a)
			}
			if _, a := ask(Request{Verb: Get, URL: at}, nil); a.Class != "input" || a.Error != "nothing there" {
				t.Errorf("%s: %+v", at, a)
			}
			ask(Request{Verb: Remove, URL: at + "/final"}, nil)
		})
	}
	asking.Wait()
	if len(far) != 0 {
		t.Errorf("%d files are left far away", len(far))
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %q, %v", left, err)
	}
}

// TestAnErrandWhoseAskerHasGoneIsGivenUp has an asker leave while its errand is run.
func TestAnErrandWhoseAskerHasGoneIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	begun, over := make(chan struct{}), make(chan struct{})
	startDoer(t, dir, func(ctx context.Context, _ Request, _ io.Reader, _ io.Writer) Answer {
		close(begun)
		<-ctx.Done()
		close(over)
		return Answer{}
	})
	gone := errors.New("the attempt is abandoned")
	ctx, leave := context.WithCancelCause(t.Context())
	go func() { <-begun; leave(gone) }()
	if _, _, err := (Desk{dir}).Ask(ctx, Request{Verb: Get, URL: "u"}, nil); !errors.Is(err, gone) {
		t.Errorf("Ask = %v, want %v", err, gone)
	}
	<-over
}

// TestWhatADeadPilotWantedDoesNotHappen finds an errand that nobody touches any more,
// and files that belong to none.
func TestWhatADeadPilotWantedDoesNotHappen(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for name, text := range map[string]string{
		"dead.ask": `{"verb":"remove","url":"u"}`, "dead.done": "", "left.data": "x", "left.part": "x",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chtimes(file, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	startDoer(t, dir, func(_ context.Context, r Request, _ io.Reader, _ io.Writer) Answer {
		if r.URL == "u" {
			t.Error("the errand of a dead pilot was run")
		}
		return Answer{}
	})
	// Two errands later, the doer has looked twice.
	for range 2 {
		if _, _, err := (Desk{dir}).Ask(t.Context(), Request{Verb: Remove, URL: "v"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %q, %v", left, err)
	}
}

func TestADataFileThatWasCutDoesNotGoOut(t *testing.T) {
	dir := t.TempDir()
	startDoer(t, dir, func(context.Context, Request, io.Reader, io.Writer) Answer {
		t.Error("it went out")
		return Answer{}
	})
	_, a, err := (Desk{dir}).Ask(t.Context(), Request{Verb: Put, URL: "u", Size: 5}, bytes.NewReader([]byte("four")))
	if err != nil || !strings.Contains(a.Error, "4 bytes") {
		t.Errorf("Ask = %+v, %v", a, err)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"verb":"get","url":"https://a/b"}`, `{"verb":"put","url":"https://a/b","size":3}`, `{"verb":"move","url":"a","to":"b"}`,
		`{"verb":"get","url":"a","to":"b"}`, `{"verb":"run","url":"a"}`, `{"verb":"put","url":"a","size":-1}`, "[1]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse(text)
		if err == nil && (r.URL == "" || r.Size < 0 || r.Verb == Move && r.To == "") {
			t.Errorf("taken: %+v", r)
		}
	})
}
