package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"floe/protocol"
)

// The simulation production of ten years. Source: paper, Table 4.
const (
	paperDatasets = 2421
	paperJobs     = 16_000_000
	paperTasks    = 23_000_000
	paperSites    = 25
)

// Pilots of the replay: as many as the lifecycle bench has.
const (
	pilotsPerSite = 5
	replaySlots   = 8
)

// batch is one dataset of the replay.
type batch struct {
	jobs  uint32
	tasks int
}

// paperBatches are the datasets of Table 4: sizes differ by a factor of a hundred,
// most jobs are one task, others a chain of two, or one task whose output two read
// and a fourth gathers.
func paperBatches() []batch {
	all := make([]batch, paperDatasets)
	weight, whole := make([]int, paperDatasets), 0
	for i := range all {
		weight[i] = 1000 / (1 + i*797%100) // 10 to 1000, mixed
		whole += weight[i]
	}
	jobs := 0
	for i := range all {
		all[i] = batch{uint32(max(1, paperJobs*weight[i]/whole)), 1}
		jobs += int(all[i].jobs)
	}
	all[0].jobs += uint32(max(0, paperJobs-jobs))
	more := paperTasks - paperJobs
	for i := range all {
		shape := []int{1, 2, 1, 4}[i%4]
		if extra := int(all[i].jobs) * (shape - 1); extra <= more {
			all[i].tasks = shape
			more -= extra
		}
	}
	return all
}

// document is the steering file of a batch.
func (b batch) document(i int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "version: \"3\"\ntitle: replay %d\ntasks:\n", i)
	parents := [][]string{nil, {"first"}, {"first"}, {"second", "third"}}
	for t, name := range []string{"first", "second", "third", "fourth"}[:b.tasks] {
		fmt.Fprintf(&s, "  - name: %s\n    requirements: {cpu: 1, memory: %d, disk: 1}\n", name, 1+i%3)
		if len(parents[t]) > 0 {
			fmt.Fprintf(&s, "    depends: [%s]\n", strings.Join(parents[t], ", "))
		}
		s.WriteString("    trays: [{name: tray, modules: [{name: nothing, src: /bin/true}]}]\n")
	}
	return s.String()
}

// quickReplay is how long the quick form has pilots work at most.
const quickReplay = 22 * time.Second

func replay(ctx context.Context, r *run) (result, error) {
	out := result{Unit: "minutes", Target: 45, AtMost: true}
	batches := paperBatches()
	if r.quick {
		var some []batch
		for i := 0; i < len(batches); i += 101 { // one in a hundred, of all sizes and shapes
			some = append(some, batches[i])
		}
		batches = some
	}
	jobs, tasks := 0, 0
	for _, b := range batches {
		jobs += int(b.jobs)
		tasks += int(b.jobs) * b.tasks
	}
	c, err := startCluster(ctx, r, 3)
	if err != nil {
		return out, err
	}
	defer c.close()
	pilots, end, err := fleets(ctx, c)
	if err != nil {
		return out, err
	}
	defer end()
	fmt.Fprintf(r, "%-46s %10d datasets, %d jobs, %d tasks, %d sites\n", "replayed", len(batches), jobs, tasks, paperSites)

	began := time.Now()
	ids, err := submitAll(ctx, c, batches)
	if err != nil {
		return out, err
	}
	submitted := time.Since(began)
	var l load
	working, stop := context.WithCancel(ctx)
	defer stop()
	if r.quick {
		working, stop = context.WithTimeout(working, quickReplay)
		defer stop()
	}
	peak := l.until(working, c, pilots, replaySlots, int64(tasks))
	took, done := time.Since(began), l.done.Load()
	if done == 0 {
		return out, errors.Join(fmt.Errorf("no task was done: %s%s", l.repeated(), c.lastWords()), ctx.Err())
	}
	if err := l.settle(ctx, pilots); err != nil {
		return out, err
	}
	share := float64(done) / paperTasks
	out.Value = took.Minutes() / share
	out.Notes = append(out.Notes, fmt.Sprintf("%d datasets, %d jobs, %d of %d tasks at %d sites", len(batches), jobs, done, tasks, paperSites))
	if share < 0.99 {
		out.Notes = append(out.Notes, fmt.Sprintf("extrapolated from %.2f %% of the tasks", 100*share))
	}
	fmt.Fprintf(r, "%-46s %10.1f s\n", "submitted in", submitted.Seconds())
	fmt.Fprintf(r, "%-46s %10d in %.0f s: %.0f /s\n", "tasks done", done, took.Seconds(), perSecond(int(done), took))
	fmt.Fprintf(r, "%-46s %10.1f minutes\n", "all of Table 4", out.Value)
	fmt.Fprintf(r, "%-46s %10s\n", "repeated", l.repeated())

	if !r.quick {
		if n := c.unfinished(ctx, ids); n > 0 {
			out.Problems = append(out.Problems, fmt.Sprintf("%d datasets are not complete", n))
		}
	}
	slowest, err := c.askAround(ctx, r, ids[len(ids)/2])
	if err != nil {
		return out, err
	}
	if slowest > time.Second {
		out.Problems = append(out.Problems, fmt.Sprintf("a query took %.2f s", slowest.Seconds()))
	}
	restarted, err := c.restart(ctx)
	if err != nil {
		return out, err
	}
	out.noteRestart(restarted, done)
	disk := sizeBelow(c.nodes[0].dir)
	ledger := sizeBelow(filepath.Join(c.nodes[0].dir, "history"))
	fmt.Fprintf(r, "%-46s %10.0f MiB, of which ledger %.0f MiB (%.0f bytes per task)\n", "disk per coordinator", mebibytes(disk), mebibytes(ledger), float64(ledger)/float64(done))
	fmt.Fprintf(r, "%-46s %10.0f MiB\n", "memory per coordinator, at most", mebibytes(peak))
	out.Notes = append(out.Notes, fmt.Sprintf("slowest query %.0f ms; per coordinator %.0f MiB on disk, %.0f MiB of memory at most",
		milliseconds(slowest), mebibytes(disk), mebibytes(peak)))
	return out, nil
}

