package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"floe/protocol"

	"github.com/spf13/cobra"
)

// actionCommand makes a verb that acts on one thing. path and request are made of
// the arguments.
func actionCommand(use, short, long string, names []string, path func(args []string) string, request func(c *cobra.Command, args []string, reason string) (any, error)) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: short + ".\n\n" + long, Args: exactArgs(names...),
		RunE: func(c *cobra.Command, args []string) error {
			reason, _ := c.Flags().GetString("reason")
			body, err := request(c, args, reason)
			if err != nil {
				return err
			}
			return post(c, path(args), body, func(p *printer, r *protocol.DoneReply) { p.line("%s", visible(r.Detail)) })
		},
	}
	c.Flags().String("reason", "", "why, for the record")
	outputFlag(c)
	return c
}

func pilotCommand() *cobra.Command {
	c := &cobra.Command{Use: "pilot", Short: "Drain or revoke a pilot"}
	verb := func(action, short, long string) *cobra.Command {
		return actionCommand(action+" PILOT", short, long, []string{"PILOT"},
			func(args []string) string { return "/v1/pilots/" + url.PathEscape(args[0]) + "/actions" },
			func(c *cobra.Command, _ []string, reason string) (any, error) {
				if undo, err := c.Flags().GetBool("undo"); err == nil && undo {
					action = "undrain"
				}
				return &protocol.PilotAction{Action: action, Reason: reason}, nil
			})
	}
	drain := verb("drain", "Have a pilot finish what it holds and leave", "It is given nothing more.")
	drain.Flags().Bool("undo", false, "give it tasks again, unless it has left")
	c.AddCommand(drain, verb("revoke", "Bar a pilot and end what it runs",
		"Its certificate is refused from now on, and its tasks are queued again. What it reports\nafterwards does not count."))
	return c
}

func nodesCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "nodes", Short: "List the nodes that are not in good standing", Args: exactArgs(),
		Long: "List the nodes that are quarantined because tasks failed there one after another, those that\n" +
			"are tried with one task at a time, and those that somebody excluded.",
		RunE: func(c *cobra.Command, _ []string) error {
			q := listQuery(c)
			for _, name := range []string{"site", "all"} {
				if f := c.Flags().Lookup(name); f.Changed {
					q.Set(name, f.Value.String())
				}
			}
			return get(c, withQuery("/v1/nodes", q), func(p *printer, page *protocol.NodePage) error {
				var rows [][]string
				for i := range page.Nodes {
					rows = append(rows, nodeRow(&page.Nodes[i]))
				}
				defer p.more(page.Next)
				return p.rows([]string{"site", "host", "what", "standing", "since", "for another", "failures", "pilots", "reason"}, rows)
			})
		},
	}
	c.Flags().String("site", "", "only nodes of this site")
	c.Flags().Bool("all", false, "also those in good standing that failed of late")
	pageFlags(c)
	return c
}

func nodeRow(n *protocol.NodeStanding) []string {
	what, left, reason := "node", "-", n.Reason
	if n.GPUs {
		what = "gpus"
	}
	if n.Left > 0 {
		left = (time.Duration(n.Left) * time.Millisecond).Round(time.Second).String()
	}
	if n.By != "" {
		reason = strings.TrimSuffix(fmt.Sprintf("%s: %s", n.By, n.Reason), ": ")
	}
	return []string{
		string(n.Site), visible(n.Host), what, n.State, moment(n.Since), left, fmt.Sprint(n.Failures), fmt.Sprint(n.Pilots), firstOf(visible(reason), "-"),
	}
}

func nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Exclude or release a node"}
	verb := func(action, short, long string) *cobra.Command {
		return actionCommand(action+" SITE HOST", short, long, []string{"SITE", "HOST"},
			func(args []string) string { return "/v1/sites/" + url.PathEscape(args[0]) + "/nodes" },
			func(c *cobra.Command, args []string, reason string) (any, error) {
				gpus, _ := c.Flags().GetBool("gpus")
				return &protocol.NodeAction{Action: action, Host: args[1], GPUs: gpus, Reason: reason}, nil
			})
	}
	exclude := verb("exclude", "Give a node nothing until somebody releases it", "HOST is what floe pilots and floe nodes call it. What runs there may finish.")
	exclude.Flags().Bool("gpus", false, "only its GPUs: tasks without any are given to it all the same")
	c.AddCommand(exclude, verb("release", "Take a node into good standing", "Ends a quarantine, a probation or an exclusion, of its GPUs, too, and forgets what was held against it."))
	return c
}
