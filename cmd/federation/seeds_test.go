package federation

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"
)

var (
	seeds = flag.Int("seeds", 3, "how many seeds TestSeeds tries, from 1")
	seed  = flag.Uint64("seed", 0, "the only seed to try; 0 tries -seeds")
)

// TestSeeds lets each seed draw faults and runs a federation through them. What
// must hold is checked all along and afterwards.
func TestSeeds(t *testing.T) {
	first, last := uint64(1), uint64(*seeds)
	if testing.Short() {
		last = first
	}
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for s := first; s <= last; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			run(t, s, func(f *federation) {
				f.open(2, 12)
				f.season(8+f.rand.IntN(8), 90*time.Minute)
				f.finish()
			})
		})
	}
}

// run runs a federation in a bubble; it is kept where it fails.
func run(t *testing.T, seed uint64, do func(f *federation)) {
	root, err := os.MkdirTemp(fastDir(), fmt.Sprintf("floe-federation-%d-", seed))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFederation(t, seed, root)
		defer func() {
			f.close()
			if t.Failed() {
				f.keep(seed)
			} else {
				_ = os.RemoveAll(root)
			}
		}()
		do(f)
	})
}

// fastDir is where syncs cost nothing, where there is such a place: nobody pulls the
// plug of this machine.
func fastDir() string {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); os.Getenv("TMPDIR") == "" && err == nil && info.IsDir() {
		return memory
	}
	return ""
}

// season submits datasets and lets faults happen, over a time.
func (f *federation) season(faults int, over time.Duration) {
	for _, s := range f.sites {
		s.start()
	}
	f.submit(uint32(40 + f.rand.IntN(40)))
	plan := f.draw(faults, over)
	for range 5 {
		plan.from = time.Duration(f.rand.Int64N(int64(over)))
		jobs := uint32(10 + f.rand.IntN(40))
		plan.add(0, "submit", func() { f.submit(jobs) })
	}
	plan.sort()
	plan.run()
}

// finish ends all faults, waits until everything is done, and checks.
func (f *federation) finish() {
	f.trace.Info("all faults end", "at", f.now())
	f.network.heal()
	for _, n := range f.nodes {
		if n.nic != nil {
			n.nic.freeze(false)
		}
		if !n.running() && !n.lost {
			n.start()
		}
	}
	for _, s := range f.sites {
		for _, p := range s.jobs() {
			p.nic.freeze(false)
		}
	}
	f.eventually("what the operator asked for", time.Hour, func() bool {
		return f.asking.Load() == 0 && !slices.ContainsFunc(f.nodes, func(n *node) bool { return n.lost })
	})
	f.eventually("all tasks to be ok", 6*time.Hour, func() bool {
		f.pause(20 * time.Second)
		for _, d := range f.known() {
			if f.dataset(d.id).TaskCounts["ok"] != uint64(d.jobs)*tasksPerJob {
				return false
			}
		}
		return true
	})
	f.checkStatistics()
	for _, s := range f.sites {
		s.stop()
	}
	f.eventually("all coordinators to be at one index", 10*time.Minute, f.level)
	f.archive.gather()
	for _, n := range f.nodes {
		n.stop()
	}
	f.work.Wait()
	f.check()
}

// level tells whether all coordinators have applied and written the same.
func (f *federation) level() bool {
	var first protocol.ClusterReply
	for i, n := range f.nodes {
		c, err := f.cluster(n)
		if err != nil || c.Applied != c.History || i > 0 && c.Applied != first.Applied {
			return false
		}
		if i == 0 {
			first = c
		}
	}
	return true
}
