package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // hours are written in the zone of the site, whose machine may not know it

	"floe/glidein"
	"floe/protocol"

	"github.com/spf13/cobra"
)

func sitePolicyCommand() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Apply or show the site's own rules"}
	apply := &cobra.Command{
		Use: "apply", Short: "Have the rules of site.toml hold at once", Args: exactArgs(),
		Long: "Have the [policy] of site.toml, and the downtimes announced, hold at once: for the coordinators, and\n" +
			"for the site's pilots, which read them where they can see the site's directory. Each pass does the same.",
		RunE: func(c *cobra.Command, _ []string) error {
			return withConfig(c, func(p *printer, config *glidein.Config) error { return applyPolicy(c, p, config) })
		},
	}
	show := &cobra.Command{
		Use: "show", Short: "Show the site's own rules, as they are applied", Args: exactArgs(),
		Long: "Show the [policy] of site.toml as coordinators and pilots get it, with the hours of the next days. Asks\n" +
			"nobody.",
		RunE: func(c *cobra.Command, _ []string) error {
			return withConfig(c, func(p *printer, config *glidein.Config) error {
				policy, err := config.SitePolicy(time.Now())
				if err != nil {
					return err
				}
				if done, err := p.value(policy); done || err != nil {
					return err
				}
				printPolicy(p, policy, time.Now())
				return nil
			})
		},
	}
	for _, x := range []*cobra.Command{apply, show} {
		x.Flags().String("config", "site.toml", "the site's configuration")
		outputFlag(x)
		c.AddCommand(x)
	}
	return c
}

// withConfig reads the configuration that --config names.
func withConfig(c *cobra.Command, verb func(*printer, *glidein.Config) error) error {
	p, err := newPrinter(c)
	if err != nil {
		return err
	}
	file, _ := c.Flags().GetString("config")
	config, err := glidein.LoadConfig(file)
	if err != nil {
		return withExit(exitUsage, err)
	}
	return verb(p, config)
}

// applyPolicy puts the site's rules where its pilots look, and tells the coordinators.
func applyPolicy(c *cobra.Command, p *printer, config *glidein.Config) error {
	policy, err := config.SitePolicy(time.Now())
	if err != nil {
		return err
	}
	if err := glidein.WritePolicy(config.Directory, policy); err != nil {
		return err
	}
	site, err := openSite(config.Directory, clientLogger())
	if err != nil {
		return err
	}
	defer site.Close()
	reply, err := site.Own(c.Context(), &protocol.SiteRequest{Policy: policy})
	if err != nil {
		return fmt.Errorf("pilots that see %s have the site's rules, coordinators do not; the next pass tells them: %w", config.Directory, err)
	}
	if done, err := p.value(reply.Orders.Policy); done || err != nil {
		return err
	}
	if reply.Changed {
		p.line("the rules of site %s are applied", reply.Orders.Site)
	} else {
		p.line("the rules of site %s were applied before", reply.Orders.Site)
	}
	printPolicy(p, policy, time.Now())
	return nil
}

// printPolicy says what a policy is, in sentences.
func printPolicy(p *printer, policy *protocol.SitePolicy, now time.Time) {
	who := func(what string, w *protocol.SiteWho) {
		var parts []string
		for _, g := range w.Groups {
			parts = append(parts, "group "+string(g))
		}
		for _, u := range w.Users {
			parts = append(parts, "user "+string(u))
		}
		for _, d := range w.Datasets {
			parts = append(parts, fmt.Sprintf("dataset %d", d))
		}
		if len(parts) > 0 {
			p.line("%s: %s", what, strings.Join(parts, ", "))
		}
	}
	who("only", &policy.Allow)
	who("not", &policy.Ban)
	if len(policy.Own) > 0 {
		how := "first"
		if policy.Share > 0 {
			how = fmt.Sprintf("first while they have less than %d %% of the cores in use", policy.Share)
		}
		p.line("groups %v come %s", policy.Own, how)
	}
	caps := policy.Caps
	for _, x := range []struct {
		is   bool
		what string
	}{
		{caps.Cores > 0, fmt.Sprintf("%d cores", caps.Cores)},
		{caps.GPUs > 0, fmt.Sprintf("%d GPUs", caps.GPUs)},
		{caps.Scratch > 0, caps.Scratch.String() + " of scratch"},
		{caps.Network > 0, caps.Network.String() + "/s over the network"},
	} {
		if x.is {
			p.line("at most %s", x.what)
		}
	}
	t := policy.At(now.Unix())
	switch {
	case t.Closed != "":
		p.line("closed: %s", visible(t.Closed))
	case t.Ends > 0:
		p.line("open until %s", moment(1000*t.Ends))
	case policy.Timed || len(policy.Downtimes) > 0:
		p.line("open")
	}
	for _, w := range policy.Hours {
		if w.To > now.Unix() {
			p.line("hours: %s to %s", moment(1000*w.From), moment(1000*w.To))
		}
	}
	for i := range policy.Downtimes {
		p.line("%s", downtimeLine(&policy.Downtimes[i], time.UTC))
	}
}

