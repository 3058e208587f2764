package session

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestWhoWaitsAtASocketIsSentAway when its session ends: the next hears nothing of it.
func TestWhoWaitsAtASocketIsSentAway(t *testing.T) {
	c := Config{Dir: t.TempDir(), Socket: new(Socket), Logger: slog.New(slog.DiscardHandler)}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.listener.SetDeadline(time.Unix(1, 0)); err != nil { // nobody is taken any more
		t.Fatal(err)
	}
	s.serving.Wait()
	late, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := io.WriteString(late, "statistic set late 1\n"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	next, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Socket.Close()
	defer next.Close()
	if next.listener != s.listener {
		t.Error("the next session has another socket")
	}
	next.Begin(map[string]any{})
	if b, err := io.ReadAll(late); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("who waited is answered %q, %v", b, err)
	}
	if said := next.End(); len(said) > 0 {
		t.Errorf("the next session has heard %v", said)
	}
}
