package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Pilots of the lifecycle bench: enough that the coordinators are never idle.
const (
	lifecyclePilots = 128
	lifecycleSlots  = 8
	// singlePilots have one slot. They are more, because each has one task under way:
	// an entry of the log would be shared by few.
	singlePilots = 192
	// wantedCompactions is how many snapshots the full form sees.
	wantedCompactions = 3
	// longestLifecycle ends a full form that never sees them.
	longestLifecycle = 8 * time.Minute
)

func lifecycle(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "tasks/s", Target: 10_000}
	beside, d := 6*time.Second, time.Minute
	if r.quick {
		beside, d = 2*time.Second, 8*time.Second
	}
	raw, err := rawEntries(ctx, r, beside)
	if err != nil {
		return out, fmt.Errorf("raw entries: %w", err)
	}
	c, err := startCluster(ctx, r, 3)
	if err != nil {
		return out, err
	}
	defer c.close()
	f, err := newFleet(ctx, c, lifecyclePilots, lifecycleSlots)
	if err != nil {
		return out, err
	}
	defer f.close()
	if _, err := c.submit(ctx, oneTask, 100_000_000); err != nil {
		return out, err
	}
	var l load
	work := l.begin(ctx, c, f.pilots, lifecycleSlots)
	pause(ctx, 2*time.Second)
	space, err := watchSpace(ctx, c)
	if err != nil {
		work.end()
		return out, err
	}
	begun := time.Now()
	many, err := work.measure(ctx, "8-slot", d, func() bool {
		space.look(ctx)
		return !r.quick && space.compactions() < wantedCompactions && time.Since(begun) < longestLifecycle
	})
	work.end()
	if err != nil {
		return out, err
	}
	space.look(ctx)

	f.close()
	one, err := newFleetAt(ctx, c, "single", singlePilots, 1)
	if err != nil {
		return out, err
	}
	defer one.close()
	single, bare, err := onePerExchange(ctx, r, c, one, &l, beside)
	if err != nil {
		return out, err
	}
	signing, err := one.pilots[0].signingCost()
	if err != nil {
		return out, err
	}

	out.Value, out.Peer, out.PeerIs = many.perSecond, raw, "raw Raft entries/s, one command each, of three replicas in one process"
	cores := float64(time.Second) * 2 // what two idle cores give
	row := func(what, format string, args ...any) {
		line := fmt.Sprintf("%-46s ", what) + fmt.Sprintf(format, args...)
		fmt.Fprintln(r, line)
	}
	row("8-slot pilots", "%10.0f tasks/s", many.perSecond)
	row("  exchange p50, p99", "%10.1f, %.1f ms", milliseconds(many.trips.quantile(0.5)), milliseconds(many.trips.quantile(0.99)))
	row("  CPU per task: coordinators, pilots", "%10.0f, %.0f µs", microseconds(many.coordinator), microseconds(many.generator))
	row("  what two idle cores would give", "%10.0f tasks/s", cores/float64(many.cpu()))
	row("  forwarded by followers", "%10.1f %%", 100*many.forwarded)
	row("  log entries and ledger, per node and task", "%10.0f, %.0f bytes", space.logPerTask(many.tasks), space.ledgerPerTask(many.tasks))
	row("  written to disks, three nodes, per task", "%10.0f bytes", many.written)
	row("  log compactions of the leader", "%10d", space.compactions())
	row("1-slot pilots", "%10.0f tasks/s", single.perSecond)
	row("  exchange p50, p99", "%10.1f, %.1f ms", milliseconds(single.trips.quantile(0.5)), milliseconds(single.trips.quantile(0.99)))
	row("  CPU per task: coordinators, pilots", "%10.0f, %.0f µs", microseconds(single.coordinator), microseconds(single.generator))
	row("  of which signing the report", "%10.0f µs", microseconds(signing))
	row("raw Raft entries", "%10.0f /s", raw)
	row("bare HTTP/3 round trips", "%10.0f /s, %.0f µs CPU each", bare.perSecond, microseconds(bare.cpu))
	row("1-slot tasks ÷ bare round trips", "%10.2f by the clock, %.2f by CPU", single.perSecond/bare.perSecond, float64(bare.cpu)/float64(single.cpu()))
	row("repeated", "%s", l.repeated())

	if single.perSecond < bare.perSecond/2 {
		out.Problems = append(out.Problems, fmt.Sprintf("1-slot pilots: %.0f tasks/s, less than half of %.0f bare HTTP/3 round trips/s", single.perSecond, bare.perSecond))
	}
	if !r.quick && space.compactions() < wantedCompactions {
		out.Problems = append(out.Problems, fmt.Sprintf("%d log compactions, want %d", space.compactions(), wantedCompactions))
	}
	out.Notes = append(out.Notes,
		fmt.Sprintf("CPU per task %.0f µs in three coordinators, %.0f µs in the pilots; two idle cores would give %.0f tasks/s",
			microseconds(many.coordinator), microseconds(many.generator), cores/float64(many.cpu())),
		fmt.Sprintf("1-slot pilots %.0f tasks/s, bare HTTP/3 %.0f round trips/s, ratio %.2f", single.perSecond, bare.perSecond, single.perSecond/bare.perSecond),
		fmt.Sprintf("%.1f %% forwarded by followers, %.0f bytes of log and %.0f of ledger per task and node, %d compactions",
			100*many.forwarded, space.logPerTask(many.tasks), space.ledgerPerTask(many.tasks), space.compactions()))
	return out, nil
}

