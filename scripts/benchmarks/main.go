// Command benchmarks measures floe against the figures it promises; scripts/bench
// builds and runs it. A bench is one file with one function in the list below. It
// prints a table for people and, last, one line of JSON.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

// benches lists every bench, in the order in which "all" runs them.
var benches = []bench{
	{name: "lifecycle", about: "full task lifecycles (lease and report) through three coordinators with fsync", measure: lifecycle},
	{name: "backlog", about: "the same with 1,000 to 10 million tasks queued: last ÷ first", measure: backlog},
	{name: "state", about: "Apply alone: acquires and reports of one task, decoded from CBOR", measure: applyAlone},
	{name: "memory", about: "resident memory of a coordinator with 10^8 queued tasks, and of live leases", measure: memory},
	{name: "snapshot", about: "how long a snapshot holds up the log, and a restart with a long history", measure: snapshot},
	{name: "replay", about: "the paper's Table 4 end to end through three coordinators", measure: replay},
	{name: "latency", about: "from submit to first start, and from a parent's report to its child's start elsewhere", measure: latency},
	{name: "failover", about: "the leader is killed under load: until writes resume; nothing lost, nothing doubled", measure: failover},
	{name: "pilots", about: "memory of a coordinator with 10,000 idle pilots, and exchanges after a reconnect storm", measure: pilots},
	{name: "glidein", about: "a pass of a site over 5,000 queued pilot jobs, less the batch system's own tool", measure: glideinPass},
	{name: "truetasks", about: "real /bin/true tasks through one pilot, isolated, against a bare loop that spawns", measure: truetasks},
	{name: "cache", about: "software of 1 GB in 10,000 files: not there, of another pilot, of this one; SHA-256 and zstd alone ÷ cold", measure: cached},
	{name: "compare", about: "real /bin/true tasks through floe, Work Queue and a Slurm array", prepare: installPeers, measure: compare},
}

// bench measures one figure.
type bench struct {
	name, about string
	// prepare, where there is one, installs what measuring needs. Its time does not
	// count.
	prepare func(ctx context.Context) error
	// measure prints what it finds to r as a table and returns the figure. An error
	// says that there is none.
	measure func(ctx context.Context, r *run) (result, error)
}

// run is one run of a bench: where it prints and keeps files, and for how long it
// may go on.
type run struct {
	io.Writer
	// quick asks for a figure within quickLimit: less load, the same parts.
	quick bool
	// bin holds floe and floe-pilot. dir is an empty directory on a disk that syncs,
	// removed when the run has ended.
	bin, dir string
	// profiles is where CPU profiles of what is measured go; empty for none.
	profiles string
}

// quickLimit is how long a quick run may take. Source: issue of the benches (50 s).
const quickLimit = 48 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process
	// The load shares its cores with what it measures; its garbage is nobody's figure.
	debug.SetGCPercent(400)
	if len(os.Args) == 4 && os.Args[1] == echoCommand {
		if err := serveEcho(ctx, os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 6 && os.Args[1] == cacheCommand {
		if err := serveCacheUser(ctx, os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what was asked for on the command line.
type options struct {
	quick, record bool
	dir, docs     string
	profiles      string
}

func command(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "end in less than 50 s, with less load")
	flags.BoolVar(&o.record, "record", false, "write the result to docs/benchmarks")
	flags.StringVar(&o.dir, "dir", filepath.Join(".cache", "bench"), "where coordinators keep their files meanwhile")
	flags.StringVar(&o.docs, "docs", filepath.Join("docs", "benchmarks"), "where --record writes")
	flags.StringVar(&o.profiles, "profiles", "", "write CPU profiles of the coordinators and of the load into this directory")
	var names []string
	for len(args) > 0 { // flags may follow the name
		if err := flags.Parse(args); err != nil {
			return err
		}
		if args = flags.Args(); len(args) > 0 {
			names, args = append(names, args[0]), args[1:]
		}
	}
	if len(names) == 0 {
		for _, b := range benches {
			fmt.Fprintf(out, "%-10s %s\n", b.name, b.about)
		}
		return nil
	}
	chosen := benches
	if !slices.Equal(names, []string{"all"}) {
		chosen = nil
		for _, name := range names {
			i := slices.IndexFunc(benches, func(b bench) bool { return b.name == name })
			if i < 0 {
				return fmt.Errorf("no bench %q; scripts/bench lists them", name)
			}
			chosen = append(chosen, benches[i])
		}
	}
	var failed []error
	for _, b := range chosen {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := o.run(ctx, b, out); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", b.name, err))
		}
	}
	return errors.Join(failed...)
}

// errMissed: the figure was measured, and is not what was promised.
var errMissed = errors.New("the figure was missed")

func (o *options) run(ctx context.Context, b bench, out io.Writer) error {
	if b.prepare != nil {
		if err := b.prepare(ctx); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if o.quick {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quickLimit)
		defer cancel()
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, b.name+"-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "== %s: %s\n", b.name, b.about)
	measured, err := b.measure(ctx, &run{Writer: out, quick: o.quick, bin: bin, dir: dir, profiles: o.profiles})
	if err != nil {
		return err
	}
	measured.bench = b.name
	for _, problem := range measured.Problems {
		fmt.Fprintf(out, "problem: %s\n", problem)
	}
	if o.record {
		if err := record(ctx, o.docs, &measured, o.quick); err != nil {
			return fmt.Errorf("record: %w", err)
		}
	}
	line, err := measured.line()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n", line)
	if !measured.pass() {
		return errMissed
	}
	return nil
}
