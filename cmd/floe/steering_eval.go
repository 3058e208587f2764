package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/steering"
	"floe/protocol/steering/expr"

	"github.com/spf13/cobra"
)

// jobFlags are what expressions ask for besides the document.
type jobFlags struct {
	job, dataset, jobs uint32
	seed               uint64
	in                 steering.ExpandInput
}

func (f *jobFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.Uint32Var(&f.job, "job", 0, "the job, counted from 0: $(job)")
	flags.Uint32Var(&f.dataset, "dataset", 0, "the dataset's number: $(dataset) (default the file's own)")
	flags.Uint32Var(&f.jobs, "jobs", 0, "how many jobs there are: $(jobs_submitted) (default one more than --job)")
	flags.Uint64Var(&f.seed, "seed", 0, "the dataset's seed, which decides each $choice")
	flags.StringToStringVar(&f.in.Args, "arg", nil, "NAME=TEXT: a value of $args")
	flags.StringToStringVar(&f.in.Options, "option", nil, "NAME=TEXT: a value of $options")
	flags.StringToStringVar(&f.in.System, "system", nil, "NAME=TEXT: what a site says to $system")
	flags.StringToStringVar(&f.in.Environ, "environ", nil, "NAME=TEXT: what a node says to $environ")
}

func (f *jobFlags) input(c *cobra.Command, doc *steering.Document) (steering.ExpandInput, error) {
	in := f.in
	in.Job, in.JobCount, in.Seed = protocol.JobIndex(f.job), f.jobs, f.seed
	in.Dataset = protocol.DatasetID(f.dataset)
	if !c.Flags().Changed("dataset") {
		in.Dataset = doc.Number()
	}
	switch {
	case !c.Flags().Changed("jobs"):
		in.JobCount = f.job + 1
	case f.job >= f.jobs:
		return in, usageErrorf("--job %d: with --jobs %d the last job is %d", f.job, f.jobs, int64(f.jobs)-1)
	}
	return in, nil
}

// readDocument parses a steering file, shows what is wrong with it, and stops
// at errors.
func readDocument(c *cobra.Command, name string) (*steering.Document, *steering.Source, error) {
	text, err := readSteering(c, name)
	if err != nil {
		return nil, nil, err
	}
	return parseDocument(c, name, text)
}

func parseDocument(c *cobra.Command, name string, text []byte) (*steering.Document, *steering.Source, error) {
	doc, problems := steering.Parse(name, text)
	if problems.HasErrors() {
		_, _ = io.WriteString(c.ErrOrStderr(), problems.Format())
		return nil, nil, withExit(exitFailure, fmt.Errorf("%s has errors", name))
	}
	return doc, steering.NewSource(name, text), nil
}

func steeringExpandCommand() *cobra.Command {
	var flags jobFlags
	var task string
	c := &cobra.Command{
		Use:   "expand [--job N] FILE",
		Short: "Show one job with every expression resolved",
		Long: "Show one job of a steering file with every expression resolved, as the pilot\n" +
			"will see it. Phrases that only the node can resolve stay as they stand unless\n" +
			"--system or --environ say what it knows.\n\n" +
			"Exit code 1 if a phrase has no value.",
		Args: exactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			doc, source, err := readDocument(c, args[0])
			if err != nil {
				return err
			}
			in, err := flags.input(c, doc)
			if err != nil {
				return err
			}
			var answer any
			var problems steering.Problems
			var show func(*tree)
			if task == "" {
				job, found := steering.ExpandJob(doc, in)
				answer, problems = job, found
				show = func(t *tree) { t.job(job) }
			} else {
				index, ok := doc.TaskIndex(task)
				if !ok {
					return usageErrorf("--task %q: the tasks are %s", task, strings.Join(taskNames(doc), ", "))
				}
				expanded, found := steering.ExpandTask(doc, in, protocol.TaskIndex(index))
				answer, problems = expanded, found
				show = func(t *tree) { t.task(expanded) }
			}
			if done, err := p.value(answer); err != nil {
				return err
			} else if !done {
				t := &tree{out: p.out}
				show(t)
				if t.err != nil {
					return t.err
				}
			}
			if len(problems) == 0 {
				return nil
			}
			_, _ = io.WriteString(c.ErrOrStderr(), source.Quote(problems).Format())
			return withExit(exitFailure, fmt.Errorf("%s: %d expressions of job %d have no value", args[0], len(problems), in.Job))
		},
	}
	flags.add(c)
	c.Flags().StringVar(&task, "task", "", "only this task (name or index)")
	outputFlag(c)
	return c
}

