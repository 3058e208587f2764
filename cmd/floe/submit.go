package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func submitCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "submit FILE", Short: "Submit a dataset; FILE is XML, JSON or YAML, or - for standard input", Args: exactArgs("FILE"),
		RunE: submit,
	}
	f := c.Flags()
	f.Uint32("jobs", 1, "number of jobs; 0 makes an empty dataset that can grow")
	f.String("alias", "", "a name for the dataset")
	f.String("title", "", "a title; default: the document's")
	f.String("group", "", "the group it belongs to")
	f.Int("priority", 0, "-100 to 100; higher goes first")
	f.Uint64("seed", 0, "the dataset's seed; default: drawn")
	f.Uint32("parent", 0, "the dataset it descends from")
	f.StringSlice("site", nil, "run at these sites only")
	f.StringSlice("exclude", nil, "never run at these sites")
	f.StringToString("option", nil, "options, as NAME=VALUE, overriding the document's")
	f.String("key", "", "makes the submission repeatable: the same key gives the same dataset (24 h)")
	f.Bool("dry-run", false, "check everything and submit nothing")
	f.Bool("wait", false, "wait until the dataset has finished")
	f.Duration("timeout", 0, "with --wait: give up after this long")
	outputFlag(c)
	return c
}

func submit(c *cobra.Command, args []string) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	text, err := readInput(c, args[0])
	if err != nil {
		return err
	}
	f := c.Flags()
	request := protocol.SubmitRequest{File: args[0], Steering: string(text)}
	request.Jobs, _ = f.GetUint32("jobs")
	request.Alias, _ = f.GetString("alias")
	request.Title, _ = f.GetString("title")
	group, _ := f.GetString("group")
	request.Group = protocol.GroupID(group)
	request.Priority, _ = f.GetInt("priority")
	request.Seed, _ = f.GetUint64("seed")
	parent, _ := f.GetUint32("parent")
	request.Parent = protocol.DatasetID(parent)
	request.Options, _ = f.GetStringToString("option")
	request.DryRun, _ = f.GetBool("dry-run")
	request.Sites = siteList(c, "site")
	request.Exclude = siteList(c, "exclude")
	if request.Key, _ = f.GetString("key"); request.Key == "" {
		request.Key = protocol.RandomText(10)
	}
	api, err := dial(c)
	if err != nil {
		return err
	}
	defer api.Close()
	var reply protocol.SubmitReply
	if err := api.callWithin(c.Context(), submitLimit, http.MethodPost, "/v1/datasets", &request, &reply); err != nil {
		return err
	}
	for _, m := range reply.Modules {
		if m.Pinned != m.URL && !p.json {
			fmt.Fprintf(c.ErrOrStderr(), "%s is %s\n", visible(m.URL), visible(m.Pinned))
		}
	}
	for _, w := range reply.Warnings {
		fmt.Fprintln(c.ErrOrStderr(), visible(w))
	}
	wait, _ := f.GetBool("wait")
	if done, err := p.value(&reply); err != nil || done && !wait {
		return err
	}
	switch {
	case p.json:
	case request.DryRun:
		p.line("would submit %d jobs, %d tasks; nothing was submitted", reply.Jobs, reply.Tasks)
	default:
		p.line("dataset %d submitted: %d jobs, %d tasks", reply.Dataset, reply.Jobs, reply.Tasks)
	}
	if wait && !request.DryRun {
		timeout, _ := f.GetDuration("timeout")
		return waitFor(c, api, reply.Dataset, timeout)
	}
	return nil
}

// submitLimit is how long a submission may take: coordinators fetch its external
// modules first.
const submitLimit = 10 * time.Minute

func growCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "grow DATASET JOBS", Short: "Add jobs to a dataset", Args: exactArgs("DATASET", "JOBS"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			more, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil || more == 0 {
				return usageErrorf("jobs %q: want how many to add, such as 100", args[1])
			}
			return withClient(c, func(p *printer, api *client) error {
				path := fmt.Sprintf("/v1/datasets/%d", id)
				var d protocol.Dataset
				if err := api.call(c.Context(), http.MethodGet, path, nil, &d); err != nil {
					return err
				}
				request := protocol.GrowRequest{Key: protocol.RandomText(10), From: d.Jobs, Jobs: uint32(more)}
				var reply protocol.GrowReply
				if err := api.call(c.Context(), http.MethodPost, path+"/jobs", &request, &reply); err != nil {
					return err
				}
				if done, err := p.value(&reply); done || err != nil {
					return err
				}
				p.line("dataset %d has %d jobs now", id, reply.Jobs)
				return nil
			})
		},
	}
	outputFlag(c)
	return c
}

func siteList(c *cobra.Command, flag string) []protocol.SiteID {
	names, _ := c.Flags().GetStringSlice(flag)
	var sites []protocol.SiteID
	for _, n := range names {
		sites = append(sites, protocol.SiteID(n))
	}
	return sites
}

// maxSteering is the largest steering document. Source: research, ecosystem §3.
const maxSteering = 16 << 20

func readInput(c *cobra.Command, name string) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSteering+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSteering {
		return nil, usageErrorf("%s: larger than %d bytes", name, maxSteering)
	}
	if strings.TrimSpace(string(text)) == "" {
		return nil, usageErrorf("%s: empty", name)
	}
	return text, nil
}
