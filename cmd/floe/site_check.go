package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"floe/glidein"
	"floe/glidein/batch"
	"floe/protocol"

	"github.com/spf13/cobra"
)

// finding is one line of what was looked at.
type finding struct {
	Level string `json:"level"` // ok, warn, bad
	What  string `json:"what"`
	Says  string `json:"says"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// findings are told as they come.
type findings struct {
	p   *printer // nil keeps them
	all []finding
}

func (f *findings) add(level, what, do, format string, args ...any) {
	n := finding{level, what, visible(fmt.Sprintf(format, args...)), do}
	f.all = append(f.all, n)
	if f.p == nil || f.p.json {
		return
	}
	f.p.line("%-4s  %-14s  %s", n.Level, n.What, n.Says)
	if n.Do != "" {
		f.p.line("%22s  -> %s", "", n.Do)
	}
}

func (f *findings) ok(what, format string, args ...any) { f.add("ok", what, "", format, args...) }
func (f *findings) warn(what, do, format string, args ...any) {
	f.add("warn", what, do, format, args...)
}

func (f *findings) bad(what, do, format string, args ...any) { f.add("bad", what, do, format, args...) }

func (f *findings) count(level string) (n int) {
	for i := range f.all {
		if f.all[i].Level == level {
			n++
		}
	}
	return n
}

// siteCheckCommand looks at a site's configuration.
func siteCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Look at a site.toml and whether its batch systems can do what it says", Args: exactArgs(),
		Long: "Look at a site.toml and whether its batch systems answer, have its queues, and give what a pilot\n" +
			"job asks for. With --dry-run also show the very submit files and scripts of a pass, and ask the\n" +
			"coordinators what they would grant now and why. Nothing is submitted or changed.\n\n" +
			"Exit code 1 if something is bad.",
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := newPrinter(c)
			if err != nil {
				return err
			}
			file, _ := c.Flags().GetString("config")
			config, err := glidein.LoadConfig(file)
			if err != nil {
				return withExit(exitUsage, err)
			}
			f := &findings{p: p}
			f.ok("configuration", "%s", file)
			f.program(c.Context(), config)
			for _, q := range config.InUse() {
				f.queue(c.Context(), config, q)
			}
			var result *glidein.Result
			if dry, _ := c.Flags().GetBool("dry-run"); dry {
				if result, err = dryPass(c, config); result == nil {
					return reachable(err)
				}
			}
			if done, shown := p.value(map[string]any{"findings": f.all, "pass": result}); shown != nil {
				return shown
			} else if !done && result != nil {
				p.line("")
				printPass(p, result)
				if shown := printFiles(p, result.SubmitFiles); shown != nil {
					return shown
				}
			}
			if err != nil {
				return reachable(err)
			}
			if n := f.count("bad"); n > 0 {
				return withExit(exitFailure, fmt.Errorf("%d things are bad", n))
			}
			return nil
		},
	}
	c.Flags().String("config", "site.toml", "the site's configuration")
	c.Flags().Bool("dry-run", false, "also show what a pass would submit, and ask what would be granted and why")
	outputFlag(c)
	return c
}

// dryPass is a pass that changes nothing. A site that has not joined asks nobody.
func dryPass(c *cobra.Command, config *glidein.Config) (*glidein.Result, error) {
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Minute)
	defer cancel()
	logger := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	pass := &glidein.Pass{Config: config, DryRun: true, Logger: logger}
	pass.Batch = func(q *glidein.Queue) (batch.System, error) { return newSystem(config, q) }
	if _, err := os.Stat(filepath.Join(config.Directory, siteClusterFile)); err == nil {
		site, err := openSite(config.Directory, logger)
		if err != nil {
			return nil, err
		}
		defer site.Close()
		pass.Coordinator = site
	} else {
		fmt.Fprintln(c.ErrOrStderr(), "this site has not joined a cluster; no coordinator is asked")
	}
	return pass.Run(ctx)
}

// printFiles shows submit files, and the scripts beside them.
func printFiles(p *printer, files []string) error {
	for _, file := range files {
		for _, name := range []string{file, filepath.Join(filepath.Dir(file), "pilot.sh")} {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			p.line("\n--- %s\n%s", name, strings.TrimRight(visible(string(text)), "\n"))
		}
	}
	return nil
}

// program looks at the pilot's program.
func (f *findings) program(ctx context.Context, config *glidein.Config) {
	if _, err := os.Stat(config.System.Pilot); err != nil && config.System.FollowsReleases {
		f.ok("pilot", "what the cluster releases; none is beside floe")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := osexec.CommandContext(ctx, config.System.Pilot, "--version").Output()
	switch version := string(bytes.TrimSpace(out)); {
	case err != nil:
		f.bad("pilot", "put the floe-pilot of this release there, or floe site fetch-pilot", "%s does not run here: %v", config.System.Pilot, err)
	case !strings.Contains(version, " "+protocol.Version+" ") && !strings.HasSuffix(version, " "+protocol.Version):
		f.warn("pilot", "put the floe-pilot of this release there", "%s is %s, and this is floe %s", config.System.Pilot, version, protocol.Version)
	default:
		f.ok("pilot", "%s, %s", config.System.Pilot, version)
	}
}

// queue looks at one queue's batch system, and whether it can give what is asked.
func (f *findings) queue(ctx context.Context, config *glidein.Config, q *glidein.Queue) {
	what := q.Shape()
	if missing := missingTools(q.Type); len(missing) > 0 {
		f.bad(what, "load the batch system's environment, or set PATH; cron's is short", "no %s on PATH %s", strings.Join(missing, ", "), os.Getenv("PATH"))
		return
	}
	queues, err := askQueues(ctx, config, q)
	if err != nil {
		f.bad(what, "try its status command by hand, as this user", "%s does not answer: %v", q.Type, err)
		return
	}
	if len(queues) == 0 {
		f.ok(what, "%s answers; it does not say which queues it has", q.Type)
		return
	}
	at := slices.IndexFunc(queues, func(x batch.Queue) bool { return x.Name == q.Name || q.Name == "" && x.Default })
	if at < 0 && q.Name == "" {
		f.ok(what, "%s answers; it chooses among %s", q.Type, strings.Join(queueNames(queues), ", "))
		return
	}
	if at < 0 {
		f.bad(what, "change name in site.toml", "%s has no queue %q: there are %s", q.Type, q.Name, strings.Join(queueNames(queues), ", "))
		return
	}
	has := &queues[at]
	f.ok(what, "%s answers; %s", q.Type, strings.TrimLeft(has.Name+": "+describeQueue(has), ": "))
	const change = "change it in site.toml: such a job waits for ever"
	if has.Closed != "" {
		f.warn(what, "ask who looks after it", "queue %s takes no jobs: %s", has.Name, has.Closed)
	}
	if w := time.Duration(q.Walltime); has.Walltime > 0 && w > has.Walltime {
		f.bad(what, change, "walltime %s is more than its %s", shortSpan(w), shortSpan(has.Walltime))
	}
	if has.Cores > 0 && q.Cores > has.Cores {
		f.bad(what, change, "%d cores are more than the %d of its largest node", q.Cores, has.Cores)
	}
	if m := protocol.ByteSize(q.Memory); has.Memory > 0 && m > has.Memory {
		f.bad(what, change, "%v of memory is more than the %v of its largest node", m, has.Memory)
	}
	if has.Nodes > 0 && q.GPUs > has.GPUs && q.Type != "local" && q.Type != "sge" {
		f.bad(what, change, "%d cards are more than the %d of a node", q.GPUs, has.GPUs)
	}
	if unsaid(q) != "" {
		f.warn(what, "say it in site.toml, or pilots come that are too small for their tasks", "%s of a pilot job is not said, and taken to be enough", unsaid(q))
	}
}

// unsaid is what the file does not say of a pilot job.
func unsaid(q *glidein.Queue) string {
	var what []string
	if q.Memory == 0 {
		what = append(what, "memory")
	}
	if q.Disk == 0 {
		what = append(what, "disk")
	}
	return strings.Join(what, " and ")
}