func taskNames(doc *steering.Document) []string {
	names := make([]string, len(doc.Tasks))
	for i := range doc.Tasks {
		names[i] = doc.Tasks[i].Name
	}
	return names
}

// evaluated is steering eval -o json.
type evaluated struct {
	Value      expr.Value `json:"value"`
	Unresolved []string   `json:"unresolved,omitempty"`
	Steps      *expr.Node `json:"steps,omitempty"`
}

func steeringEvalCommand() *cobra.Command {
	var flags jobFlags
	var file string
	var explain bool
	where := steering.Where{}
	c := &cobra.Command{
		Use:   "eval [--job N] [--file FILE] [--explain] EXPRESSION",
		Short: "Try an expression of the dataset language",
		Long: "Try an expression of the dataset language, with the parameters of --file if\n" +
			"that is given. Without a $phrase in it, EXPRESSION is the body of an $eval.\n\n" +
			"Exit code 1 if a phrase has no value.",
		Example: "  floe steering eval '7//2'\n" +
			"  floe steering eval --file mc.json --job 17 --explain '$steering(outfile)'",
		Args: exactArgs("EXPRESSION"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			doc := &steering.Document{}
			if file != "" {
				if doc, _, err = readDocument(c, file); err != nil {
					return err
				}
			}
			in, err := flags.input(c, doc)
			if err != nil {
				return err
			}
			if !c.Flags().Changed("tray") && !c.Flags().Changed("iter") {
				where.Tray = -1
			}
			result, problems := steering.Evaluate(doc, in, where, args[0], explain)
			if len(problems) > 0 {
				return usageErrorf("%s", problems[0].Message)
			}
			answer := evaluated{Value: result.Value, Steps: result.Tree}
			for _, u := range result.Unresolved {
				answer.Unresolved = append(answer.Unresolved, fmt.Sprintf("%s: %s", u.Text, u.Reason))
			}
			if done, err := p.value(answer); err != nil {
				return err
			} else if !done {
				p.line("%s", visible(expr.Text(result.Value)))
				if explain {
					t := &tree{out: p.out, depth: 1}
					t.steps(result.Tree)
				}
			}
			if len(answer.Unresolved) == 0 {
				return nil
			}
			return withExit(exitFailure, fmt.Errorf("no value: %s", strings.Join(answer.Unresolved, "; ")))
		},
	}
	flags.add(c)
	c.Flags().StringVar(&file, "file", "", "steering file whose parameters the expression can name")
	c.Flags().StringVar(&where.Task, "task", "", "look from this task of the file (name or index)")
	c.Flags().IntVar(&where.Tray, "tray", 0, "look from this tray of the task")
	c.Flags().IntVar(&where.Iteration, "iter", 0, "look from this iteration of the tray: $(iter)")
	c.Flags().BoolVar(&explain, "explain", false, "show every step with its value")
	outputFlag(c)
	return c
}

// tree writes nested things for people, two blanks per level. It keeps the
// first error.
type tree struct {
	out   io.Writer
	depth int
	err   error
}

func (t *tree) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.out, "%s%s\n", strings.Repeat("  ", t.depth), visible(fmt.Sprintf(format, args...)))
	}
}

// inside writes what f writes one level deeper.
func (t *tree) inside(f func()) {
	t.depth++
	f()
	t.depth--
}

// dict writes names and values in two columns, nothing if there are none.
func (t *tree) dict(title string, d *expr.Dict) {
	if d == nil || len(d.Keys) == 0 {
		return
	}
	t.line("%s", title)
	t.inside(func() {
		width := 0
		for _, key := range d.Keys {
			width = max(width, min(len(key), 32))
		}
		for i, key := range d.Keys {
			t.line("%-*s  %s", width, key, expr.Text(d.Values[i]))
		}
	})
}

