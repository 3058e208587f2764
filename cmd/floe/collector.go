package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A coordinator lives on little memory and makes much garbage: with Go's default, the
// heap may grow by as much as is live, which is so little that the collector takes a
// fifth of the CPU; with ten thousand pilots connected it may grow by more than half a
// gigabyte.
// paceCollector lets it grow by heapRoom, or by leastPercent where that is more, until
// stop is called. An operator's GOGC is obeyed instead.
func paceCollector(ctx context.Context) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keepPace(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func keepPace(ctx context.Context) {
	// GOGC is a share of all that a collection has to look through.
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := defaultPercent; ; {
		metrics.Read(samples)
		var scanned uint64
		for _, s := range samples {
			if s.Value.Kind() != metrics.KindUint64 {
				return // not with this runtime
			}
			scanned += s.Value.Uint64()
		}
		// Each change stops the program for a moment: small ones are not worth it.
		if want := collectorPercent(scanned); want < now-now/16 || want > now+now/4 {
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

const (
	// heapRoom is by how much the heap may grow between two collections whatever is
	// live. Source: docs/benchmarks, memory leaves 400 MiB of its 512, pilots 200 MB.
	heapRoom       = 160 << 20
	defaultPercent = 100
	// leastPercent bounds what collecting costs where very much is live: looking
	// through five bytes for each that is allocated.
	leastPercent = 20
	mostPercent  = 1600
)

// collectorPercent is what GOGC should be where a collection looks through so many
// bytes: the live heap, stacks and global variables.
func collectorPercent(scanned uint64) int {
	if scanned == 0 {
		return mostPercent
	}
	return int(max(leastPercent, min(mostPercent, math.Round(100*heapRoom/float64(scanned)))))
}
