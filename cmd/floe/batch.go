package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/glidein/batch/batchtest"
	"floe/glidein/batch/exec"
	"floe/glidein/batch/ssh"
	"floe/protocol"

	"github.com/spf13/cobra"
)

func batchCommand() *cobra.Command {
	c := &cobra.Command{Use: "batch", Short: "Try batch systems"}
	c.AddCommand(batchTestCommand(), batchServeCommand())
	return c
}

// batchServeCommand is what a pass runs on a login node.
func batchServeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Obey one order of a pass on another machine", Args: exactArgs(), Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return ssh.Serve(c.Context(), c.InOrStdin(), c.OutOrStdout(), func(directory string, queue json.RawMessage) (batch.System, error) {
				q := new(glidein.Queue)
				if err := json.Unmarshal(queue, q); err != nil {
					return nil, err
				}
				return newSystem(&glidein.Config{Directory: directory}, q)
			})
		},
	}
}

func batchTestCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "test [PLUGIN [ARG]...]", Short: "See whether a batch system does what pilots need of it",
		Long: "Submit small jobs to a batch system, watch and remove them, and say which promises it keeps:\n" +
			"to a plugin, or without one to the queue of a site's configuration. Flags of floe come before PLUGIN.",
		Example: "  floe batch test --slots 2 ./task-spooler\n  floe batch test --config ~/floe/site.toml --wait 5m",
		RunE:    runBatchTest,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.String("config", "site.toml", "the site's configuration, where no plugin is named")
	f.String("of", "", "the queue of a configuration that has several")
	f.StringArray("set", nil, "a setting for the plugin, NAME=VALUE; may be repeated")
	f.String("queue", "", "the batch system's queue, if not that of the configuration")
	f.String("bad-queue", "", "a queue that does not exist, to see it refused")
	f.String("never-id", "floe-never", "an id of the right form that no job has")
	f.Int("slots", 0, "how many jobs of one core run at once, to see one wait")
	f.Bool("late-output", false, "what jobs print is fetched when they have ended (of a configuration: where it is known to be)")
	f.String("dir", "", "a directory that jobs and this machine share (default: a temporary one)")
	f.Duration("wait", time.Minute, "how long a job of a moment may take, from submission to end")
	f.BoolP("verbose", "v", false, "print each request to the plugin and its answer")
	outputFlag(c)
	return c
}

func runBatchTest(c *cobra.Command, args []string) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	f := c.Flags()
	system, queue, err := systemToTry(c, args)
	if err != nil {
		return err
	}
	target := batchtest.Target{System: system, Queue: queue.Name, SharedDirectory: !printsLate(queue)}
	if name, _ := f.GetString("queue"); name != "" {
		target.Queue = name
	}
	target.BadQueue, _ = f.GetString("bad-queue")
	target.Slots, _ = f.GetInt("slots")
	target.Wait, _ = f.GetDuration("wait")
	target.Shared, _ = f.GetString("dir")
	if late, _ := f.GetBool("late-output"); late {
		target.SharedDirectory = false
	}
	never, _ := f.GetString("never-id")
	target.NeverID = batch.JobID(never)
	if target.Slots < 0 || target.Wait <= 0 {
		return usageErrorf("slots %d, wait %v: want no less than 0, and more than 0", target.Slots, target.Wait)
	}
	if target.Shared != "" {
		if target.Shared, err = filepath.Abs(target.Shared); err != nil {
			return err
		}
		if _, err := os.Stat(target.Shared); err != nil {
			return usageErrorf("dir: %v", err)
		}
	}
	if !p.json {
		p.line("%s", visible(describe(system.Properties())))
	}
	var outcomes []batchtest.Outcome
	batchtest.Check(c.Context(), target.Shared, func(batchtest.T) batchtest.Target { return target }, func(o batchtest.Outcome) {
		outcomes = append(outcomes, o)
		if !p.json {
			printOutcome(p, &o)
		}
	})
	return sumUp(c.Context(), p, outcomes)
}

