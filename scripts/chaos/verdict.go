package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"floe/protocol"
)

// verdict compares what was acknowledged and what payloads left behind with what
// the coordinators say.
type verdict struct {
	load  *load
	api   *client
	trace *trace

	tasks    int            // ok, with one accepted attempt that did run
	attempts int            // in all
	fates    map[string]int // attempts by verdict and whether they count
	runs     int            // of payloads
	ids      map[protocol.DatasetID]bool
}

// run is one line that a payload wrote.
type run struct {
	attempt uint32
	drawn   uint64
}

func (v *verdict) fetch(path string, out any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	if err := v.api.fresh(ctx, path, out); err != nil {
		v.trace.fail("GET %s: %v", path, err)
		return false
	}
	return true
}

// check goes through every dataset of the account, and then looks for any others.
func (v *verdict) check() {
	v.fates, v.ids = map[string]int{}, map[protocol.DatasetID]bool{}
	for _, e := range v.load.account {
		if v.ids[e.id] {
			v.trace.fail("two submissions were acknowledged as dataset %d", e.id)
		}
		v.ids[e.id] = true
		v.dataset(e)
	}
	for cursor := ""; ; {
		var page protocol.DatasetPage
		if !v.fetch("/v1/datasets?limit=1000&cursor="+url.QueryEscape(cursor), &page) {
			return
		}
		for i := range page.Datasets {
			if d := &page.Datasets[i]; !v.ids[d.ID] {
				v.trace.fail("dataset %d, %q, was never acknowledged: something was done twice", d.ID, d.Alias)
			}
		}
		if cursor = page.Next; cursor == "" {
			return
		}
	}
}

