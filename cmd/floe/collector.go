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
// fifth of the CPU; with ten thousand pilots connected it may grow by a gigabyte.
// paceCollector lets it grow by heapRoom at least and by moreRoom at most, until stop
// is called. An operator's GOGC is obeyed instead.
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
	const heapLive = "/gc/heap/live:bytes"
	sample := []metrics.Sample{{Name: heapLive}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := defaultPercent; ; {
		if metrics.Read(sample); sample[0].Value.Kind() != metrics.KindUint64 {
			return // not with this runtime
		}
		// Each change stops the program for a moment: small ones are not worth it.
		if want := collectorPercent(sample[0].Value.Uint64()); want < now || want > now+now/4 {
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
	// live. Source: docs/benchmarks, memory leaves 400 MiB of its 512.
	heapRoom = 160 << 20
	// moreRoom is by how much it may grow where more than that is live, but for
	// leastPercent of it. Source: docs/benchmarks, pilots.
	moreRoom       = 256 << 20
	defaultPercent = 100
	leastPercent   = 30
	mostPercent    = 1600
)

// collectorPercent is what GOGC should be with so many bytes live.
func collectorPercent(live uint64) int {
	if live == 0 {
		return mostPercent
	}
	room := min(max(float64(live), heapRoom), moreRoom)
	return int(max(leastPercent, min(mostPercent, math.Round(100*room/float64(live)))))
}