// pairs is how often the pilots with one slot and HTTP/3 alone take turns: a machine
// that others use, too, is slower for both then, and the ratio stays.
const pairs = 3

// onePerExchange measures pilots with one slot beside as many connections with HTTP/3
// alone. Rates are means, the times of
// exchanges those of the last turn.
func onePerExchange(ctx context.Context, r *run, c *cluster, f *fleet, l *load, d time.Duration) (single rate, alone bare, err error) {
	e, err := startEcho(ctx, r, len(f.pilots))
	if err != nil {
		return single, alone, fmt.Errorf("bare round trips: %w", err)
	}
	defer e.close()
	if err := f.connect(ctx); err != nil {
		return single, alone, err
	}
	c.rest(ctx)
	for range pairs {
		b, err := e.measure(ctx, d)
		if err != nil {
			return single, alone, fmt.Errorf("bare round trips: %w", err)
		}
		work := l.begin(ctx, c, f.pilots, 1)
		pause(ctx, time.Second)
		s, err := work.measure(ctx, "1-slot", d, nil)
		work.end()
		if err != nil {
			return single, alone, err
		}
		alone.perSecond += b.perSecond / pairs
		alone.cpu += b.cpu / pairs
		single.perSecond += s.perSecond / pairs
		single.coordinator += s.coordinator / pairs
		single.generator += s.generator / pairs
		single.trips = s.trips
	}
	return single, alone, nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// space follows what the leader keeps on disk while a load runs.
type space struct {
	c          *cluster
	leader     *node
	seen       map[string]bool // snapshots, by name
	first      int             // snapshots there at the beginning
	log, added int64           // bytes in the log now, and all that came
	ledger     int64           // bytes at the beginning
	grown      int64           // bytes since
}

func watchSpace(ctx context.Context, c *cluster) (*space, error) {
	leader, err := c.leader(ctx)
	if err != nil || leader == nil {
		return nil, fmt.Errorf("no leader to watch: %w", err)
	}
	s := &space{c: c, leader: leader, seen: map[string]bool{}}
	s.look(ctx)
	s.first, s.added = len(s.seen), 0
	s.ledger = sizeBelow(filepath.Join(leader.dir, "history"))
	return s, nil
}

// look notes new snapshots and how the log has grown. A compaction between two
// looks hides what came meanwhile: the log then counts from its new length.
func (s *space) look(ctx context.Context) {
	entries, _ := os.ReadDir(filepath.Join(s.leader.dir, "record", "snapshots")) // none before the first
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".tmp") {
			s.seen[e.Name()] = true
		}
	}
	if status, err := s.c.status(ctx); err == nil {
		now := int64(status.LogBytes)
		s.added += max(0, now-s.log)
		s.log = now
	}
	s.grown = sizeBelow(filepath.Join(s.leader.dir, "history")) - s.ledger
}

func (s *space) compactions() int { return len(s.seen) - s.first }

func (s *space) logPerTask(tasks int64) float64 { return float64(s.added) / float64(tasks) }

func (s *space) ledgerPerTask(tasks int64) float64 { return float64(s.grown) / float64(tasks) }

// sizeBelow adds up the sizes of all files below a directory.
func sizeBelow(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil { // it may be gone by now
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
