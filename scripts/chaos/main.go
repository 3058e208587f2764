package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// config is what a run is asked to do.
type config struct {
	duration time.Duration // of load and faults
	every    time.Duration // between faults of one lane, on average
	patience time.Duration // for everything to finish once all is healed
	lease    time.Duration
	timing   string
	seed     uint64
	pilots   int
	sites    int
	kinds    []string
	keep     bool

	floe, pilot string // programs
	dir         string
	prefix, net string
}

// share is how many of the pilots a site may have.
func (c *config) share(site int) int {
	n := c.pilots / c.sites
	if site < c.pilots%c.sites {
		n++
	}
	return n
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C is not waited for
	c, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = soak(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		if ctx.Err() != nil {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

func parse(args []string) (*config, error) {
	c := new(config)
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.DurationVar(&c.duration, "duration", 10*time.Minute, "how long there is load and faults")
	f.DurationVar(&c.every, "every", 8*time.Second, "time between two faults of coordinators, and of sites, on average")
	f.DurationVar(&c.patience, "patience", 15*time.Minute, "how long everything may take to finish once all is healed")
	f.DurationVar(&c.lease, "lease", 15*time.Second, "how long a lease lasts; short, so that faults matter")
	f.StringVar(&c.timing, "timing", "lan", "Raft's clocks")
	f.Uint64Var(&c.seed, "seed", rand.Uint64()>>32, "fixes the faults and their times")
	f.IntVar(&c.pilots, "pilots", 100, "real pilots")
	f.IntVar(&c.sites, "sites", 4, "sites, each with a share of the pilots")
	kinds := f.String("faults", "", "only these kinds, comma-separated; none for no faults")
	f.BoolVar(&c.keep, "keep", false, "keep everything after success, too")
	f.StringVar(&c.dir, "dir", "", "directory of the run (default: a new one in the temporary directory)")
	f.StringVar(&c.prefix, "prefix", "floech", "of namespaces, links and the bridge; at most 8 letters")
	f.StringVar(&c.net, "net", "10.91.7", "first three numbers of the addresses")
	bin := f.String("bin", "bin", "directory of floe and floe-pilot")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if c.pilots < 1 || c.sites < 1 || c.sites > 200 || len(c.prefix) > 8 || f.NArg() > 0 {
		return nil, fmt.Errorf("want at least one pilot and at most 200 sites, a prefix of at most 8 letters, and no arguments: %q", f.Args())
	}
	if *kinds != "" {
		c.kinds = strings.Split(*kinds, ",")
		for _, k := range c.kinds {
			if k != "none" && !slices.ContainsFunc(slices.Concat(coordinatorKinds, siteKinds), func(x kind) bool { return x.name == k }) {
				return nil, fmt.Errorf("fault %q is not known", k)
			}
		}
	}
	dir, err := filepath.Abs(*bin)
	c.floe, c.pilot = filepath.Join(dir, "floe"), filepath.Join(dir, "floe-pilot")
	return c, err
}

// lock keeps two runs from sharing namespaces.
func lock(prefix string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), prefix+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another run uses the prefix %s: %w", prefix, err), f.Close())
	}
	return f, nil
}

// soak is one run.
func soak(ctx context.Context, c *config) (err error) {
	held, err := lock(c.prefix)
	if err != nil {
		return err
	}
	defer held.Close()
	if c.dir == "" {
		c.dir, err = os.MkdirTemp("", "floe-chaos-")
	} else {
		err = os.Mkdir(c.dir, 0o700)
	}
	if err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(c.dir, "trace"))
	if err != nil {
		return err
	}
	defer file.Close()
	t := &trace{began: time.Now(), out: io.MultiWriter(os.Stdout, file)}
	faults := schedule(c.seed, c.duration, c.every, c.kinds)
	t.note("seed %d: %d faults in %v, %d pilots at %d sites; everything is in %s", c.seed, len(faults), c.duration, c.pilots, c.sites, c.dir)

	f, err := found(ctx, c, t)
	if err != nil {
		return fmt.Errorf("found the federation, see %s: %w", c.dir, err)
	}
	defer f.end()
	l, err := newLoad(f)
	if err != nil {
		return err
	}
	defer l.other.Close()
	f.run()
	t.note("founded; load and faults begin")

	loading, endLoad := context.WithTimeout(ctx, c.duration)
	defer endLoad()
	loaded := make(chan struct{})
	go func() { defer close(loaded); l.run(loading) }()
	struck := f.rage(ctx, time.Now(), faults)
	select {
	case <-loading.Done():
	case <-ctx.Done():
	}
	t.note("all faults are undone")
	if ctx.Err() == nil {
		<-loaded
		finishing, endFinish := context.WithTimeout(ctx, c.patience)
		defer endFinish()
		if err := l.finish(finishing); err != nil && ctx.Err() == nil {
			t.fail("%v", err)
		}
	}
	if ctx.Err() != nil {
		f.end()
		_ = os.RemoveAll(c.dir)
		return errors.New("interrupted; everything was ended and removed")
	}
	t.note("ending the pilots")
	f.endSites(time.Minute)
	v := &verdict{load: l, api: f.api, trace: t}
	v.sameRecord(ctx, f)
	t.note("checking every task")
	v.check()
	f.stopCoordinators()
	f.end()
	return report(f, l, v, struck)
}

// report prints the table and says whether the run passed.
func report(f *federation, l *load, v *verdict, struck map[string]int) error {
	c := f.config
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w)
	total := 0
	for _, k := range slices.Concat(coordinatorKinds, siteKinds) {
		if n := struck[k.name]; n > 0 {
			fmt.Fprintf(w, "%s\t%d\n", k.name, n)
			total += n
		}
	}
	fmt.Fprintf(w, "faults\t%d\n", total)
	fmt.Fprintf(w, "changes of leader\t%d\n", f.leadership.changed())
	fmt.Fprintf(w, "datasets acknowledged\t%d\n", len(l.account))
	fmt.Fprintf(w, "actions acknowledged\t%d\n", l.actions)
	fmt.Fprintf(w, "tasks held for losing their pilots, and released\t%d\n", l.held)
	fmt.Fprintf(w, "longest until a write was acknowledged\t%v\n", l.longest.Round(time.Millisecond))
	fmt.Fprintf(w, "tasks ok, each with one attempt that counts\t%d\n", v.tasks)
	fmt.Fprintf(w, "attempts\t%d\n", v.attempts)
	var words []string
	for word := range v.fates {
		words = append(words, word)
	}
	slices.Sort(words)
	for _, word := range words {
		fmt.Fprintf(w, "  %s\t%d\n", word, v.fates[word])
	}
	fmt.Fprintf(w, "runs of payloads\t%d\n", v.runs)
	for _, s := range f.sites {
		fmt.Fprintf(w, "most pilots at %s (cap %d), passes\t%d, %d\n", s.name, s.pilots, s.most, s.begun)
	}
	fmt.Fprintf(w, "seed\t%d\n", c.seed)
	failures := f.trace.failed()
	fmt.Fprintf(w, "failures\t%d\n", len(failures))
	_ = w.Flush()
	if len(failures) > 0 {
		return fmt.Errorf("%d failures, the first: %s\neverything is kept in %s; the same faults: scripts/soak --chaos %v --seed %d", len(failures), failures[0], c.dir, c.duration, c.seed)
	}
	if c.keep {
		fmt.Printf("kept in %s\n", c.dir)
		return nil
	}
	return os.RemoveAll(c.dir)
}
