package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for alive, want := range map[uint64]int{0: 1000, 1 << 20: 1000, 24 << 20: 400, 96 << 20: 100, 4 << 30: 100} {
		if got := garbagePercent(alive); got != want {
			t.Errorf("garbagePercent(%d) = %d, want %d", alive, got, want)
		}
	}
}
