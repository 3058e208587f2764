package main

import "testing"

func TestCollectorPercent(t *testing.T) {
	for _, test := range []struct {
		scanned uint64
		want    int
	}{
		{0, mostPercent},
		{1 << 20, mostPercent},
		{heapRoom / 4, 400},
		{heapRoom - 1, defaultPercent},
		{heapRoom, defaultPercent},
		{2 * heapRoom, 50},
		{4 * heapRoom, 25},
		{100 * heapRoom, leastPercent},
	} {
		if got := collectorPercent(test.scanned); got != test.want {
			t.Errorf("collectorPercent(%d) = %d, want %d", test.scanned, got, test.want)
		}
	}
}
