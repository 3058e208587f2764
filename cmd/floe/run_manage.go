package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"floe/glidein/unmonitored"
	"floe/protocol"

	"github.com/spf13/cobra"
)

// runStatusCommand looks at a run that was submitted to a batch system.
func runStatusCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "status DIR", Short: "Say how the jobs of a run in a batch system are", Args: exactArgs("DIR"),
		Long: "Say how the jobs of a run in a batch system are: how many in each state, and those\n" +
			"that failed, are held or wait, with the reason.\n\n" +
			"Exit code 1 if a job failed or is lost, 5 if the batch system does not answer.",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			d, run, err := openRun(args[0])
			if err != nil {
				return err
			}
			defer run.Close()
			asked := run.Refresh(c.Context(), d.system)
			counts := run.Counts()
			done, err := p.value(map[string]any{"dir": d.path, "batch": d.queue.Type, "plan": d.plan, "counts": counts, "jobs": run.Jobs})
			if !done && err == nil {
				err = printRun(p, d, run, all)
			}
			if err := errors.Join(err, asked); err != nil {
				return batchExit(err)
			}
			if n := counts[unmonitored.Failed] + counts[unmonitored.Lost]; n > 0 {
				return withExit(exitFailure, fmt.Errorf("%d jobs did not go well; again: floe run resubmit %s", n, d.path))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "list every job")
	outputFlag(c)
	return c
}

func printRun(p *printer, d *runDir, run *unmonitored.Run, all bool) error {
	p.line("%s in %s: %s", visible(d.plan.File), d.queue.Type, stateCounts(run.Counts()))
	var rows [][]string
	for _, j := range run.Jobs {
		why, host := j.Reason, ""
		if r := j.Result; r != nil {
			host = r.Host
			if !r.OK {
				why = r.Evidence
				if r.Task != "" {
					why = fmt.Sprintf("task %s: %v: %s", r.Task, r.Verdict, r.Evidence)
				}
			}
		}
		telling := j.State == unmonitored.Failed || j.State == unmonitored.Lost || j.State == unmonitored.Held || j.State < unmonitored.Running && why != ""
		if all || telling {
			rows = append(rows, []string{strconv.FormatUint(uint64(j.Job), 10), j.State.String(), strconv.Itoa(j.Attempt), visible(string(j.BatchID)), visible(host), visible(why)})
		}
		if j.State == unmonitored.Lost {
			rows = append(rows, []string{"", "", "", "", "", "see " + run.OutputPath(j)})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return p.rows([]string{"job", "state", "attempt", "batch job", "host", "why"}, rows)
}

// someJobs reads --jobs of a command on a run.
func someJobs(c *cobra.Command) ([]protocol.JobRange, error) {
	text, _ := c.Flags().GetString("jobs")
	ranges, err := protocol.ParseJobs(text, protocol.MaxJobs)
	if err != nil {
		return nil, usageErrorf("--%v", err)
	}
	return ranges, nil
}

// runRemoveCommand takes jobs back.
func runRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "remove DIR", Short: "Take jobs of a run out of the batch system", Args: exactArgs("DIR"),
		Long: "Take jobs of a run out of the batch system: those that wait there, and those that run,\n" +
			"which are asked to end. The directory stays; floe run resubmit submits them again.",
		RunE: func(c *cobra.Command, args []string) error {
			ranges, err := someJobs(c)
			if err != nil {
				return err
			}
			d, run, err := openRun(args[0])
			if err != nil {
				return err
			}
			defer run.Close()
			// First of all, to know what there is: an answer may have been lost.
			if err := run.Refresh(c.Context(), d.system); err != nil {
				return batchExit(err)
			}
			some := run.Pick(ranges, unmonitored.State.UnderWay)
			err = run.Remove(c.Context(), d.system, some)
			err = errors.Join(err, run.Refresh(c.Context(), d.system))
			removing := len(slices.DeleteFunc(some, func(j *unmonitored.Job) bool { return !j.Removing && j.State != unmonitored.Removed }))
			fmt.Fprintf(c.OutOrStdout(), "%d jobs are taken out; %s\n", removing, stateCounts(run.Counts()))
			return batchExit(err)
		},
	}
	c.Flags().String("jobs", "", "only these, such as 0-9,12 (default all)")
	return c
}

// runResubmitCommand submits what has not gone well.
func runResubmitCommand() *cobra.Command {
	var atMost int
	c := &cobra.Command{
		Use: "resubmit DIR", Short: "Submit the jobs of a run again that are neither done nor under way", Args: exactArgs("DIR"),
		Long: "Submit the jobs of a run again that are neither done nor under way: those that failed, are\n" +
			"lost or were removed, and those that were never submitted. Tasks of a job that went well\n" +
			"are not run again where the nodes see the run's directory. What a job asks for, and of\n" +
			"which queue, is read anew from the directory's site.toml.",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			ranges, err := someJobs(c)
			if err != nil {
				return err
			}
			d, run, err := openRun(args[0])
			if err != nil {
				return err
			}
			defer run.Close()
			if err := d.read(c); err != nil {
				return err
			}
			if err := run.Refresh(c.Context(), d.system); err != nil {
				return batchExit(err)
			}
			some := run.Pick(ranges, unmonitored.State.Again)
			if len(some) == 0 {
				p.line("nothing to submit: %s", stateCounts(run.Counts()))
				return nil
			}
			return d.feed(c, p, run, some, atMost)
		},
	}
	c.Flags().String("jobs", "", "only these, such as 0-9,12 (default all)")
	c.Flags().IntVar(&atMost, "at-most", 0, "as for floe run")
	return c
}
