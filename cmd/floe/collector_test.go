package main

import "testing"

func TestCollectorPercent(t *testing.T) {
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, mostPercent},
		{1 << 20, mostPercent},
		{heapRoom / 4, 400},
		{heapRoom - 1, defaultPercent},
		{heapRoom, defaultPercent},
		{2 * moreRoom, 50},
		{100 * heapRoom, leastPercent},
	} {
		if got := collectorPercent(test.live); got != test.want {
			t.Errorf("collectorPercent(%d) = %d, want %d", test.live, got, test.want)
		}
	}
}
