package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/glidein/unmonitored"
	"floe/protocol"
	"floe/protocol/steering"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// batchFlags are those of floe run with --batch.
type batchFlags struct {
	batch, config, program string
	atMost                 int
	dryRun                 bool
	own                    []string // names of all of them
}

// queueFlags are flags that stand for keys of site.toml's [queue].
var queueFlags = []struct{ flag, key, help string }{
	{"queue", "name", "the batch system's queue or partition; with --config one of its queues"},
	{"account", "account", "the batch system's account"},
	{"endpoint", "endpoint", "where the batch system is, for those that are not found by their tools"},
	{"memory", "memory", "memory of a batch job, such as 4GB (default what its largest task asks for)"},
	{"disk", "disk", "disk of a batch job (default what its largest task asks for)"},
	{"walltime", "walltime", "walltime of a batch job, such as 8h (default what its tasks ask for together, and ten minutes)"},
}

func (b *batchFlags) add(c *cobra.Command) {
	before := map[string]bool{}
	f := c.Flags()
	f.VisitAll(func(f *pflag.Flag) { before[f.Name] = true })
	f.StringVar(&b.batch, "batch", "", "submit jobs to this batch system: "+strings.Join(glidein.Types, ", "))
	f.StringVar(&b.config, "config", "", "take the batch system's queue, shape and words from this site.toml")
	for _, q := range queueFlags {
		f.String(q.flag, "", q.help)
	}
	f.Int("gpus", 0, "cards of a batch job (default what a task cannot do without)")
	f.StringArray("directive", nil, "a line for the batch system, passed as it is")
	f.StringVar(&b.program, "program", "", "the floe program on the nodes (default a copy of this one, in the run's directory)")
	f.IntVar(&b.atMost, "at-most", 0, "stay, and have at most so many jobs in the batch system at once (default no bound; for local, as many as there are cores)")
	f.BoolVar(&b.dryRun, "dry-run", false, "submit nothing: write the directory and the first submit file")
	f.VisitAll(func(f *pflag.Flag) {
		if !before[f.Name] {
			b.own = append(b.own, f.Name)
		}
	})
}

// misplaced refuses flags that mean nothing without --batch.
func (b *batchFlags) misplaced(c *cobra.Command) error {
	for _, name := range b.own {
		if c.Flags().Changed(name) {
			return usageErrorf("--%s: it is for --batch TYPE", name)
		}
	}
	return nil
}

// site writes the configuration of a run, which the flags or a file of the site give.
func (b *batchFlags) site(c *cobra.Command) ([]byte, error) {
	queue := map[string]any{"type": b.batch}
	var given []string
	for _, q := range queueFlags {
		if text, _ := c.Flags().GetString(q.flag); text != "" {
			queue[q.key] = text
			given = append(given, q.flag)
		}
	}
	for flag, key := range map[string]string{"cores": "cores", "gpus": "gpus"} {
		if n, _ := c.Flags().GetInt(flag); n != 0 {
			queue[key] = n
			given = append(given, flag)
		}
	}
	if lines, _ := c.Flags().GetStringArray("directive"); len(lines) > 0 {
		queue["directives"] = lines
		given = append(given, "directive")
	}
	if b.config == "" {
		return toml.Marshal(map[string]any{"queue": queue})
	}
	given = slices.DeleteFunc(given, func(flag string) bool { return flag == "queue" })
	if len(given) > 0 {
		slices.Sort(given)
		return nil, usageErrorf("--%s: with --config, the file says it", given[0])
	}
	return os.ReadFile(b.config)
}

