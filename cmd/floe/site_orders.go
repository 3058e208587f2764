package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"floe/protocol"
	"floe/protocol/transport"

	"github.com/spf13/cobra"
)

// Own has the site speak of itself, with its own key.
func (s *siteLink) Own(ctx context.Context, request *protocol.SiteRequest) (*protocol.SiteReply, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	reply := new(protocol.SiteReply)
	err := s.CallCBOR(ctx, http.MethodPost, "/v1/sites/own", request, reply, transport.Idempotent(), transport.Patience(reachLimit))
	return reply, reachable(err)
}

// withSite speaks as the site whose directory --dir names.
func withSite(c *cobra.Command, verb func(*printer, *siteLink) error) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	dir, _ := c.Flags().GetString("dir")
	site, err := openSite(dir, clientLogger())
	if err != nil {
		return err
	}
	defer site.Close()
	return verb(p, site)
}

const orderTail = "\n\nSITE is given by an operator. The people of a site say --dir instead, the site's own directory:\n" +
	"its key speaks for it. Both orders stand beside each other; neither takes back the other's."

// siteOrderCommands are the orders to a whole site.
func siteOrderCommands() []*cobra.Command {
	verb := func(kind protocol.SiteOrderKind, short, long string) *cobra.Command {
		c := &cobra.Command{
			Use: kind.String() + " [SITE]", Short: short, Long: short + ".\n\n" + long + orderTail,
			RunE: func(c *cobra.Command, args []string) error { return orderSite(c, kind, args) },
		}
		c.Flags().String("reason", "", "why, for the record")
		c.Flags().String("dir", "", "the site's directory: its own people give the order")
		if kind == protocol.SiteReclaim {
			c.Flags().Duration("within", 10*time.Minute, "how long the site's pilots may take, 1m to 168h")
		}
		outputFlag(c)
		return c
	}
	return []*cobra.Command{
		verb(protocol.SitePause, "Give a site no more pilots and tasks", "What runs there may finish. floe site resume undoes it."),
		verb(protocol.SiteResume, "Take back the order to a site", "Pilots that have taken an order to drain, reclaim or stop leave all the same; new ones are launched."),
		verb(protocol.SiteDrain, "Have a site finish what it runs, and give it nothing more", "Its pilots leave when they have finished; pilot jobs that wait are removed by the next pass."),
		verb(protocol.SiteReclaim, "Have a site give its work back and be empty within a time",
			"Tasks are asked to save their work, and are queued again for other sites; this is not counted as a\n"+
				"failure. Pilots leave as soon as that is done. What is still there when the time is over, the next\n"+
				"pass removes from the batch system."),
		verb(protocol.SiteStop, "Have a site give its work back at once", "As reclaim, with 20 s for tasks to save their work."),
	}
}

// siteWanted is the SITE of a command that takes either that or --dir.
func siteWanted(c *cobra.Command, args []string) (site string, own bool, err error) {
	dir, _ := c.Flags().GetString("dir")
	switch {
	case len(args) > 1:
		return "", false, usageErrorf("%s: %q: one SITE is enough", c.CommandPath(), args[1])
	case dir != "" && len(args) == 1:
		return "", false, usageErrorf("%s: a SITE or --dir, not both: --dir is the site itself", c.CommandPath())
	case dir == "" && len(args) == 0:
		return "", false, usageErrorf("%s: which SITE? Its own people say --dir DIR, the site's directory", c.CommandPath())
	case dir != "":
		return "", true, nil
	}
	return args[0], false, nil
}

