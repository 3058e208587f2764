package simulation

import (
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// own does what the owners of sites do: they ban a dataset, cap their cores, give orders
// and take them back. What they want is in the record when the next lease is granted,
// which the record's audit compares (I-40, I-41).
func (o *operator) own() {
	w := o.w
	if !w.chaotic {
		return
	}
	o.after(w.between(5*time.Second, time.Minute), o.own)
	site := w.sites[w.rng.IntN(len(w.sites))].id
	switch w.rng.IntN(4) {
	case 0:
		kind := []protocol.SiteOrderKind{protocol.SitePause, protocol.SiteDrain, protocol.SiteStop, protocol.SiteReclaim}[w.rng.IntN(4)]
		o.order(site, kind, w.chance(2))
	case 1:
		o.order(site, protocol.SiteResume, w.chance(2))
	default:
		var p protocol.SitePolicy
		for _, d := range o.datasets {
			if w.chance(2) {
				p.Ban.Datasets = append(p.Ban.Datasets, d.id)
			}
		}
		if w.chance(2) {
			p.Caps.Cores = 1 + w.rng.IntN(4)
		}
		o.rule(site, p)
	}
}

func (o *operator) order(site protocol.SiteID, kind protocol.SiteOrderKind, own bool) {
	o.ask(kind.String()+" site", func(_ *state.Machine, by state.Action) state.Command {
		c := &state.OrderSite{By: by, Site: site, Order: kind, Own: own}
		if kind == protocol.SiteReclaim {
			c.Within = 600
		}
		return c
	}, nil)
}

func (o *operator) rule(site protocol.SiteID, p protocol.SitePolicy) {
	slices.Sort(p.Ban.Datasets)
	o.ask("policy of a site", func(_ *state.Machine, by state.Action) state.Command {
		return &state.PutSitePolicy{By: by, Site: site, Policy: p}
	}, nil)
}

// relent takes back all that owners wanted.
func (o *operator) relent() {
	for _, s := range o.w.sites {
		o.rule(s.id, protocol.SitePolicy{})
		o.order(s.id, protocol.SiteResume, true)
		o.order(s.id, protocol.SiteResume, false)
	}
}
