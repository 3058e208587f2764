package main

import (
	"fmt"
	"slices"
	"strings"

	"floe/protocol"

	"github.com/spf13/cobra"
)

func softwareReleaseCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "release [VERSION]", Short: "Give sites a version of the pilot, or take it back", Args: cobra.MaximumNArgs(1),
		Long: "Give sites a version of floe-pilot, or take it back.\n\nVERSION is published. It goes to --sites first, then to --percent of the others, which are the same\n" +
			"for every release, then to --all. Sites launch it from their next pass on; pilots that run stay what\n" +
			"they are. --back takes back what is being tried, or else what went to all last. With neither, the\n" +
			"command shows which site runs what.",
		RunE: func(c *cobra.Command, args []string) error {
			request, err := releaseRequest(c, args)
			if err != nil {
				return err
			}
			if request == nil {
				return get(c, "/v1/releases", printReleases)
			}
			return post(c, "/v1/releases", request, func(p *printer, r *protocol.DoneReply) { p.line("%s", visible(r.Detail)) })
		},
	}
	c.Flags().StringSlice("sites", nil, "these sites try it; those of the last call stay where the version is the same")
	c.Flags().Uint8("percent", 0, "this part of the other sites tries it")
	c.Flags().Bool("all", false, "all sites run it")
	c.Flags().Bool("back", false, "take back what is tried, or else what all run")
	c.Flags().String("reason", "", "why, for the record")
	outputFlag(c)
	return c
}

// releaseRequest is what the command line asks for; nil is to be shown what there is.
func releaseRequest(c *cobra.Command, args []string) (*protocol.ReleaseRequest, error) {
	r := &protocol.ReleaseRequest{}
	sites, _ := c.Flags().GetStringSlice("sites")
	r.Percent, _ = c.Flags().GetUint8("percent")
	r.Back, _ = c.Flags().GetBool("back")
	r.Reason, _ = c.Flags().GetString("reason")
	all, _ := c.Flags().GetBool("all")
	for _, site := range sites {
		r.Sites = append(r.Sites, protocol.SiteID(site))
	}
	asked := len(sites) > 0 || all || c.Flags().Changed("percent")
	switch {
	case r.Back && (len(args) > 0 || asked):
		return nil, usageErrorf("--back takes neither a VERSION nor sites: it goes back by one step")
	case r.Back:
		return r, nil
	case len(args) == 0 && asked:
		return nil, usageErrorf("VERSION is missing: which one do they get?")
	case len(args) == 0:
		return nil, nil
	case !asked:
		return nil, usageErrorf("who gets %s? Want --sites, --percent or --all", args[0])
	case all && (len(sites) > 0 || c.Flags().Changed("percent")):
		return nil, usageErrorf("--all leaves nothing for --sites and --percent")
	case r.Percent >= 100:
		return nil, usageErrorf("--percent %d: want 0 to 99, or --all", r.Percent)
	case all:
		r.Percent = 100
	}
	r.Version = args[0]
	return r, nil
}

func printReleases(p *printer, r *protocol.PilotReleases) error {
	switch {
	case r.Stable == "" && r.Tried == "":
		p.line("no version is released: sites run what they have")
	case r.Tried == "":
		p.line("released: %s, since %s; before it %s", r.Stable, moment(r.Since), firstOf(r.Before, "none"))
	default:
		p.line("released: %s; since %s %d named sites and %d %% of the others try %s", firstOf(r.Stable, "none"), moment(r.Since), len(r.Sites), r.Percent, r.Tried)
	}
	var rows [][]string
	for _, s := range r.Assigned {
		why := "all"
		switch {
		case s.Version == "":
			why = "-"
		case s.Version == r.Tried && slices.Contains(r.Sites, s.Site):
			why = "named"
		case s.Version == r.Tried:
			why = fmt.Sprintf("%d < %d %%", s.Share, r.Percent)
		}
		var running []string
		for version, n := range s.Running {
			running = append(running, fmt.Sprintf("%s: %d", visible(firstOf(version, "?")), n))
		}
		slices.Sort(running)
		rows = append(rows, []string{string(s.Site), firstOf(s.Version, "what it has"), why, firstOf(strings.Join(running, ", "), "-")})
	}
	return p.rows([]string{"site", "pilot", "by", "running"}, rows)
}
