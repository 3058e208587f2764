package main

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"floe/coordinator/state"
)

// entryCommands is how many commands an entry of the log holds here: what fits into
// the 64 KiB of a group commit, with room for statistics.
const entryCommands = 128

// applyAlone measures Apply alone, on a log of acquires and reports of one task
// each, decoded from CBOR as followers and restarting nodes do.
func applyAlone(ctx context.Context, r *run) (result, error) {
	out := result{
		Unit: "commands/s", Target: 300_000, PeerIs: "decoding the same commands",
		Notes: []string{"the slower of one-task jobs and chains of four tasks", "wall time of one goroutine; the collector has the other core"},
	}
	rounds := 400
	if !r.quick {
		rounds = 2000
	}
	for _, x := range []struct {
		name              string
		tasks, statistics int
		counts            bool
	}{
		{"jobs of one task", 1, 0, true},
		{"jobs of four tasks in a chain", 4, 0, true},
		{"jobs of one task, 20 statistics per report", 1, 20, false},
	} {
		setup, log, err := makeLog(ctx, rounds, x.tasks, x.statistics)
		if err != nil {
			return out, err
		}
		b, err := applyBest(ctx, setup, log)
		if err != nil {
			return out, err
		}
		fmt.Fprintf(r, "%-44s %12.0f commands/s (decoding alone %.0f; %.0f per second of CPU)\n", x.name, b.applied, b.decoded, b.busy)
		if x.counts && (out.Value == 0 || b.applied < out.Value) {
			out.Value, out.Peer = b.applied, b.decoded
		}
		out.Notes = append(out.Notes, fmt.Sprintf("%s: %.0f commands/s", x.name, b.applied))
	}
	return out, nil
}

// makeLog makes a log in which pilots take turns in pulling and reporting one task.
func makeLog(ctx context.Context, rounds, tasks, statistics int) (setup, log [][]byte, err error) {
	f := newFeed(entryCommands, 1, statistics)
	f.deliver = func(_ uint64, entry []byte, _ []state.Event) error {
		log = append(log, entry)
		return nil
	}
	if err := f.begin(10, 1_000_000, tasks); err != nil {
		return nil, nil, err
	}
	setup, log = log, nil
	for range rounds {
		if n, err := f.pull(0, f.pilots); err != nil || n != f.pilots {
			return nil, nil, fmt.Errorf("%d pilots were given %d tasks: %w", f.pilots, n, err)
		}
		if err := f.report(0, f.pilots); err != nil {
			return nil, nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
	}
	return setup, log, nil
}

// applyRates are commands per second.
type applyRates struct {
	applied, decoded float64
	// busy is per second of CPU of the thread that applies: it tells what the machine
	// would do were it not shared.
	busy float64
}

// applyBest applies a log three times, to a fresh machine each time, and returns the
// best rates: other programs only slow it down.
func applyBest(ctx context.Context, setup, log [][]byte) (best applyRates, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	commands := len(log) * entryCommands
	for range 3 {
		if err := ctx.Err(); err != nil {
			return best, err
		}
		m := state.New()
		for _, entry := range setup {
			if _, _, err := m.Apply(m.Index()+1, 1, entry); err != nil {
				return best, err
			}
		}
		began, used := time.Now(), threadTime()
		for _, entry := range log {
			if _, _, err := m.Apply(m.Index()+1, 1, entry); err != nil {
				return best, err
			}
		}
		best.applied = max(best.applied, perSecond(commands, time.Since(began)))
		best.busy = max(best.busy, perSecond(commands, threadTime()-used))
		began = time.Now()
		for _, entry := range log {
			e, err := state.DecodeEntry(entry)
			if err != nil {
				return best, err
			}
			for _, c := range e.Commands {
				if _, err := state.DecodeCommand(c); err != nil {
					return best, err
				}
			}
		}
		best.decoded = max(best.decoded, perSecond(commands, time.Since(began)))
	}
	return best, nil
}

// threadTime is the CPU time that this thread has used.
func threadTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
