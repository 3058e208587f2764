package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"floe/pilot"
	"floe/pilot/library"
	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/steering"

	"github.com/spf13/cobra"
)

// runCommand is for people who try a steering file before they submit it.
func runCommand() *cobra.Command {
	var job jobFlags
	var task, dir string
	var keep, quiet bool
	var cores int
	var jobs string
	var batch batchFlags
	c := &cobra.Command{
		Use:   "run [--job N | --batch TYPE --jobs 0-99] FILE",
		Short: "Run one job of a steering file on this machine, or many in a batch system",
		Long: "Run one job of a steering file on this machine, without any coordinator: its\n" +
			"tasks one after another, parents first, each as a pilot would run it, under\n" +
			"the limits it asks for. Outputs go where the file says.\n\n" +
			"With --dir the files between tasks, the logs and the cache stay there, and\n" +
			"--task can run one task again on what its parents left.\n\n" +
			"With --batch, jobs are submitted straight to a batch system, one batch job\n" +
			"each, and the command ends. --dir keeps the run (default FILE's name, .run):\n" +
			"its ledger, logs, and files between tasks. What the nodes have no shared file\n" +
			"system for is sent along. Nobody matches, retries or collects statistics:\n" +
			"sites, platforms, tags and published software need coordinators.\n\n" +
			"Exit code 1 if a task is not ok, or jobs cannot be submitted.",
		Example: "  floe run --job 7 mc.yaml\n" +
			"  floe run mc.yaml --batch slurm --queue long --jobs 0-99\n" +
			"  floe run status mc.run\n" +
			"  floe run resubmit mc.run",
		Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if batch.batch != "" || batch.config != "" {
				return runBatch(c, &batch, &job, jobs, args[0], dir)
			}
			if err := batch.misplaced(c); err != nil {
				return err
			}
			if jobs != "" {
				n, err := parseJobCount(jobs)
				if err != nil {
					return usageErrorf("--jobs %q: without --batch, it is how many jobs there are", jobs)
				}
				job.jobs = n
			}
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			doc, source, err := readDocument(c, args[0])
			if err != nil {
				return err
			}
			in, err := job.input(c, doc)
			if err != nil {
				return err
			}
			local := pilot.LocalJob{
				Document: doc, Dataset: in.Dataset, Job: in.Job, JobCount: in.JobCount, Seed: in.Seed, Options: in.Options, System: in.System,
				Dir: dir, Keep: keep, Cores: cores, Groups: payload.FindGroups(), Library: library.Program(),
				Logger: slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
			}
			if task != "" {
				index, ok := doc.TaskIndex(task)
				if !ok {
					return usageErrorf("--task %q: the tasks are %s", task, strings.Join(taskNames(doc), ", "))
				}
				local.Tasks = []protocol.TaskIndex{protocol.TaskIndex(index)}
			}
			if err := withoutCatalog(doc, steering.CompileInput{Dataset: in.Dataset, JobCount: in.JobCount, Seed: in.Seed, Options: in.Options}); err != nil {
				return err
			}
			uses, problems := steering.JobExternals(doc, in)
			modules, closed, err := fetchModules(c, source, uses, problems)
			if err != nil {
				return err
			}
			defer closed()
			local.Modules = modules
			if dir == "" {
				if local.Dir, err = os.MkdirTemp("", "floe-run-"); err != nil {
					return withExit(exitFailure, err)
				}
			}
			stays := local.Dir
			if dir == "" && !keep {
				stays = ""
				// Trees in the cache are read-only.
				defer func() { _ = payload.Dir(local.Dir).Remove() }()
			}
			if !quiet {
				local.Log = c.ErrOrStderr()
			}
			return runLocal(c, p, local, stays)
		},
	}
	flags := c.Flags()
	flags.Uint32Var(&job.job, "job", 0, "the job, counted from 0: $(job)")
	flags.StringVar(&jobs, "jobs", "", "how many jobs there are: $(jobs_submitted) (default one more than --job); with --batch those to submit: 100, 0-99, or 0-49/100, where there are 100")
	flags.Uint32Var(&job.dataset, "dataset", 0, "the dataset's number: $(dataset) (default the file's own)")
	flags.Uint64Var(&job.seed, "seed", 0, "the dataset's seed, which decides each $choice")
	flags.StringToStringVar(&job.in.Options, "option", nil, "NAME=TEXT: a value of $options")
	flags.StringToStringVar(&job.in.System, "system", nil, "NAME=TEXT: what a site says to $system")
	flags.StringVar(&task, "task", "", "run this task only")
	flags.IntVar(&cores, "cores", 0, "run tasks that do not wait for each other at the same time, on so many cores (default one after another); with --batch, cores of a batch job")
	flags.StringVar(&dir, "dir", "", "directory to work in, which stays (default a temporary one)")
	flags.BoolVar(&keep, "keep", false, "leave the tasks' working directories")
	flags.BoolVarP(&quiet, "quiet", "q", false, "do not show what the payloads print")
	fetchFlags(c, anyHost)
	batch.add(c)
	outputFlag(c)
	c.AddCommand(runStatusCommand(), runRemoveCommand(), runResubmitCommand(), runJobCommand())
	return c
}