func downtimeLine(d *protocol.Downtime, zone *time.Location) string {
	at := func(unix int64) string { return time.Unix(unix, 0).In(zone).Format("2006-01-02 15:04 MST") }
	text := fmt.Sprintf("downtime %d: %s to %s", d.Number, at(d.Window.From), at(d.Window.To))
	if d.Reason != "" {
		text += ": " + visible(d.Reason)
	}
	return text
}

func siteDowntimeCommand() *cobra.Command {
	c := &cobra.Command{Use: "downtime", Short: "Announce when the site will not run"}
	add := &cobra.Command{
		Use: "add FROM TO", Short: "Announce a downtime", Args: exactArgs("FROM", "TO"),
		Long: "Announce a downtime: nothing is launched or given to the site that would run into it, and nothing\n" +
			"while it lasts. What still runs when it begins saves its work, and is queued again.\n\n" +
			"FROM and TO are such as 2026-12-24T18:00, with a zone such as +01:00 or Z or else in the zone of\n" +
			"--zone, that of the machine; or now, or +2h from now.",
		RunE: func(c *cobra.Command, args []string) error { return addDowntime(c, args) },
	}
	add.Flags().String("reason", "", "why, for whoever asks")
	add.Flags().String("zone", "", "time zone of FROM and TO, such as Europe/Berlin; default: policy.time_zone, or that of the machine")
	list := &cobra.Command{
		Use: "list", Short: "List the downtimes announced", Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			return withConfig(c, func(p *printer, config *glidein.Config) error {
				all, err := glidein.Downtimes(config.Directory)
				if err != nil {
					return err
				}
				if done, err := p.value(append([]protocol.Downtime{}, all...)); done || err != nil {
					return err
				}
				var rows [][]string
				for _, d := range all {
					state := "announced"
					switch now := time.Now().Unix(); {
					case d.Window.To <= now:
						state = "over"
					case d.Window.From <= now:
						state = "now"
					}
					rows = append(rows, []string{fmt.Sprint(d.Number), moment(1000 * d.Window.From), moment(1000 * d.Window.To), state, firstOf(visible(d.Reason), "-")})
				}
				return p.rows([]string{"number", "from", "to", "state", "reason"}, rows)
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove NUMBER", Short: "Take a downtime back, or end one", Args: exactArgs("NUMBER"),
		RunE: func(c *cobra.Command, args []string) error {
			number, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return usageErrorf("downtime %q: want its number, as floe site downtime list shows it", args[0])
			}
			return withConfig(c, func(p *printer, config *glidein.Config) error {
				d, err := glidein.RemoveDowntime(config.Directory, uint32(number))
				if errors.Is(err, glidein.ErrNoDowntime) {
					return withExit(exitNotFound, err)
				}
				if err != nil {
					return err
				}
				if !p.json {
					p.line("removed %s", downtimeLine(&d, time.Local))
				}
				return applyPolicy(c, p, config)
			})
		},
	}
	for _, x := range []*cobra.Command{add, list, remove} {
		x.Flags().String("config", "site.toml", "the site's configuration")
		outputFlag(x)
		c.AddCommand(x)
	}
	return c
}

func addDowntime(c *cobra.Command, args []string) error {
	return withConfig(c, func(p *printer, config *glidein.Config) error {
		name, _ := c.Flags().GetString("zone")
		if name == "" {
			name = config.Policy.TimeZone
		}
		zone := time.Local
		if name != "" {
			var err error
			if zone, err = time.LoadLocation(name); err != nil {
				return usageErrorf("--zone %q: want a name of the time zone database, such as Europe/Berlin or UTC", name)
			}
		}
		now := time.Now()
		from, err := glidein.ParseMoment(args[0], now, zone)
		if err != nil {
			return usageErrorf("FROM: %v", err)
		}
		to, err := glidein.ParseMoment(args[1], now, zone)
		if err != nil {
			return usageErrorf("TO: %v", err)
		}
		reason, _ := c.Flags().GetString("reason")
		d, err := glidein.AddDowntime(config.Directory, now, from, to, reason)
		if err != nil {
			return withExit(exitUsage, err)
		}
		if !p.json {
			p.line("announced %s", downtimeLine(&d, zone))
		}
		return applyPolicy(c, p, config)
	})
}
