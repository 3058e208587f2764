package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"floe/glidein"
	"floe/protocol"
	"floe/protocol/sitelog"

	"github.com/spf13/cobra"
)

func siteWhoCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "who NODE TIME", Short: "Say whose payloads ran on a node at a time", Args: exactArgs("NODE", "TIME"),
		Long: "Say whose payloads ran on a node at a time: user, dataset, job, task, attempt, pilot, begin and end.\n\n" +
			"NODE is with or without its domain. TIME is such as 2026-12-24T18:00, with a zone such as +01:00 or Z\n" +
			"or else in the zone of the machine; or now. The coordinators are asked, with a person's token; with\n" +
			"--dir, the log that the site's own pilots keep in its directory, which needs no coordinator.",
		RunE: func(c *cobra.Command, args []string) error {
			now := time.Now()
			at, err := glidein.ParseMoment(args[1], now, time.Local)
			if err != nil {
				return usageErrorf("TIME: %v", err)
			}
			if at.After(now) {
				return usageErrorf("TIME: %s is in the future", at.Format("2006-01-02 15:04 MST"))
			}
			if dir, _ := c.Flags().GetString("dir"); dir != "" {
				return whoBySite(c, dir, args[0], at)
			}
			return whoByRecord(c, args[0], at)
		},
	}
	c.Flags().String("dir", "", "the site's directory: ask its own log")
	c.Flags().String("site", "", "only nodes of this site; of the coordinators")
	outputFlag(c)
	return c
}

var whoHeader = []string{"user", "group", "task", "attempt", "begin", "end", "verdict", "pilot", "batch job", "node"}

// whoByRecord asks the coordinators, to the end of their history.
func whoByRecord(c *cobra.Command, node string, at time.Time) error {
	return withClient(c, func(p *printer, api *client) error {
		q := url.Values{"host": {node}, "at": {strconv.FormatInt(at.UnixMilli(), 10)}, "limit": {"1000"}}
		if site, _ := c.Flags().GetString("site"); site != "" {
			q.Set("site", site)
		}
		all := protocol.RanPage{Attempts: []protocol.Ran{}}
		for {
			var page protocol.RanPage
			if err := api.call(c.Context(), "GET", withQuery("/v1/attempts", q), nil, &page); err != nil {
				return err
			}
			all.Attempts = append(all.Attempts, page.Attempts...)
			if page.Next == "" {
				break
			}
			q.Set("cursor", page.Next)
		}
		if done, err := p.value(&all); done || err != nil {
			return err
		}
		var rows [][]string
		for i := range all.Attempts {
			a := &all.Attempts[i]
			rows = append(rows, []string{
				string(a.User), firstOf(string(a.Group), "-"), fmt.Sprintf("%d.%d.%s", a.Task.Dataset, a.Task.Job, firstOf(a.Name, fmt.Sprint(a.Task.Task))), fmt.Sprint(a.Number),
				moment(a.Begin), moment(a.End), firstOf(a.Verdict, "-"), string(a.Pilot), firstOf(visible(a.BatchID), "-"), string(a.Site) + "/" + visible(a.Host),
			})
		}
		return nobody(p, node, at, rows)
	})
}

// whoBySite reads the site's own log.
func whoBySite(c *cobra.Command, dir, node string, at time.Time) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	all, damaged, err := sitelog.Read(filepath.Join(dir, glidein.SiteLogDir), sitelog.Query{Host: node, At: at})
	if err != nil {
		return err
	}
	if damaged > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "%d lines of the log could not be read\n", damaged)
	}
	if done, err := p.value(append([]sitelog.Entry{}, all...)); done || err != nil {
		return err
	}
	var rows [][]string
	for i := range all {
		e := &all[i]
		rows = append(rows, []string{
			visible(string(e.User)), firstOf(visible(string(e.Group)), "-"), fmt.Sprintf("%d.%d.%s", e.Dataset, e.Job, visible(e.Task)), fmt.Sprint(e.Attempt),
			moment(e.Begin), moment(e.End), firstOf(visible(e.Verdict), "-"), visible(string(e.Pilot)), firstOf(visible(e.BatchID), "-"), visible(e.Host),
		})
	}
	return nobody(p, node, at, rows)
}

// nobody prints rows, or that there are none.
func nobody(p *printer, node string, at time.Time, rows [][]string) error {
	if len(rows) == 0 {
		return withExit(exitNotFound, fmt.Errorf("nothing is known to have run on %s at %s", strings.TrimSpace(node), at.Format("2006-01-02 15:04:05 MST")))
	}
	return p.rows(whoHeader, rows)
}
