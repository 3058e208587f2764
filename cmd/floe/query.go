package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"floe/protocol"

	"github.com/spf13/cobra"
)

// datasetArg reads a dataset number.
func datasetArg(s string) (protocol.DatasetID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, usageErrorf("dataset %q: want its number, such as 12", s)
	}
	return protocol.DatasetID(n), nil
}

// taskPath reads DATASET.JOB.TASK, TASK being an index or a name, and gives its address.
func taskPath(s string) (string, error) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) == 3 {
		_, err1 := strconv.ParseUint(parts[0], 10, 32)
		_, err2 := strconv.ParseUint(parts[1], 10, 32)
		if err1 == nil && err2 == nil && parts[2] != "" {
			return fmt.Sprintf("/v1/datasets/%s/jobs/%s/tasks/%s", parts[0], parts[1], url.PathEscape(parts[2])), nil
		}
	}
	return "", usageErrorf("task %q: want DATASET.JOB.TASK, such as 12.7.photons or 12.7.2", s)
}

// jobPath reads DATASET.JOB and gives its address.
func jobPath(s string) (string, error) {
	dataset, job, ok := strings.Cut(s, ".")
	_, err1 := strconv.ParseUint(dataset, 10, 32)
	_, err2 := strconv.ParseUint(job, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return "", usageErrorf("job %q: want DATASET.JOB, such as 12.7", s)
	}
	return fmt.Sprintf("/v1/datasets/%s/jobs/%s", dataset, job), nil
}

// listQuery builds the query of a paged list from the command's flags.
func listQuery(c *cobra.Command) url.Values {
	q := url.Values{}
	for _, name := range []string{"state", "task", "owner", "limit", "cursor"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			q.Set(name, f.Value.String())
		}
	}
	return q
}

func pageFlags(c *cobra.Command) {
	c.Flags().Int("limit", 0, "at most so many rows (the coordinator's default is 100)")
	c.Flags().String("cursor", "", "go on after this place, as a former page named it")
	outputFlag(c)
}

func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// get asks for path and prints the answer with show, or as JSON.
func get[T any](c *cobra.Command, path string, show func(*printer, *T) error) error {
	return withClient(c, func(p *printer, api *client) error {
		var answer T
		if err := api.call(c.Context(), http.MethodGet, path, nil, &answer); err != nil {
			return err
		}
		if done, err := p.value(&answer); done || err != nil {
			return err
		}
		return show(p, &answer)
	})
}

// more tells a person how to see the next page.
func (p *printer) more(next string) {
	if next != "" && p.tty {
		p.line("… more with --cursor %s", next)
	}
}

func datasetsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "datasets", Short: "List datasets, newest first", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return get(c, withQuery("/v1/datasets", listQuery(c)), func(p *printer, page *protocol.DatasetPage) error {
				var rows [][]string
				for _, d := range page.Datasets {
					rows = append(rows, []string{
						fmt.Sprint(d.ID), d.State.String(), fmt.Sprintf("%d/%d", d.JobCounts["ok"], d.Jobs), fmt.Sprint(d.JobCounts["error"]),
						string(d.Owner), moment(d.Submitted), visible(firstOf(d.Title, d.Alias, d.Description)),
					})
				}
				defer p.more(page.Next)
				return p.rows([]string{"dataset", "state", "jobs ok", "error", "owner", "submitted", "title"}, rows)
			})
		},
	}
	c.Flags().String("state", "", "only datasets in this state: processing, suspended, complete, errors")
	c.Flags().String("owner", "", "only datasets of this user")
	pageFlags(c)
	return c
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func datasetCommand() *cobra.Command {
	c := &cobra.Command{Use: "dataset", Short: "Show one dataset, let it grow, or end it"}
	show := &cobra.Command{
		Use: "show DATASET", Short: "State, tasks and counts of a dataset", Args: exactArgs("DATASET"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			return get(c, fmt.Sprintf("/v1/datasets/%d", id), printDataset)
		},
	}
	outputFlag(show)
	c.AddCommand(show, growCommand(), datasetRetireCommand())
	return c
}

