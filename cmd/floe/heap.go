package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A coordinator whose record is small would collect garbage dozens of times a second
// under load: Go collects whenever there is as much of it as of what is alive. Up to
// heapFloor of garbage, this one waits. Source: scripts/bench lifecycle, 102 → 89 µs
// of CPU per task.
const (
	heapFloor = 96 << 20
	heapLook  = 2 * time.Second
	// mostGarbage is garbage in percent of what is alive, at most.
	mostGarbage = 1000
)

// keepHeap adapts when garbage is collected to what is alive, until ctx ends. Where
// an operator has set GOGC, that holds.
func keepHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(heapLook)
	defer tick.Stop()
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 0
	for {
		metrics.Read(alive)
		// Setting it stops the process for a moment: only for a difference.
		if p := garbagePercent(alive[0].Value.Uint64()); p < set*3/4 || p > set*4/3 {
			set = p
			debug.SetGCPercent(p)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// garbagePercent is how much garbage there may be, in percent of what is alive: as
// much as is alive, and heapFloor at least.
func garbagePercent(alive uint64) int {
	if alive == 0 {
		return mostGarbage // nothing was collected yet
	}
	return int(min(max(heapFloor*100/alive, 100), mostGarbage))
}
