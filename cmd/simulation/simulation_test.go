package simulation

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var (
	seeds   = flag.Int("seeds", 200, "how many seeds to run")
	oneSeed = flag.Uint64("seed", 0, "the one seed to run, with its trace")
	first   = flag.Bool("first", false, "end at the first seed that fails")
	minutes = flag.Int("minutes", 0, "virtual minutes full of faults; 0 is the default")
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // a run lives shortly
	os.Exit(m.Run())
}

// TestSeeds runs federations, one per seed.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		r, err := Run(*oneSeed, Options{Minutes: *minutes, Trace: os.Stdout, Replay: true})
		t.Logf("seed %d: %d entries, %d attempts, %d pilots in %v, trace %x", r.Seed, r.Entries, r.Attempts, r.Pilots, r.Virtual, r.Trace)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var entries, attempts, undecided, resumed, ahead int
	var virtual time.Duration
	if testing.Short() {
		*seeds = min(*seeds, 30)
	}
	for seed := range uint64(*seeds) {
		r, err := Run(seed+1, Options{Minutes: *minutes, Replay: seed%8 == 0})
		if err != nil {
			t.Error(report(t, seed+1, err))
			if *first {
				return
			}
			continue
		}
		entries, attempts, undecided, virtual = entries+r.Entries, attempts+r.Attempts, undecided+r.Undecided, virtual+r.Virtual
		resumed, ahead = resumed+r.Resumed, ahead+r.Ahead
	}
	if resumed == 0 || ahead == 0 {
		t.Errorf("in %d seeds %d attempts went on from a checkpoint and %d were leased ahead, want some of both", *seeds, resumed, ahead)
	}
	t.Logf("%d seeds, %v of virtual time: %d entries, %d attempts, %d of them from checkpoints, %d leased ahead, %d tasks undecided", *seeds, virtual, entries, attempts, resumed, ahead, undecided)
}

// TestLaunchLeases runs federations whose pilots come by launch leases alone: their
// jobs are refused, die, or find nothing to do, and answers to passes are lost. The
// work is done all the same, caps hold, and no launch lease is lost.
func TestLaunchLeases(t *testing.T) {
	if testing.Short() {
		*seeds = min(*seeds, 30)
	}
	var proven, failed uint64
	for seed := range uint64(*seeds) / 4 {
		r, err := Run(seed+1, Options{Minutes: *minutes, Launches: true, Replay: seed%8 == 0})
		if err != nil {
			t.Errorf("seed %d: %v", seed+1, err)
			if *first {
				return
			}
			continue
		}
		proven, failed = proven+r.Proven, failed+r.InVain
	}
	if proven == 0 || failed == 0 {
		t.Errorf("in %d seeds %d pilot jobs proved themselves and %d came to nothing, want some of both", *seeds/4, proven, failed)
	}
	t.Logf("%d pilot jobs proved themselves, %d came to nothing", proven, failed)
}

// TestOwnersOfSites runs federations whose sites ban datasets, cap what is used of them,
// and are paused, drained, stopped and reclaimed. Nothing is leased against that, and
// what was given back is done in the end.
func TestOwnersOfSites(t *testing.T) {
	if testing.Short() {
		*seeds = min(*seeds, 30)
	}
	for seed := range uint64(*seeds) / 4 {
		if _, err := Run(seed+1, Options{Minutes: *minutes, Owners: true, Replay: seed%8 == 0}); err != nil {
			t.Error(err)
			if *first {
				return
			}
		}
	}
}

// report runs a seed again, which must fail in the same way, and keeps its trace.
func report(t *testing.T, seed uint64, err error) error {
	t.Helper()
	f, ferr := os.CreateTemp("", "floe-simulation-*.trace")
	if ferr != nil {
		return errors.Join(err, ferr)
	}
	defer f.Close()
	_, again := Run(seed, Options{Minutes: *minutes, Trace: f})
	if again == nil || firstLine(again) != firstLine(err) {
		t.Errorf("seed %d does not repeat itself: %v, then %v", seed, err, again)
	}
	t.Logf("trace: %s; again: go test ./cmd/simulation -run Seeds -seed %d", f.Name(), seed)
	return err
}

// firstLine leaves out where a panic was: that names addresses.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// The same seed must give the same run, to the last event, or it could not be looked at
// again.
func TestASeedRepeatsItself(t *testing.T) {
	for _, seed := range []uint64{3, 14, 15} {
		var first, second bytes.Buffer
		a, err := Run(seed, Options{Minutes: 10, Trace: &first})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Run(seed, Options{Minutes: 10, Trace: &second})
		if err != nil {
			t.Fatal(err)
		}
		if a.Trace != b.Trace || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("seed %d: traces %x and %x", seed, a.Trace, b.Trace)
		}
		if quiet, err := Run(seed, Options{Minutes: 10}); err != nil || quiet.Trace != a.Trace {
			t.Errorf("seed %d: without a trace it is another run: %v", seed, err)
		}
	}
}