func printDataset(p *printer, d *protocol.Dataset) error {
	p.line("dataset %d %s: %s", d.ID, d.State, visible(firstOf(d.Title, d.Alias, "(no title)")))
	if d.Description != "" {
		p.line("  %s", visible(d.Description))
	}
	p.line("  owner %s, group %s, priority %d, submitted %s", d.Owner, firstOf(string(d.Group), "-"), d.Priority, moment(d.Submitted))
	p.line("  jobs  %d: %s", d.Jobs, counts(d.JobCounts, protocol.JobStates))
	p.line("  tasks %s", counts(d.TaskCounts, protocol.TaskStates))
	p.line("  steering %s, seed %d", d.Steering, d.Seed)
	rows := make([][]string, 0, len(d.Tasks))
	for _, t := range d.Tasks {
		var after []string
		for _, parent := range t.Parents {
			after = append(after, d.Tasks[parent].Name)
		}
		rows = append(rows, []string{t.Name, firstOf(strings.Join(after, " "), "-"), needs(t.Requirements), counts(t.Counts, protocol.TaskStates)})
	}
	if err := p.rows([]string{"task", "after", "needs", "states"}, rows); err != nil || len(d.Modules) == 0 {
		return err
	}
	p.line("")
	return printPins(p, d.Modules)
}

// printPins shows what external modules are.
func printPins(p *printer, pins []protocol.ModulePin) error {
	rows := make([][]string, 0, len(pins))
	for _, m := range pins {
		rows = append(rows, []string{visible(m.URL), visible(m.Pinned), m.Digest.Hex()[:12], m.Size.String()})
	}
	return p.rows([]string{"external module", "pinned as", "tarball", "size"}, rows)
}

// needs writes requirement classes in a few words.
func needs(classes []protocol.Requirements) string {
	var words []string
	for _, r := range classes {
		w := fmt.Sprintf("%d cores", max(r.Cores, 1))
		if r.Memory > 0 {
			w += fmt.Sprintf(" %v", r.Memory)
		}
		if r.GPUs > 0 {
			w += fmt.Sprintf(" %d gpus", r.GPUs)
		}
		if r.Walltime > 0 {
			w += fmt.Sprintf(" %v", r.Walltime.Duration())
		}
		words = append(words, w)
	}
	return strings.Join(words, " or ")
}

func jobsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "jobs DATASET", Short: "List the jobs of a dataset", Args: exactArgs("DATASET"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			return get(c, withQuery(fmt.Sprintf("/v1/datasets/%d/jobs", id), listQuery(c)), func(p *printer, page *protocol.JobPage) error {
				var rows [][]string
				for _, j := range page.Jobs {
					rows = append(rows, []string{fmt.Sprintf("%d.%d", j.Dataset, j.Index), j.State.String()})
				}
				defer p.more(page.Next)
				return p.rows([]string{"job", "state"}, rows)
			})
		},
	}
	c.Flags().String("state", "", "only jobs in this state: queued, processing, ok, error, suspended")
	pageFlags(c)
	return c
}

func jobCommand() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "Show one job"}
	show := &cobra.Command{
		Use: "show DATASET.JOB", Short: "The tasks of a job and where they run", Args: exactArgs("DATASET.JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := jobPath(args[0])
			if err != nil {
				return err
			}
			return get(c, path, func(p *printer, j *protocol.Job) error {
				p.line("job %d.%d %s", j.Dataset, j.Index, j.State)
				return p.rows(taskHeader, taskRows(j.Tasks))
			})
		},
	}
	outputFlag(show)
	c.AddCommand(show)
	return c
}

var taskHeader = []string{"task", "name", "state", "phase", "site", "host", "pilot"}

func taskRows(tasks []protocol.Task) [][]string {
	rows := make([][]string, 0, len(tasks))
	for _, t := range tasks {
		rows = append(rows, []string{
			t.ID.String(), t.Name, t.State.String(), phase(&t),
			firstOf(string(t.Site), "-"), visible(firstOf(t.Host, "-")), firstOf(string(t.Pilot), "-"),
		})
	}
	return rows
}