// jobRanges reads --jobs of a batch run: 100, 0-99, 0-9,20-29, or 0-49/100, where
// $(jobs_submitted) is 100.
func jobRanges(text string) ([]protocol.JobRange, uint32, error) {
	const want = "want how many, such as 100, or which, such as 0-99, 7-7, or 0-49/100"
	which, total, ofMore := strings.Cut(text, "/")
	count := uint32(protocol.MaxJobs)
	if ofMore {
		n, err := parseJobCount(total)
		if err != nil {
			return nil, 0, usageErrorf("--jobs %q: %s", text, want)
		}
		count = n
	} else if n, err := parseJobCount(which); err == nil {
		return []protocol.JobRange{{First: 0, Last: protocol.JobIndex(n - 1)}}, n, nil
	}
	if strings.HasSuffix(which, "-") || which == "" || which == "all" {
		return nil, 0, usageErrorf("--jobs %q: %s", text, want)
	}
	ranges, err := protocol.ParseJobs(which, count)
	if err != nil {
		return nil, 0, usageErrorf("--jobs %q: %v; %s", text, err, want)
	}
	if !ofMore {
		count = uint32(ranges[len(ranges)-1].Last) + 1
	}
	return ranges, count, nil
}

func parseJobCount(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || n > protocol.MaxJobs {
		return 0, fmt.Errorf("%q is no number of jobs", text)
	}
	return uint32(n), nil
}

// runBatch submits the jobs of a steering file to a batch system.
func runBatch(c *cobra.Command, b *batchFlags, job *jobFlags, jobs, file, dir string) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	for _, name := range []string{"job", "task", "keep", "quiet"} {
		if c.Flags().Changed(name) {
			return usageErrorf("--%s: it is for one job on this machine, not for --batch", name)
		}
	}
	text, err := readSteering(c, file)
	if err != nil {
		return err
	}
	doc, _, err := parseDocument(c, file, text)
	if err != nil {
		return err
	}
	ranges, count, err := jobRanges(firstOf(jobs, "1"))
	if err != nil {
		return err
	}
	job.jobs = count
	in, err := job.input(c, doc)
	if err != nil {
		return err
	}
	if dir == "" {
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		if file == "-" {
			return usageErrorf("--dir is missing: where the run is to be kept")
		}
		dir = name + ".run"
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	d := &runDir{path: dir, doc: doc, plan: runPlan{
		ID: protocol.RandomText(8), File: file, Dataset: in.Dataset, Jobs: count, Seed: in.Seed, Options: in.Options, System: in.System, Program: b.program, Made: time.Now().UTC(),
	}}
	if b.config != "" {
		d.plan.Queue, _ = c.Flags().GetString("queue")
	}
	site, err := b.site(c)
	if err != nil {
		return err
	}
	if err := d.make(c, site, text); err != nil {
		return err
	}
	if err := d.open(b.batch); err != nil {
		return errors.Join(err, d.unmake())
	}
	if err := d.check(c.ErrOrStderr()); err != nil {
		return errors.Join(err, d.unmake())
	}
	run, err := unmonitored.Create(dir, ranges)
	if err != nil {
		return withExit(exitFailure, err)
	}
	defer run.Close()
	if b.dryRun {
		return d.dryRun(p, run)
	}
	return d.feed(c, p, run, run.Jobs, b.atMost)
}

// feed submits jobs. With a bound it stays until the last of them is in.
func (d *runDir) feed(c *cobra.Command, p *printer, run *unmonitored.Run, jobs []*unmonitored.Job, atMost int) error {
	ctx, progress := c.Context(), c.ErrOrStderr()
	// The batch system has no queue: all would begin at once.
	if atMost == 0 && d.queue.Type == "local" {
		cores := max(1, d.queue.Cores)
		if atMost = d.queue.MaxPilots; atMost == 0 {
			atMost = max(1, runtime.NumCPU()/cores)
		}
	}
	if atMost > 0 && len(jobs) > atMost {
		fmt.Fprintf(progress, "%d of %d jobs at a time; if this ends before, floe run resubmit %s goes on\n", atMost, len(jobs), d.path)
	}
	err := d.feedBatch(ctx, run, jobs, atMost)
	counts := run.Counts()
	if err == nil {
		p.line("%s: %s", d.path, stateCounts(counts))
		p.line("next: floe run status %s", d.path)
		return nil
	}
	fmt.Fprintf(progress, "%s: %s\nlater: floe run resubmit %[1]s\n", d.path, stateCounts(counts))
	return batchExit(err)
}

