package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"floe/glidein/unmonitored"
	"floe/pilot"
	"floe/pilot/library"
	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/steering"

	"github.com/spf13/cobra"
)

// runJobCommand is what a batch job of a run calls on its node.
func runJobCommand() *cobra.Command {
	return &cobra.Command{
		Use: "job FILE", Short: "Run one job as its batch job does", Hidden: true, Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			var spec jobSpec
			b, err := os.ReadFile(args[0])
			if err == nil {
				err = json.Unmarshal(b, &spec)
			}
			if err != nil {
				return err
			}
			result := unmonitored.Result{Started: time.Now().UTC()}
			result.Host, _ = os.Hostname()
			err = runSpec(c, &spec, &result)
			if err != nil && result.Evidence == "" {
				result.Evidence = err.Error()
			}
			result.OK, result.Ended = err == nil, time.Now().UTC()
			// Behind all that was printed: the end of the output is what is read.
			return errors.Join(err, result.Write(c.OutOrStdout(), spec.Launch))
		},
	}
}

func runSpec(c *cobra.Command, spec *jobSpec, result *unmonitored.Result) error {
	scratch, err := os.MkdirTemp(firstOf(spec.Scratch, os.TempDir()), "floe-run-")
	if err != nil {
		return err
	}
	// Trees in the cache are read-only.
	defer func() { _ = payload.Dir(scratch).Remove() }()
	here, modules := ".", "."
	p := &spec.Plan
	job := pilot.LocalJob{
		Dataset: p.Dataset, Job: spec.Job, JobCount: p.Jobs, Seed: p.Seed, Options: p.Options, System: spec.System,
		Dir: scratch, Scratch: filepath.Join(scratch, "work"), Cache: spec.Cache, Resume: true,
		Cores: spec.Cores, Memory: spec.Memory, NoCards: spec.GPUs == 0, Log: c.OutOrStdout(),
		Groups: payload.FindGroups(), Library: library.Program(),
		Logger: slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Began:  func(t *pilot.LocalTask) { fmt.Fprintf(c.OutOrStdout(), "task %d %s\n", t.Index, t.Name) },
	}
	if spec.Limit > 0 {
		job.End = result.Started.Add(spec.Limit.Duration())
	}
	blobs := ""
	if seesRun(spec) {
		here, modules = spec.Run, filepath.Join(spec.Run, runModulesDir)
		blobs = filepath.Join(unmonitored.Dir(spec.Run, spec.Job), "blobs")
		job.Dir, job.Blobs = spec.Run, blobs
	}
	text, err := os.ReadFile(filepath.Join(here, runSteeringFile))
	if err != nil {
		return err
	}
	doc, problems := steering.Parse(p.File, text)
	if problems.HasErrors() {
		return problems
	}
	job.Document = doc
	for _, m := range p.Modules {
		job.Modules = append(job.Modules, pilot.LocalModule{ModulePin: m, File: filepath.Join(modules, m.Digest.Hex())})
	}
	return judge(c, job, blobs, result)
}

// judge runs the job, prints how it went, and sums it up.
func judge(c *cobra.Command, job pilot.LocalJob, blobs string, result *unmonitored.Result) error {
	ctx := c.Context()
	ran, err := pilot.RunJob(ctx, job)
	if err := printLocal(&printer{out: c.OutOrStdout()}, "", ran); err != nil {
		return err
	}
	result.Tasks = len(ran)
	for _, t := range ran {
		r := t.Report
		result.CPU += r.Usage.CPUMillis
		result.Memory = max(result.Memory, r.Usage.PeakMemory)
		if r.Verdict != protocol.VerdictOK && result.Verdict == nil {
			result.Task, result.Verdict, result.Evidence = t.Name, &r.Verdict, r.Evidence
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("the batch system ended it: %w", context.Cause(ctx))
	}
	if err == nil && result.Verdict != nil {
		err = fmt.Errorf("task %s: %v: %s", result.Task, result.Verdict, result.Evidence)
	}
	if err != nil || blobs == "" {
		return err
	}
	return os.RemoveAll(blobs) // of files between tasks
}

// seesRun tells whether the run's directory is there, and is that run's.
func seesRun(spec *jobSpec) bool {
	var there runPlan
	b, err := os.ReadFile(filepath.Join(spec.Run, runPlanFile))
	return err == nil && json.Unmarshal(b, &there) == nil && there.ID == spec.Plan.ID
}