func (t *tree) job(job *steering.ExpandedJob) {
	t.line("dataset %d, job %d of %d, seed %d", job.Dataset, job.Job, job.JobCount, job.Seed)
	t.inside(func() { t.dict("parameters", job.Parameters) })
	for i := range job.Tasks {
		t.task(&job.Tasks[i])
	}
}

func (t *tree) task(task *steering.ExpandedTask) {
	t.line("task %d %s", task.Index, task.Name)
	t.inside(func() {
		r := task.Requirements
		t.needs("requirements", r)
		for i := range r.Alternatives {
			t.needs("or", r.Alternatives[i])
		}
		if task.Container != "" {
			t.line("container  %s", task.Container)
		}
		t.dict("parameters", task.Parameters)
		t.files(&task.ExpandedFiles)
		for i := range task.Trays {
			t.tray(&task.Trays[i])
		}
	})
}

// needs writes requirements on one line.
func (t *tree) needs(title string, r protocol.Requirements) {
	parts := []string{fmt.Sprintf("%d cores", max(r.Cores, 1))}
	add := func(there bool, format string, args ...any) {
		if there {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(r.Memory > 0, "%v memory", r.Memory)
	add(r.Disk > 0, "%v disk", r.Disk)
	add(r.Walltime > 0, "%v", r.Walltime.Duration())
	add(r.GPUs > 0, "%d GPUs", r.GPUs)
	add(r.GPUMemory > 0, "of %v", r.GPUMemory)
	add(r.GPUCapability > 0, "of capability %d.%d", r.GPUCapability/10, r.GPUCapability%10)
	add(len(r.OS) > 0, "platform %s", strings.Join(r.OS, " or "))
	add(len(r.Sites) > 0, "site %v", r.Sites)
	add(len(r.Tags) > 0, "tags %s", strings.Join(r.Tags, ", "))
	t.line("%s  %s", title, strings.Join(parts, ", "))
}

func (t *tree) files(f *steering.ExpandedFiles) {
	for _, p := range f.Projects {
		t.line("project  %s", strings.Join(slices.DeleteFunc([]string{p.Class, p.Name, p.Version}, func(s string) bool { return s == "" }), " "))
	}
	for _, c := range f.Classes {
		t.line("class  %s  %s", c.Name, c.Src)
	}
	for _, r := range f.Resources {
		t.line("resource  %s -> %s", r.Remote, r.Local)
	}
	for _, d := range f.Data {
		arrow := map[steering.Movement]string{steering.MovementInput: "->", steering.MovementOutput: "<-", steering.MovementBoth: "<->"}[d.Movement]
		t.line("data  %s %s %s %s", d.Type, d.Remote, arrow, d.Local)
	}
}

func (t *tree) tray(tray *steering.ExpandedTray) {
	t.line("tray %d, iteration %d %s", tray.Index, tray.Iteration, tray.Name)
	t.inside(func() {
		t.environment(tray.EnvShell, tray.EnvClear)
		t.dict("parameters", tray.Parameters)
		t.files(&tray.ExpandedFiles)
		for i := range tray.Modules {
			t.module(&tray.Modules[i])
		}
	})
}

func (t *tree) environment(shell string, empty steering.Flag) {
	if shell != "" {
		t.line("environment  %s", shell)
	}
	if empty == steering.FlagYes {
		t.line("environment emptied first")
	}
}

func (t *tree) module(m *steering.ExpandedModule) {
	t.line("module %d %s", m.Index, m.Name)
	t.inside(func() {
		if m.Class != "" {
			t.line("class  %s", m.Class)
		}
		if m.Src != "" {
			t.line("src  %s", m.Src)
		}
		switch args := m.Args.(type) {
		case nil:
		case *expr.Dict:
			t.dict("args", args)
		default:
			t.line("args  %s", expr.Text(args))
		}
		t.environment(m.EnvShell, m.EnvClear)
		t.dict("parameters", m.Parameters)
		t.dict("configs", m.Configs)
		t.files(&m.ExpandedFiles)
	})
}

// steps writes an explanation.
func (t *tree) steps(n *expr.Node) {
	for _, step := range n.Steps {
		switch {
		case step.Reason != "":
			t.line("%s  has no value: %s", step.Text, step.Reason)
		default:
			t.line("%s = %s", step.Text, expr.Text(step.Value))
		}
		t.inside(func() { t.steps(step) })
	}
}