// fleets are the pilots of all sites, and what closes them.
func fleets(ctx context.Context, c *cluster) (pilots []*simulated, end func(), err error) {
	var all []*fleet
	end = func() {
		for _, f := range all {
			f.close()
		}
	}
	for i := range paperSites {
		f, err := newFleetAt(ctx, c, protocol.SiteID(fmt.Sprintf("site%02d", i)), pilotsPerSite, replaySlots)
		if err != nil {
			end()
			return nil, nil, err
		}
		all, pilots = append(all, f), append(pilots, f.pilots...)
	}
	return pilots, end, nil
}

// submitAll submits datasets, some at a time.
func submitAll(ctx context.Context, c *cluster, batches []batch) ([]protocol.DatasetID, error) {
	ids := make([]protocol.DatasetID, len(batches))
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for i, b := range batches {
		work.Go(func() (err error) {
			ids[i], err = c.submit(workCtx, b.document(i), b.jobs)
			return err
		})
	}
	return ids, work.Wait()
}

// until has all pilots work until so many tasks are done or ctx ends. It returns the
// most memory that a coordinator used.
func (l *load) until(ctx context.Context, c *cluster, pilots []*simulated, slots int, tasks int64) (peak int64) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.drive(working, pilots, slots)
	}()
	for ctx.Err() == nil && l.done.Load() < tasks {
		pause(ctx, lookEvery)
		for _, x := range c.nodes {
			peak = max(peak, x.usage().RSS)
		}
	}
	stop()
	<-ended
	return peak
}

// unfinished counts the datasets that are not complete.
func (c *cluster) unfinished(ctx context.Context, ids []protocol.DatasetID) (n int) {
	for _, id := range ids {
		if d, err := c.dataset(ctx, id); err != nil || d.State != protocol.DatasetComplete {
			n++
		}
	}
	return n
}

// askAround asks what people ask, once each, and returns how long the slowest answer
// took.
func (c *cluster) askAround(ctx context.Context, r *run, id protocol.DatasetID) (slowest time.Duration, err error) {
	for _, path := range []string{
		"/v1/datasets", "/v1/datasets?state=complete&limit=1000", "/v1/datasets/%d", "/v1/datasets/%d/jobs", "/v1/datasets/%d/jobs?state=ok&limit=1000",
		"/v1/datasets/%d/jobs/7", "/v1/datasets/%d/tasks", "/v1/datasets/%d/tasks?state=ok", "/v1/datasets/%d/jobs/7/tasks/first",
		"/v1/datasets/%d/statistics", "/v1/datasets/%d/outputs", "/v1/cluster",
	} {
		if strings.Contains(path, "%d") {
			path = fmt.Sprintf(path, id)
		}
		var answer any
		began := time.Now()
		if err := c.ask(ctx, http.MethodGet, path, nil, &answer); err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		took := time.Since(began)
		fmt.Fprintf(r, "%-46s %10.1f ms\n", path, milliseconds(took))
		slowest = max(slowest, took)
	}
	return slowest, nil
}
