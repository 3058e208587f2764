package main

import (
	"fmt"
	"net/url"
	"strings"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func explainSiteCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "site NAME", Short: "Say what a site offers, what is launched there, and why no more", Args: exactArgs("NAME"),
		Long: "Say of each kind of pilot job of a site what it offers, which queued tasks fit it, what is launched\n" +
			"and registered, how many came to nothing and why, and what keeps more from being launched. The numbers\n" +
			"of the batch system are those of the site's last pass.",
		RunE: func(c *cobra.Command, args []string) error {
			return get(c, "/v1/sites/"+url.PathEscape(args[0])+"/explain", func(p *printer, e *protocol.SiteExplanation) error {
				p.line("site %s is %s", e.Site, e.State)
				for _, l := range e.Lines {
					p.line("  %s", visible(l))
				}
				for i := range e.Shapes {
					printShape(p, &e.Shapes[i])
				}
				return nil
			})
		},
	}
	outputFlag(c)
	return c
}

func printShape(p *printer, x *protocol.ShapeExplanation) {
	if x.Offer == nil {
		p.line("shape %s", visible(x.Name))
	} else {
		p.line("shape %s: %s", visible(x.Name), offered(x.Offer))
		p.line("  in the batch system: %d running, %d queued, %d held; room for %d more in a pass", x.Running, x.Queued, x.Held, x.Room)
	}
	p.line("  %d of at most %d have yet to get their first task; %d have not registered, %d wait", x.Unproven, x.Allowance, x.Coming, x.Waiting)
	for _, l := range x.Lines {
		p.line("  %s", visible(l))
	}
}

// offered writes what a pilot job has in words.
func offered(r *protocol.Resources) string {
	words := []string{fmt.Sprintf("%d cores", r.Cores)}
	add := func(yes bool, format string, args ...any) {
		if yes {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(r.Memory < protocol.MaxByteSize, "%v memory", r.Memory)
	add(r.Disk < protocol.MaxByteSize, "%v disk", r.Disk)
	add(len(r.GPUs) > 0, "%d GPUs", len(r.GPUs))
	add(r.Remaining > 0, "%v walltime", r.Remaining.Duration())
	add(r.OS != "", "%s", r.OS)
	add(len(r.Tags) > 0, "tags %s", strings.Join(r.Tags, " "))
	return visible(strings.Join(words, ", "))
}