// phase is how far a running task has come, by what its payload says of itself, too.
func phase(t *protocol.Task) string {
	if t.Progress != nil && t.Phase == protocol.PhaseRunning.String() {
		return fmt.Sprintf("%s %.3g%%", t.Phase, 100*t.Progress.Fraction)
	}
	return firstOf(t.Phase, "-")
}

func tasksCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "tasks DATASET | DATASET.JOB.TASK", Short: "List the tasks of a dataset, or show one with its attempts", Args: exactArgs("DATASET"),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.Contains(args[0], ".") {
				path, err := taskPath(args[0])
				if err != nil {
					return err
				}
				return get(c, path, printTask)
			}
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			return get(c, withQuery(fmt.Sprintf("/v1/datasets/%d/tasks", id), listQuery(c)), func(p *printer, page *protocol.TaskPage) error {
				defer p.more(page.Next)
				return p.rows(taskHeader, taskRows(page.Tasks))
			})
		},
	}
	c.Flags().String("state", "", "only tasks in this state: waiting, queued, processing, copied, ok, error, suspended")
	c.Flags().String("task", "", "only tasks of this name")
	pageFlags(c)
	return c
}

func printTask(p *printer, t *protocol.Task) error {
	p.line("task %v %s: %s", t.ID, t.Name, t.State)
	if t.Lease != "" {
		p.line("  lease %s, %s at %s on %s", t.Lease, firstOf(t.Phase, "offered"), t.Site, visible(firstOf(t.Host, string(t.Pilot))))
	}
	if said := t.Progress; said != nil {
		p.line("  its payload says: %.4g%% %s", 100*said.Fraction, visible(said.Text))
		for _, x := range said.Statistics {
			p.line("    %s = %.6g", x.Name, x.Value)
		}
		if said.Checkpoint != nil {
			p.line("  a checkpoint of %v is stored", said.Checkpoint.Size)
		}
	}
	var rows [][]string
	for _, a := range t.Attempts {
		fate := a.Verdict.String()
		if a.Withdrawn {
			fate += " (withdrawn)"
		}
		rows = append(rows, []string{
			fmt.Sprint(a.Number), fate, string(a.Site), visible(a.Host), moment(a.Ended),
			span(a.Usage.WallMillis), span(a.Usage.CPUMillis), a.Usage.PeakMemory.String(), cardTime(a.Usage.GPUMillis), cardMemory(a.Usage.PeakGPUMemory), visible(a.Evidence),
		})
	}
	return p.rows([]string{"attempt", "verdict", "site", "host", "ended", "wall", "cpu", "memory", "gpu", "gpu memory", "evidence"}, rows)
}

// cardTime and cardMemory show what cards did, where that is known.
func cardTime(millis *int64) string {
	if millis == nil {
		return "-"
	}
	return span(*millis)
}

func cardMemory(peak *protocol.ByteSize) string {
	if peak == nil {
		return "-"
	}
	return peak.String()
}

func outputsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "outputs DATASET", Short: "List the permanent outputs of a dataset with size and digest", Args: exactArgs("DATASET"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			return allOutputs(c, id)
		},
	}
	outputFlag(c)
	return c
}

// allOutputs follows the pages to the end: a merge needs every file.
func allOutputs(c *cobra.Command, id protocol.DatasetID) error {
	return withClient(c, func(p *printer, api *client) error {
		all := []protocol.Output{}
		q := url.Values{"limit": {"1000"}}
		for more := true; more; {
			var page protocol.OutputPage
			if err := api.call(c.Context(), http.MethodGet, withQuery(fmt.Sprintf("/v1/datasets/%d/outputs", id), q), nil, &page); err != nil {
				return err
			}
			all = append(all, page.Outputs...)
			q.Set("cursor", page.Next)
			more = page.Next != ""
		}
		if done, err := p.value(all); done || err != nil {
			return err
		}
		var rows [][]string
		for _, o := range all {
			rows = append(rows, []string{fmt.Sprintf("%d.%d.%s", id, o.Job, o.Task), o.Size.String(), o.Digest.String(), visible(o.URL)})
		}
		return p.rows([]string{"task", "size", "digest", "url"}, rows)
	})
}

func statisticsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "statistics DATASET", Short: "Sum, mean and deviation of what the modules counted", Args: exactArgs("DATASET"),
		Aliases: []string{"stats"},
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			return get(c, fmt.Sprintf("/v1/datasets/%d/statistics", id), printStatistics)
		},
	}
	outputFlag(c)
	return c
}

func printStatistics(p *printer, s *protocol.StatisticsReply) error {
	var rows [][]string
	slices.SortStableFunc(s.Statistics, func(a, b protocol.StatisticSummary) int { return strings.Compare(a.Task, b.Task) })
	tasks := map[string]int{}
	for _, x := range s.Statistics {
		if x.Task != "" {
			tasks[x.Name]++
		}
	}
	for _, x := range s.Statistics {
		if x.Task == "" && tasks[x.Name] < 2 {
			continue // its one task says the same
		}
		rows = append(rows, []string{
			firstOf(x.Task, "(dataset)"), x.Name, fmt.Sprint(x.Count),
			number(x.Sum), number(x.Mean), number(x.StdDev), number(x.Min), number(x.Max),
		})
	}
	if err := p.rows([]string{"task", "statistic", "count", "sum", "mean", "deviation", "min", "max"}, rows); err != nil {
		return err
	}
	if p.tty {
		p.line("used   %s in %d attempts", processors(&s.Used), s.Used.Attempts)
		p.line("wasted %s in %d attempts", processors(&s.Wasted), s.Wasted.Attempts)
		if s.Used.KeptMillis > 0 {
			p.line("kept   %s of wall time by checkpoints, which attempts that started anew would have run again", span(s.Used.KeptMillis))
		}
	}
	return nil
}

// processors says how long processors worked, and cards where that is known.
func processors(u *protocol.UsageTotal) string {
	if u.GPUMillis == nil {
		return span(u.CPUMillis) + " of CPU"
	}
	return fmt.Sprintf("%s of CPU and %s of GPU", span(u.CPUMillis), span(*u.GPUMillis))
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 7, 64) }

// hitRate is how much of what a pilot asked its cache for was there.
func hitRate(c *protocol.CacheFigures) string {
	if c == nil || c.Hits+c.Misses == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", c.Hits, c.Hits+c.Misses)
}

func pilotsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "pilots", Short: "List the pilots that are there now", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return get(c, withQuery("/v1/pilots", listQuery(c)), func(p *printer, page *protocol.PilotPage) error {
				var rows [][]string
				for _, x := range page.Pilots {
					rows = append(rows, []string{
						string(x.ID), string(x.Site), visible(x.Host), x.State, fmt.Sprint(x.Resources.Cores), x.Resources.Memory.String(),
						fmt.Sprint(len(x.Resources.GPUs)), fmt.Sprint(len(x.Leases)), firstOf(x.Transport, "-"), moment(x.LastSeen), hitRate(x.Cache),
					})
				}
				defer p.more(page.Next)
				return p.rows([]string{"pilot", "site", "host", "state", "cores", "memory", "gpus", "tasks", "transport", "last seen", "cache hits"}, rows)
			})
		},
	}
	pageFlags(c)
	return c
}

func sitesCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sites", Short: "List the sites", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return get(c, "/v1/sites", func(p *printer, page *protocol.SitePage) error {
				var rows [][]string
				for _, s := range page.Sites {
					rows = append(rows, []string{string(s.ID), s.State, fmt.Sprint(s.Pilots), fmt.Sprint(s.Launches), fmt.Sprint(s.Running), moment(s.LastPass)})
				}
				return p.rows([]string{"site", "state", "pilots", "launching", "tasks", "last pass"}, rows)
			})
		},
	}
	outputFlag(c)
	return c
}

func explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "explain DATASET.JOB.TASK", Short: "Say why a task is where it is", Args: exactArgs("DATASET.JOB.TASK"),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := taskPath(args[0])
			if err != nil {
				return err
			}
			return get(c, path+"/explain", func(p *printer, e *protocol.Explanation) error {
				p.line("task %v %s is %s", e.Task, e.Name, e.State)
				for _, l := range e.Lines {
					p.line("  %s", visible(l))
				}
				return nil
			})
		},
	}
	outputFlag(c)
	c.AddCommand(explainSiteCommand())
	return c
}