// runLocal runs a job and shows how it went: progress and payloads' words on
// standard error, the result on standard output. dir is the job's directory if it
// stays.
func runLocal(c *cobra.Command, p *printer, job pilot.LocalJob, dir string) error {
	progress := c.ErrOrStderr()
	job.Began = func(t *pilot.LocalTask) {
		fmt.Fprintf(progress, "task %d %s\n", t.Index, t.Name)
	}
	ran, err := pilot.RunJob(c.Context(), job)
	if err != nil && len(ran) == 0 {
		return withExit(exitFailure, err)
	}
	if done, shown := p.value(localResult(&job, dir, ran)); shown != nil {
		return shown
	} else if !done {
		if shown := printLocal(p, dir, ran); shown != nil {
			return shown
		}
	}
	if err != nil {
		return err
	}
	for _, t := range ran {
		if t.Report.Verdict != protocol.VerdictOK {
			return withExit(exitFailure, fmt.Errorf("task %s: %v: %s", t.Name, t.Report.Verdict, t.Report.Evidence))
		}
	}
	return nil
}

// localJob is run -o json.
type localJob struct {
	Dataset protocol.DatasetID `json:"dataset"`
	Job     protocol.JobIndex  `json:"job"`
	OK      bool               `json:"ok"`
	Dir     string             `json:"dir,omitempty"`
	Tasks   []localTask        `json:"tasks"`
}

type localTask struct {
	Name   string                `json:"name"`
	Limits protocol.Requirements `json:"limits"`
	protocol.Attempt
}

func localResult(job *pilot.LocalJob, dir string, ran []*pilot.LocalTask) localJob {
	result := localJob{Dataset: job.Dataset, Job: job.Job, OK: true, Dir: dir, Tasks: []localTask{}}
	for _, t := range ran {
		r := t.Report
		result.OK = result.OK && r.Verdict == protocol.VerdictOK
		result.Tasks = append(result.Tasks, localTask{t.Name, t.Granted, protocol.Attempt{
			Lease: r.Lease.String(), Number: 1, Task: r.Task, Verdict: r.Verdict, Accepted: r.Verdict == protocol.VerdictOK,
			Evidence: r.Evidence, ExitCode: r.ExitCode, Signal: r.Signal, Host: r.Host,
			Granted: r.StartedUnix * 1000, Ended: r.EndedUnix * 1000, Usage: r.Usage,
			Statistics: r.Statistics, Outputs: r.Outputs, Modules: r.Modules, Log: r.Log,
		}})
	}
	return result
}

func printLocal(p *printer, dir string, ran []*pilot.LocalTask) error {
	var tasks, statistics, outputs [][]string
	for _, t := range ran {
		r := t.Report
		tasks = append(tasks, []string{
			t.Name, r.Verdict.String(), span(r.Usage.WallMillis), span(r.Usage.CPUMillis), r.Usage.PeakMemory.String(), cardTime(r.Usage.GPUMillis), cardMemory(r.Usage.PeakGPUMemory), visible(r.Evidence),
		})
		for _, s := range r.Statistics {
			statistics = append(statistics, []string{t.Name, s.Name, number(s.Value)})
		}
		for _, o := range r.Outputs {
			if o.Type == protocol.FilePermanent {
				outputs = append(outputs, []string{t.Name, o.Size.String(), o.Digest.String(), visible(firstOf(o.Published, o.URL))})
			}
		}
	}
	for _, list := range []struct {
		header []string
		rows   [][]string
	}{
		{[]string{"task", "verdict", "wall", "cpu", "memory", "gpu", "gpu memory", "evidence"}, tasks},
		{[]string{"task", "statistic", "value"}, statistics},
		{[]string{"task", "size", "digest", "url"}, outputs},
	} {
		if len(list.rows) == 0 {
			continue
		}
		if err := p.rows(list.header, list.rows); err != nil {
			return err
		}
	}
	if dir != "" {
		p.line("files are in %s", dir)
	}
	return nil
}