func (v *verdict) dataset(e *entry) {
	var d protocol.Dataset
	if !v.fetch(fmt.Sprintf("/v1/datasets/%d", e.id), &d) {
		return
	}
	if d.Alias != e.alias || d.Jobs != e.jobs || d.State != protocol.DatasetComplete || d.JobCounts["ok"] != uint64(e.jobs) || d.TaskCounts["ok"] != 2*uint64(e.jobs) {
		v.trace.fail("dataset %d, acknowledged as %s with %d jobs, is %s, %v, with %d: jobs %v, tasks %v",
			e.id, e.alias, e.jobs, d.Alias, d.State, d.Jobs, d.JobCounts, d.TaskCounts)
	}
	runs, err := v.readRuns(e.id)
	if err != nil {
		v.trace.fail("runs of dataset %d: %v", e.id, err)
		return
	}
	outputs := map[protocol.JobIndex]protocol.Output{}
	for cursor := ""; ; {
		var page protocol.OutputPage
		if !v.fetch(fmt.Sprintf("/v1/datasets/%d/outputs?limit=1000&cursor=%s", e.id, url.QueryEscape(cursor)), &page) {
			return
		}
		for _, o := range page.Outputs {
			if _, twice := outputs[o.Job]; twice {
				v.trace.fail("dataset %d lists two outputs of job %d", e.id, o.Job)
			}
			outputs[o.Job] = o
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	fold := map[string]float64{}
	used, wasted := 0, 0
	for job := range protocol.JobIndex(e.jobs) {
		accepted := map[string]run{}
		for _, name := range []string{"make", "join"} {
			var t protocol.Task
			if !v.fetch(fmt.Sprintf("/v1/datasets/%d/jobs/%d/tasks/%s", e.id, job, name), &t) {
				continue
			}
			at, counts := v.task(&t, runs[t.ID.String()])
			used, wasted = used+counts, wasted+len(t.Attempts)-counts
			if counts != 1 {
				continue
			}
			v.tasks++
			accepted[name] = at
			fold[name+"/ran"]++
			fold[name+"/drawn"] += float64(at.drawn)
		}
		if len(accepted) == 2 {
			v.output(e, job, outputs[job], accepted)
		}
	}
	v.statistics(e, fold, used, wasted)
}

// task checks one task's attempts and returns that which counts.
func (v *verdict) task(t *protocol.Task, runs []run) (accepted run, counts int) {
	if t.State != protocol.TaskOK {
		v.trace.fail("task %v %s is %v after %d attempts", t.ID, t.Name, t.State, len(t.Attempts))
	}
	v.runs += len(runs)
	ran := map[run]int{}
	for _, r := range runs {
		ran[r]++
	}
	last := uint32(0)
	for i := range t.Attempts {
		a := &t.Attempts[i]
		v.attempts++
		word := a.Verdict.String()
		switch {
		case a.Accepted && a.Withdrawn:
			word += ", withdrawn"
		case a.Accepted:
			word += ", accepted"
		case a.Verdict == protocol.VerdictOK:
			word += ", too late"
		}
		v.fates[word]++
		if !a.Accepted && a.Evidence != "" && v.fates[word] == 1 {
			v.trace.note("an example of %q: task %v, attempt %d at %s: %s", word, t.ID, a.Number, a.Site, a.Evidence)
		}
		if a.Number <= last {
			v.trace.fail("task %v has attempt %d after %d", t.ID, a.Number, last)
		}
		last = a.Number
		if !a.Accepted || a.Withdrawn {
			continue
		}
		counts++
		accepted.attempt = a.Number
		for _, s := range a.Statistics {
			if s.Name == "drawn" {
				accepted.drawn = uint64(s.Value)
			}
		}
		if ran[accepted] != 1 {
			v.trace.fail("task %v: attempt %d, which drew %d, counts; by what payloads wrote it ran %d times: %v", t.ID, accepted.attempt, accepted.drawn, ran[accepted], runs)
		}
	}
	if counts != 1 {
		v.trace.fail("task %v %s has %d attempts that count, of %d", t.ID, t.Name, counts, len(t.Attempts))
	}
	return accepted, counts
}

// output checks that the published file is that of the accepted attempt, made from
// the accepted attempt of its parent.
func (v *verdict) output(e *entry, job protocol.JobIndex, o protocol.Output, accepted map[string]run) {
	want := fmt.Sprintf("%d %d\n%d %d\n", accepted["make"].attempt, accepted["make"].drawn, accepted["join"].attempt, accepted["join"].drawn)
	if final := "file://" + filepath.Join(v.load.config.dir, "out", fmt.Sprintf("%d.%d", e.id, job)); o.URL != final && o.Intended != final {
		v.trace.fail("output of job %d.%d is at %q or %q, not meant for %s", e.id, job, o.URL, o.Intended, final)
	}
	got, err := os.ReadFile(strings.TrimPrefix(o.URL, "file://"))
	if o.Intended != "" { // the pilot died before it could say that it gave the final name
		v.fates["output without a confirmed name"]++
		if errors.Is(err, fs.ErrNotExist) {
			got, err = os.ReadFile(strings.TrimPrefix(o.Intended, "file://"))
		}
	}
	if err != nil || string(got) != want || o.Digest != protocol.DigestOf(got) {
		v.trace.fail("output of job %d.%d at %s is %q, %v, with digest %v; the accepted attempts wrote %q, and %v is recorded",
			e.id, job, o.URL, got, err, protocol.DigestOf(got), want, o.Digest)
	}
}

// statistics compares what the coordinators folded with the fold made here.
func (v *verdict) statistics(e *entry, fold map[string]float64, used, wasted int) {
	var s protocol.StatisticsReply
	if !v.fetch(fmt.Sprintf("/v1/datasets/%d/statistics", e.id), &s) {
		return
	}
	seen := 0
	for _, x := range s.Statistics {
		if x.Task == "" {
			continue
		}
		seen++
		if want := fold[x.Task+"/"+x.Name]; x.Sum != want || x.Count != uint64(fold[x.Task+"/ran"]) {
			v.trace.fail("statistic %s of task %s of dataset %d: %d values, sum %v; the accepted attempts give %v, sum %v",
				x.Name, x.Task, e.id, x.Count, x.Sum, fold[x.Task+"/ran"], want)
		}
	}
	if seen != len(fold) {
		v.trace.fail("dataset %d has %d statistics of tasks, want %d", e.id, seen, len(fold))
	}
	if s.Used.Attempts != uint64(used) || s.Wasted.Attempts != uint64(wasted) {
		v.trace.fail("dataset %d: %d attempts used and %d wasted; its tasks list %d and %d", e.id, s.Used.Attempts, s.Wasted.Attempts, used, wasted)
	}
}

// readRuns reads what the payloads of a dataset wrote, by task.
func (v *verdict) readRuns(id protocol.DatasetID) (map[string][]run, error) {
	f, err := os.Open(filepath.Join(v.load.config.dir, "runs", fmt.Sprint(id)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string][]run{}
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %q", s.Text())
		}
		attempt, err := strconv.ParseUint(fields[1], 10, 32)
		if err != nil {
			return nil, err
		}
		drawn, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil {
			return nil, err
		}
		all[fields[0]] = append(all[fields[0]], run{uint32(attempt), drawn})
	}
	return all, nil
}

// sameRecord waits until all coordinators have applied the same log, and compares
// what came of it.
func (v *verdict) sameRecord(ctx context.Context, f *federation) {
	var all []protocol.ClusterReply
	err := eventually(ctx, 2*time.Minute, func() error {
		all = all[:0]
		for _, c := range f.coordinators {
			s, err := c.status(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if string(s.Node) != c.name {
				return fmt.Errorf("%s answers for %s", s.Node, c.name)
			}
			all = append(all, s)
		}
		for _, s := range all {
			if s.Applied != all[0].Applied || s.History != s.Applied {
				return fmt.Errorf("%s applied %d, its history is at %d; %s applied %d", s.Node, s.Applied, s.History, all[0].Node, all[0].Applied)
			}
		}
		return nil
	})
	if err != nil {
		v.trace.fail("the coordinators do not come to the same index: %v", err)
		return
	}
	v.trace.note("all three have applied entry %d, and history has it", all[0].Applied)
	v.compared(ctx, f, all[0].Applied)
}

// comparedEvery is how many entries lie between two that coordinators compare.
const comparedEvery = 1024

// compared waits until each coordinator has found its record equal to the others',
// by its hashes, and none has found it astray or against an invariant.
func (v *verdict) compared(ctx context.Context, f *federation, applied uint64) {
	want := float64(applied) - comparedEvery
	for _, c := range f.coordinators {
		var all map[string]float64
		err := eventually(ctx, 4*time.Minute, func() (err error) {
			asking, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if all, err = c.api.figures(asking); err != nil {
				return err
			}
			if got, ok := all["floe_record_compared_index"]; !ok || got < want {
				return fmt.Errorf("compared up to %v of %d", got, applied)
			}
			return nil
		})
		if err != nil {
			v.trace.fail("%s has not compared its record with the others': %v", c.name, err)
			continue
		}
		for _, figure := range []string{"floe_record_astray", "floe_read_only", "floe_audit_violations", "floe_history_gap"} {
			if n, ok := all[figure]; !ok || n != 0 {
				v.trace.fail("%s says %s = %v (known: %v)", c.name, figure, n, ok)
			}
		}
		v.trace.note("%s found its record equal to the others' up to entry %.0f", c.name, all["floe_record_compared_index"])
	}
}
