package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"
)

// All who share a pace keep to it together.
func TestAPaceIsKeptByAllWhoShareIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPace(protocol.MB)
		began := time.Now()
		done := make(chan int64)
		for range 2 {
			go func() {
				n, err := io.Copy(io.Discard, p.over(t.Context(), strings.NewReader(strings.Repeat("x", 5_000_000))))
				if err != nil {
					t.Error(err)
				}
				done <- n
			}()
		}
		if n := <-done + <-done; n != 10_000_000 {
			t.Errorf("%d bytes came through", n)
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second { // virtual time
			t.Errorf("10 MB took %v at 1 MB/s", took)
		}
	})
}

func TestAPaceEndsWithItsTransfer(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := io.Copy(io.Discard, NewPace(1).over(ctx, strings.NewReader("xx"))); !errors.Is(err, context.Canceled) {
		t.Errorf("a transfer that was given up: %v", err)
	}
	plain := strings.NewReader("x")
	if got := NewPace(0).over(ctx, plain); got != io.Reader(plain) {
		t.Error("without a bound, a body is not itself")
	}
}

// Whole files go through a pace unchanged, both ways.
func TestFilesGoThroughAPace(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("floe"), 100_000)
	var stored []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			stored, _ = io.ReadAll(r.Body)
			return
		}
		_, _ = w.Write(want)
	}))
	defer server.Close()
	m := &Mover{HTTP: server.Client(), Pace: NewPace(protocol.GB)}
	body, err := m.Open(t.Context(), server.URL+"/file")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	s, u, err := m.scheme(server.URL + "/other")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.put(t.Context(), u, bytes.NewReader(want), protocol.ByteSize(len(want))); err != nil || !bytes.Equal(stored, want) {
		t.Errorf("stored %d bytes, %v", len(stored), err)
	}
}