// feedEvery is how often a bounded run asks what has ended.
const feedEvery = 15 * time.Second

func (d *runDir) feedBatch(ctx context.Context, run *unmonitored.Run, jobs []*unmonitored.Job, atMost int) error {
	if atMost == 0 {
		return run.Submit(ctx, d.system, jobs, d.prepare)
	}
	every := feedEvery
	if d.queue.Type == "local" {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		room := atMost
		for _, j := range run.Jobs {
			if j.State.UnderWay() {
				room--
			}
		}
		n := min(max(room, 0), len(jobs))
		if err := run.Submit(ctx, d.system, jobs[:n], d.prepare); err != nil {
			return err
		}
		if jobs = jobs[n:]; len(jobs) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		// What cannot be asked now is asked again: nothing is submitted meanwhile.
		if err := run.Refresh(ctx, d.system); err != nil && !errors.Is(err, batch.ErrTransient) {
			return err
		}
	}
}

// dryRun writes the submit file of the first job.
func (d *runDir) dryRun(p *printer, run *unmonitored.Run) error {
	dir := filepath.Join(d.path, "dry-run")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	first := *run.Jobs[0]
	first.Launch = batch.RunPrefix + "dry-run"
	job, err := d.prepare(&first, dir)
	if err != nil {
		return err
	}
	job.Launch, job.Directory = first.Launch, dir
	file, err := d.system.WriteSubmitFile([]batch.Job{job})
	if err != nil {
		return err
	}
	p.line("%d jobs would be submitted; submit file: %s\nnext: floe run resubmit %s", len(run.Jobs), file, d.path)
	return nil
}

// stateCounts lists how many jobs are in each state.
func stateCounts(n map[unmonitored.State]int) string {
	var parts []string
	for s := unmonitored.Waiting; s <= unmonitored.Removed; s++ {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n[s], s))
		}
	}
	if len(parts) == 0 {
		return "no jobs"
	}
	return strings.Join(parts, ", ")
}

// batchExit gives errors of batch systems their exit code.
func batchExit(err error) error {
	if errors.Is(err, batch.ErrTransient) {
		return withExit(exitUnreachable, err)
	}
	return err
}

// check says what a run without coordinators cannot do, and refuses what it must not.
func (d *runDir) check(warn io.Writer) error {
	in := steering.CompileInput{Dataset: d.plan.Dataset, Seed: d.plan.Seed, JobCount: d.plan.Jobs, Options: d.plan.Options}
	if err := withoutCatalog(d.doc, in); err != nil {
		return err
	}
	plan, problems := steering.Compile(d.doc, in)
	if problems.HasErrors() {
		return withExit(exitFailure, problems)
	}
	d.tasks = plan.Tasks
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		for _, class := range t.Classes {
			r := &class.Requirements
			if len(r.Sites)+len(r.Tags)+len(r.OS) > 0 {
				fmt.Fprintf(warn, "task %s: it asks for a site, a platform or tags: without coordinators nobody looks at that; choose the queue accordingly\n", t.Name)
				break
			}
		}
	}
	return nil
}

// withoutCatalog refuses published software: only coordinators know it.
func withoutCatalog(doc *steering.Document, in steering.CompileInput) error {
	var all []error
	said := map[string]bool{}
	for _, use := range steering.Projects(doc, in) {
		name, version := use.Project.Software()
		if use.Resource != nil || said[name+" "+version] {
			continue
		}
		said[name+" "+version] = true
		all = append(all, fmt.Errorf("%v: project %s: published software is known to coordinators only; give its tarball as a resource with the local name %s and a checksum, or submit the file with floe submit",
			use.Position, strings.TrimSpace(name+" "+version), strings.Join(use.Project.ResourceNames(), " or ")))
	}
	return withExit(exitFailure, errors.Join(all...))
}
