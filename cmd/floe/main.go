package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"floe/pilot/payload"
	"floe/pilot/payload/session"
	"floe/protocol"

	"github.com/spf13/cobra"
)

func main() {
	session.Speak()
	payload.Keep()
	// A shell starts what it runs in the background with Ctrl-C ignored: it is for the
	// script in front, which then ends what it started in its own order.
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) {
		ends = append(ends, os.Interrupt)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "floe: "+visible(err.Error()))
	}
	os.Exit(exitCode(err))
}

// newRoot builds the command tree.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "floe",
		Short:         "Run datasets of jobs on whatever batch systems a collaboration can reach",
		Version:       protocol.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageErrorf("%v; see '%s --help'", err, c.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "work", Title: "Datasets, jobs and tasks:"},
		&cobra.Group{ID: "grid", Title: "Pilots, sites and coordinators:"},
		&cobra.Group{ID: "local", Title: "Without a server:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("work", submitCommand(), datasetsCommand(), datasetCommand(), jobsCommand(), jobCommand(), tasksCommand(),
		logsCommand(), outputsCommand(), statisticsCommand(), waitCommand(), suspendCommand(), resumeCommand(), resetCommand(), explainCommand())
	add("grid", initCommand(), coordinatorCommand(), glideinCommand(), batchCommand(), cacheCommand(), configCommand(), siteCommand(), sitesCommand(), pilotCommand(), pilotsCommand(),
		nodeCommand(), nodesCommand(), softwareCommand(), clusterCommand(), tokenCommand(), userCommand(), actionsCommand(), relayCommand())
	add("local", runCommand(), steeringCommand(), moduleCommand())
	root.AddCommand(moduleStepCommand())
	refuseUnknown(root)
	return root
}

// refuseUnknown has every command that only holds others say so when it is called
// by a name that none of them has. Cobra alone shows the help and exits with 0.
func refuseUnknown(c *cobra.Command) {
	if !c.HasSubCommands() {
		return
	}
	for _, child := range c.Commands() {
		refuseUnknown(child)
	}
	if c.RunE != nil {
		return // it does something itself
	}
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		near := ""
		if names := c.SuggestionsFor(args[0]); len(names) > 0 {
			near = fmt.Sprintf("; did you mean %q?", names[0])
		}
		return usageErrorf("%s: unknown command %q%s; see '%[1]s --help'", c.CommandPath(), args[0], near)
	}
}

// exactArgs is cobra.ExactArgs with an error that says what is missing.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usageErrorf("%s: %s is missing; see '%s --help'", c.CommandPath(), names[len(args)], c.CommandPath())
		}
		if len(args) > len(names) {
			return usageErrorf("%s: unexpected %q; see '%s --help'", c.CommandPath(), args[len(names)], c.CommandPath())
		}
		return nil
	}
}