// printsLate tells whether a queue's batch system is known not to share directories.
func printsLate(q *glidein.Queue) bool {
	switch q.Type {
	case "arc", "cream", "edg", "glite", "globus":
		return true
	case "condor":
		return q.Endpoint != ""
	}
	return q.SSH != ""
}

// systemToTry is a plugin, or the batch system of a configuration's queue.
func systemToTry(c *cobra.Command, args []string) (batch.System, *glidein.Queue, error) {
	f := c.Flags()
	settings, err := settingsOf(f.GetStringArray("set"))
	if err != nil {
		return nil, nil, err
	}
	var trace io.Writer
	if verbose, _ := f.GetBool("verbose"); verbose {
		trace = c.ErrOrStderr()
	}
	if len(args) > 0 {
		if f.Changed("config") {
			return nil, nil, usageErrorf("batch test: a plugin and --config: want one of them")
		}
		here, err := os.Getwd()
		if err != nil {
			return nil, nil, err
		}
		plugin := glidein.Plugin{Command: args}
		system, err := exec.New(batch.Tool{}, exec.Config{Command: plugin.In(here), Settings: settings, Trace: trace})
		if err == nil {
			err = system.Ask(c.Context())
		}
		return system, new(glidein.Queue), err
	}
	file, _ := f.GetString("config")
	config, err := glidein.LoadConfig(file)
	if err != nil {
		return nil, nil, withExit(exitUsage, fmt.Errorf("batch test: neither a plugin nor a configuration: %w", err))
	}
	if len(settings) > 0 || trace != nil {
		return nil, nil, usageErrorf("batch test: --set and --verbose are for a plugin that is named")
	}
	queues := config.InUse()
	label, _ := f.GetString("of")
	at := slices.IndexFunc(queues, func(q *glidein.Queue) bool { return q.Label == label })
	if label == "" && len(queues) == 1 {
		at = 0
	}
	if at < 0 {
		names := make([]string, len(queues))
		for i, q := range queues {
			names[i] = q.Label
		}
		return nil, nil, usageErrorf("batch test: of %q: want one of the queues of %s: %s", label, file, strings.Join(names, ", "))
	}
	system, err := newSystem(config, queues[at])
	return system, queues[at], err
}

func settingsOf(list []string, err error) (map[string]any, error) {
	settings := map[string]any{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usageErrorf("set %q: want NAME=VALUE", s)
		}
		settings[name] = value
	}
	return settings, err
}

// describe says what a system says of itself.
func describe(p batch.Properties) string {
	can := func(can bool, yes, no string) string {
		if can {
			return yes
		}
		return no
	}
	arrays := "no arrays"
	if p.MaxArray > 1 {
		arrays = fmt.Sprintf("arrays of up to %d jobs", p.MaxArray)
	}
	return strings.Join([]string{
		p.Name + ": " + arrays,
		can(p.Lists, "lists jobs by their names", "does not list jobs"),
		can(p.GPUs, "knows cards", "knows no cards"),
		can(p.Walltime, "ends jobs at their walltime", "does not keep the walltime"),
	}, ", ")
}

func printOutcome(p *printer, o *batchtest.Outcome) {
	p.line("%-9s %s: %s (%v)", o.Verdict, o.Part, o.Promise, o.Took.Round(10*time.Millisecond))
	for _, said := range o.Said {
		for line := range strings.Lines(said) {
			p.line("          %s", visible(strings.TrimRight(line, "\n")))
		}
	}
}

func sumUp(ctx context.Context, p *printer, outcomes []batchtest.Outcome) error {
	if _, err := p.value(outcomes); err != nil {
		return err
	}
	counts := map[batchtest.Verdict]int{}
	var broken []string
	for _, o := range outcomes {
		if counts[o.Verdict]++; o.Verdict == batchtest.Broken {
			broken = append(broken, o.Part)
		}
	}
	if !p.json {
		p.line("%d kept, %d broken, %d left out; floe %s", counts[batchtest.Kept], counts[batchtest.Broken], counts[batchtest.LeftOut], protocol.Version)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("batch test: broken: %s; docs/plugins.md says what is promised", strings.Join(broken, ", "))
	}
	return nil
}
