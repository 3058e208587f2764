package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// times collects durations from many goroutines.
type times struct {
	mu  sync.Mutex
	all []time.Duration // guarded by mu
}

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, d)
}

// take returns what was collected, in order of length, and forgets it.
func (t *times) take() sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.all
	t.all = nil
	slices.Sort(all)
	return all
}

// sample is durations in order of length.
type sample []time.Duration

// quantile is the nearest-rank quantile: the smallest that q of all do not exceed.
func (s sample) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	rank := int(math.Ceil(q*float64(len(s)))) - 1
	return s[min(max(rank, 0), len(s)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
