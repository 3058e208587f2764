package session

import (
	"log/slog"
	"testing"
)

// What a socket costs every attempt, whether its payload speaks or not.
func BenchmarkOpenAndClose(b *testing.B) {
	c := Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	for b.Loop() {
		s, err := Open(c)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
