package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"floe/protocol"
)

// snapshot measures how long a snapshot holds up the log at 10^8 queued tasks, and
// how long a coordinator takes from its start to its first answer with 2.3·10^7
// finished tasks behind it.
func snapshot(ctx context.Context, r *run) (result, error) {
	out := result{
		Unit: "ms", Target: 20, AtMost: true,
		Notes: []string{"the longest of 50 captures of a record of 10^8 queued tasks in 1,000 datasets, and what the entry behind it takes longer than others (medians), in process"},
	}
	pause, err := capturePause(ctx, r)
	if err != nil {
		return out, err
	}
	out.Value = milliseconds(pause)
	took, finished, err := restartBehindHistory(ctx, r)
	if err != nil {
		return out, err
	}
	out.noteRestart(took, finished)
	return out, nil
}

// capturePause captures the record again and again while it goes on, and returns how
// long a capture holds up the log: the longest capture, and what the entry behind it
// has to copy. The latter is a difference of medians, because other programs take the
// CPU from single entries for longer.
func capturePause(ctx context.Context, r *run) (time.Duration, error) {
	f := newFeed(entryCommands, 8, 1)
	if err := f.begin(manyDatasets, manyJobs, 1); err != nil {
		return 0, err
	}
	captures, after, before := make([]time.Duration, 50), make([]time.Duration, 50), make([]time.Duration, 50)
	var persisted time.Duration
	for i := range captures {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for range 4 { // what is shared with the capture before is copied meanwhile
			began := time.Now()
			if _, err := f.pull(0, f.pilots); err != nil {
				return 0, err
			}
			before[i] = time.Since(began)
			if err := f.report(0, f.pilots); err != nil {
				return 0, err
			}
		}
		began := time.Now()
		frozen := f.record.Snapshot()
		captures[i] = time.Since(began)
		began = time.Now()
		if _, err := f.pull(0, f.pilots); err != nil {
			return 0, err
		}
		after[i] = time.Since(began)
		if err := f.report(0, f.pilots); err != nil {
			return 0, err
		}
		began = time.Now()
		if err := frozen.Persist(io.Discard); err != nil {
			return 0, err
		}
		persisted = max(persisted, time.Since(began))
	}
	slices.Sort(captures)
	slices.Sort(after)
	slices.Sort(before)
	fmt.Fprintf(r, "%-46s %10d tasks\n", "queued", f.record.Queued())
	fmt.Fprintf(r, "%-46s %10.3f ms, at most %.3f\n", "capture", milliseconds(captures[25]), milliseconds(captures[49]))
	fmt.Fprintf(r, "%-46s %10.3f ms, at most %.3f\n", "entry of 128 pulls, not behind one", milliseconds(before[25]), milliseconds(before[49]))
	fmt.Fprintf(r, "%-46s %10.3f ms, at most %.3f\n", "the same entry behind it", milliseconds(after[25]), milliseconds(after[49]))
	fmt.Fprintf(r, "%-46s %10.0f ms\n", "writing it, beside the log, at most", milliseconds(persisted))
	return captures[49] + max(0, after[25]-before[25]), nil
}

// Pilots that bring about a long history: each reports as much at a time as it may.
const (
	historyPilots = 16
	historySlots  = protocol.MaxReports
)

// restartBehindHistory has a coordinator process come to a long history, ends it, and
// measures its next start.
func restartBehindHistory(ctx context.Context, r *run) (took time.Duration, finished int64, err error) {
	c, err := startCluster(ctx, r, 1)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	f, err := newFleet(ctx, c, historyPilots, historySlots)
	if err != nil {
		return 0, 0, err
	}
	defer f.close()
	datasets := manyDatasets
	working, stop := context.WithCancel(ctx)
	defer stop()
	if r.quick {
		datasets = 50
		working, stop = context.WithTimeout(working, 15*time.Second)
		defer stop()
	}
	if err := submitMany(ctx, c, datasets); err != nil {
		return 0, 0, err
	}
	var l load
	peak := l.until(working, c, f.pilots, historySlots, paperTasks)
	if finished = l.done.Load(); finished == 0 {
		return 0, 0, errors.Join(fmt.Errorf("no task was done: %s%s", l.repeated(), c.lastWords()), ctx.Err())
	}
	disk, ledger := sizeBelow(c.nodes[0].dir), sizeBelow(filepath.Join(c.nodes[0].dir, "history"))
	fmt.Fprintf(r, "%-46s %10d tasks, %.0f MiB on disk, ledger %.0f; %.0f MiB of memory at most\n", "history", finished, mebibytes(disk), mebibytes(ledger), mebibytes(peak))
	took, err = c.restart(ctx)
	return took, finished, err
}
