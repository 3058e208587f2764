package blob

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"floe/protocol"
)

func lease(i uint64) protocol.LeaseID { return protocol.LeaseID{Index: i} }

func TestTailsRead(t *testing.T) {
	tails := NewTails(8, 64)
	add := func(offset int64, text string) {
		t.Helper()
		if err := tails.Append(lease(1), offset, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(offset int64, n int, from int64, text string) {
		t.Helper()
		p, err := tails.Read(lease(1), offset, n)
		if err != nil || p.Offset != from || string(p.Data) != text {
			t.Errorf("Read(%d, %d) = %d %q, %v; want %d %q", offset, n, p.Offset, p.Data, err, from, text)
		}
	}
	if _, err := tails.Read(lease(1), 0, 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("Read of nothing = %v, want ErrNotFound", err)
	}
	add(0, "abc")
	want(0, 9, 0, "abc")
	add(0, "abc")  // repeated
	add(1, "bcde") // overlapping
	want(0, 9, 0, "abcde")
	want(2, 2, 2, "cd")
	want(-2, 9, 3, "de")
	want(99, 9, 5, "")
	add(5, "fghij") // pushes the beginning out
	want(0, 99, 2, "cdefghij")
	add(20, "later") // after a hole
	want(0, 99, 20, "later")
	add(25, strings.Repeat("x", 20)+"87654321")
	want(0, 99, 45, "87654321")
	if err := tails.Append(lease(1), -1, nil); err == nil {
		t.Error("a negative offset was taken")
	}
	tails.Seal(lease(1))
	add(53, "ignored")
	if p, err := tails.Read(lease(1), 0, 1); err != nil || !p.Sealed || p.End != 53 {
		t.Errorf("sealed piece = %+v, %v", p, err)
	}
	tails.Drop(lease(1))
	if _, err := tails.Read(lease(1), 0, 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("Read of a dropped log = %v, want ErrNotFound", err)
	}
	if tails.bytes != 0 {
		t.Errorf("%d bytes accounted for with no log, want 0", tails.bytes)
	}
}

// TestTailsAgainstString compares with a plain string that keeps everything.
func TestTailsAgainstString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const keep = 16
		tails := NewTails(keep, 1<<10)
		whole := ""
		for range rapid.IntRange(1, 20).Draw(t, "appends") {
			back := rapid.IntRange(0, len(whole)).Draw(t, "back")
			fresh := rapid.StringMatching(`[a-z]{0,24}`).Draw(t, "fresh")
			offset := len(whole) - back
			if err := tails.Append(lease(1), int64(offset), []byte(whole[offset:]+fresh)); err != nil {
				t.Fatal(err)
			}
			whole += fresh
			p, err := tails.Read(lease(1), 0, 1<<10)
			if err != nil {
				t.Fatal(err)
			}
			if want := whole[max(0, len(whole)-keep):]; string(p.Data) != want || int(p.Offset) != len(whole)-len(want) || int(p.End) != len(whole) {
				t.Fatalf("tail = %d %q, want %q", p.Offset, p.Data, want)
			}
		}
	})
}

func TestTailsAreBoundedInAll(t *testing.T) {
	tails := NewTails(1<<10, 8<<10)
	for i := range uint64(100) {
		if err := tails.Append(lease(i+1), 0, make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
		if tails.bytes > 8<<10 {
			t.Fatalf("%d bytes after %d logs, limit %d", tails.bytes, i+1, 8<<10)
		}
	}
	if _, err := tails.Read(lease(1), 0, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("oldest log = %v, want ErrNotFound", err)
	}
	if _, err := tails.Read(lease(100), 0, 1); err != nil {
		t.Errorf("newest log: %v", err)
	}
}

func TestTailsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tails := NewTails(0, 0)
		if err := tails.Append(lease(1), 0, []byte("ab")); err != nil {
			t.Fatal(err)
		}
		wait := func(ctx context.Context, offset int64) <-chan error {
			done := make(chan error, 1)
			go func() { done <- tails.Wait(ctx, lease(1), offset) }()
			synctest.Wait()
			return done
		}
		if err := <-wait(t.Context(), 0); err != nil {
			t.Errorf("waiting for what is there = %v", err)
		}
		more := wait(t.Context(), 2)
		_ = tails.Append(lease(1), 2, []byte("c"))
		if err := <-more; err != nil {
			t.Errorf("after an append: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := wait(ctx, 3)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: %v", err)
		}
		sealed := wait(t.Context(), 3)
		tails.Seal(lease(1))
		if err := <-sealed; err != nil {
			t.Errorf("after seal: %v", err)
		}
	})
}

func TestTailsWaitEndsWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tails := NewTails(0, 0)
		_ = tails.Append(lease(1), 0, []byte("ab"))
		done := make(chan error, 1)
		go func() { done <- tails.Wait(t.Context(), lease(1), 2) }()
		synctest.Wait()
		tails.Drop(lease(1))
		if err := <-done; !errors.Is(err, ErrNotFound) {
			t.Errorf("after drop: %v, want ErrNotFound", err)
		}
	})
}