func orderSite(c *cobra.Command, kind protocol.SiteOrderKind, args []string) error {
	site, own, err := siteWanted(c, args)
	if err != nil {
		return err
	}
	reason, _ := c.Flags().GetString("reason")
	var within protocol.Seconds
	if kind == protocol.SiteReclaim {
		d, _ := c.Flags().GetDuration("within")
		if within = protocol.SecondsOf(d); within < protocol.MinReclaim || within > protocol.MaxReclaim {
			return usageErrorf("--within %v: want %v to %v", d, protocol.MinReclaim.Duration(), protocol.MaxReclaim.Duration())
		}
	}
	if !own {
		action := &protocol.SiteAction{Action: kind.String(), Reason: reason, Within: within}
		return post(c, "/v1/sites/"+url.PathEscape(site)+"/actions", action, func(p *printer, r *protocol.DoneReply) { p.line("%s", visible(r.Detail)) })
	}
	return withSite(c, func(p *printer, link *siteLink) error {
		reply, err := link.Own(c.Context(), &protocol.SiteRequest{Order: kind, Within: within, Reason: reason})
		if err != nil {
			return err
		}
		if done, err := p.value(&reply.Orders); done || err != nil {
			return err
		}
		if !reply.Changed {
			p.line("nothing to change")
		}
		return printOrders(p, &reply.Orders)
	})
}

func siteOrdersCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "orders [SITE]", Short: "Show what a site is told to do, and who has taken it",
		Long: "Show the standing orders of a site: who gave them and when, whether a pass has taken them, how many\n" +
			"pilots have, and which have not. Hours and downtimes of the site's policy stand among them." + orderTail,
		RunE: func(c *cobra.Command, args []string) error {
			site, own, err := siteWanted(c, args)
			if err != nil {
				return err
			}
			if !own {
				return get(c, "/v1/sites/"+url.PathEscape(site)+"/orders", printOrders)
			}
			return withSite(c, func(p *printer, link *siteLink) error {
				reply, err := link.Own(c.Context(), new(protocol.SiteRequest))
				if err != nil {
					return err
				}
				if done, err := p.value(&reply.Orders); done || err != nil {
					return err
				}
				return printOrders(p, &reply.Orders)
			})
		},
	}
	c.Flags().String("dir", "", "the site's directory: its own people ask")
	outputFlag(c)
	return c
}

func printOrders(p *printer, all *protocol.SiteOrders) error {
	if len(all.Orders) == 0 {
		p.line("site %s has no orders", all.Site)
		return nil
	}
	var rows [][]string
	for i := range all.Orders {
		o := &all.Orders[i]
		age, left := "-", "-"
		if o.Given > 0 {
			age = span(o.Age)
		}
		if o.Left > 0 {
			left = span(o.Left)
		}
		waiting := make([]string, len(o.Waiting))
		for k, id := range o.Waiting {
			waiting[k] = string(id)
		}
		rows = append(rows, []string{
			o.Kind.String(), visible(o.By), age, left, moment(o.Pass), fmt.Sprintf("%d of %d", o.Taken, o.Taken+len(o.Waiting)),
			firstOf(strings.Join(waiting, " "), "-"), firstOf(visible(o.Reason), "-"),
		})
	}
	return p.rows([]string{"order", "by", "age", "left", "taken by a pass", "by pilots", "not yet by", "reason"}, rows)
}

// siteRevokeCommand bars a site.
func siteRevokeCommand() *cobra.Command {
	return actionCommand("revoke SITE", "Bar a site, its key and its pilots, and end what runs there",
		"For a site whose key may be in wrong hands. It joins again with a new token, under the same\nname or another.", []string{"SITE"},
		func(args []string) string { return "/v1/sites/" + url.PathEscape(args[0]) + "/actions" },
		func(_ *cobra.Command, _ []string, reason string) (any, error) {
			return &protocol.SiteAction{Action: "revoke", Reason: reason}, nil
		})
}

// takeOrders tells the coordinators that a pass has taken the site's orders.
func (s *siteLink) takeOrders(ctx context.Context, orders []protocol.SiteOrder) error {
	newest := uint64(0)
	for i := range orders {
		newest = max(newest, orders[i].Number)
	}
	if newest == 0 {
		return nil
	}
	_, err := s.Own(ctx, &protocol.SiteRequest{Taken: newest})
	return err
}
