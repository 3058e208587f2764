package state

import (
	"cmp"
	"slices"

	"floe/protocol"
)

// Launchable is one kind of pilot job that a site can submit.
type Launchable struct {
	Name  string
	Offer protocol.Resources
	// Room is how many more there may be by the caps of the site.
	Room uint64
}

// Pressure is what queued work asks of one kind of pilot job.
type Pressure struct {
	// Fit counts queued tasks that such a pilot could run, Lacks the others by what it
	// or the site lacks. Left are those that fit and that no pilot which comes or waits
	// will take.
	Fit   uint64
	Lacks [lackKinds]uint64
	Left  uint64
	// Coming counts pilot jobs of the kind that have not enrolled, Waiting its pilots
	// that have no task.
	Coming, Waiting uint64
	// Wanted is how many more are wanted for what is left, were there room, and Grant
	// how many may be launched now.
	Wanted, Grant uint64
	// Surplus counts those of Coming that nothing is left for.
	Surplus uint64
	// Shape is what is known of it.
	Shape Shape
	// Shut is why none is launched whatever waits; empty where one may be.
	Shut string
}

// Reservation is how long the launch leases of one site keep others from launching
// for the same tasks: a job that has not started by then may be in a long queue.
const Reservation = 15 * Minute

// Pressure tells how many more pilot jobs of each kind a site should have, together at
// most room. Work is counted where it fits, by the predicates that matching uses:
// first into pilots that come or have had no task yet, here and at other sites, then
// into new ones, those first that fit it best. A pilot that has had a task and waits
// counts for nothing: whatever is queued and fitted it, it would have.
//
// Its time is proportional to the pilots, the launch leases, and the requirement
// classes for each kind of pilot.
func (m *Machine) Pressure(site protocol.SiteID, kinds []Launchable, room uint64) []Pressure {
	out := make([]Pressure, len(kinds))
	s, known := m.sites.Get(site)
	if known {
		kinds = s.launchable(kinds, out, m.time)
	}
	w := newWork(m, s, kinds, out)
	elsewhere, own := m.supplies(site, kinds, out)
	for i := range elsewhere {
		p := &elsewhere[i]
		w.fill(p.site, &p.offer, p.count, func(*portion, *protocol.Requirements) bool { return true })
	}
	// Those of this site that have not started may still be taken back.
	order := bestFit(kinds)
	w.stages(kinds, order, func(k int, drives func(*portion, *protocol.Requirements) bool) {
		for i := range own {
			if p := &own[i]; p.kind == k {
				p.count -= w.fill(site, &p.offer, p.count, drives)
			}
		}
	})
	for i := range own {
		out[own[i].kind].Surplus += own[i].count
	}
	for k := range kinds {
		if known {
			out[k].Shape = s.Shape(kinds[k].Name)
		}
		out[k].Left = w.leftFor(site, &kinds[k].Offer)
	}
	room = min(room, MaxLaunches)
	w.stages(kinds, order, func(k int, drives func(*portion, *protocol.Requirements) bool) {
		p := &out[k]
		more := w.clone().fill(site, &kinds[k].Offer, 1<<32, drives)
		grant := min(more, room, kinds[k].Room-min(kinds[k].Room, p.Grant), uint64(p.Shape.Left(m.time))-min(uint64(p.Shape.Left(m.time)), p.Grant))
		w.fill(site, &kinds[k].Offer, grant, drives)
		p.Wanted += more
		p.Grant += grant
		room -= grant
	})
	return out
}

// portion is queued work of one requirement class that nothing has taken yet.
type portion struct {
	*readyClass
	left uint64
	// plain says that a kind without cards fits it.
	plain bool
}

// work is what is queued and fits a site.
type work struct {
	classes []portion
	took    []taken
}

type taken struct {
	class int
	count uint64
}

// newWork gathers what fits one of the kinds, most urgent first, and counts it.
func newWork(m *Machine, s *Site, kinds []Launchable, out []Pressure) *work {
	w := new(work)
	for _, c := range m.ready.active {
		x, fits := portion{readyClass: c}, false
		if s != nil {
			x.left = m.permitted(c, s)
		}
		for k := range kinds {
			lack := LackService
			if s != nil && out[k].Shut == "" {
				lack, _ = s.fits(&c.requirements, &c.sites, &kinds[k].Offer, m.time)
			}
			if lack != LackNothing {
				out[k].Lacks[lack] += c.count
				continue
			}
			fits = true
			out[k].Fit += x.left
			out[k].Lacks[LackPolicy] += c.count - x.left
			x.plain = x.plain || len(kinds[k].Offer.GPUs) == 0
		}
		if fits {
			w.classes = append(w.classes, x)
		}
	}
	slices.SortFunc(w.classes, func(a, b portion) int {
		first, _, _ := a.order.Min()
		second, _, _ := b.order.Min()
		return cmp.Or(cmp.Compare(first, second), cmp.Compare(a.key, b.key))
	})
	return w
}

func (w *work) clone() *work { return &work{classes: slices.Clone(w.classes)} }

// leftFor counts what is left that an offer fits.
func (w *work) leftFor(site protocol.SiteID, offer *protocol.Resources) (n uint64) {
	for i := range w.classes {
		c := &w.classes[i]
		if lack, _ := Fits(&c.requirements, &c.sites, site, offer); lack == LackNothing {
			n += c.left
		}
	}
	return n
}

// stages goes through the kinds, best fit first: those with cards for what uses
// cards, those without for all else, and those with cards again for what nothing else
// here fits. drives says what a pilot of the kind is wanted for; it takes other work
// along.
func (w *work) stages(kinds []Launchable, order []int, do func(k int, drives func(*portion, *protocol.Requirements) bool)) {
	for _, stage := range [...]struct {
		cards  bool
		drives func(*portion, *protocol.Requirements) bool
	}{
		{true, func(_ *portion, r *protocol.Requirements) bool { return r.GPUs > 0 }},
		{false, func(*portion, *protocol.Requirements) bool { return true }},
		{true, func(c *portion, _ *protocol.Requirements) bool { return !c.plain }},
	} {
		for _, k := range order {
			if stage.cards == (len(kinds[k].Offer.GPUs) > 0) {
				do(k, stage.drives)
			}
		}
	}
}

// bestFit orders kinds by what would be wasted on little work: cards, tags, cores,
// memory, walltime.
func bestFit(kinds []Launchable) []int {
	order := make([]int, len(kinds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := &kinds[i].Offer, &kinds[j].Offer
		return cmp.Or(len(a.GPUs)-len(b.GPUs), len(a.Tags)-len(b.Tags), a.Cores-b.Cores,
			cmp.Compare(a.Memory, b.Memory), cmp.Compare(a.Remaining, b.Remaining))
	})
	return order
}

// fill takes work into pilots of one offer until they are full or nothing more fits,
// and tells how many of them are used.
func (w *work) fill(site protocol.SiteID, offer *protocol.Resources, pilots uint64, drives func(*portion, *protocol.Requirements) bool) (used uint64) {
	for used < pilots {
		w.pack(site, *offer, drives)
		if len(w.took) == 0 {
			break
		}
		// As many pilots as there is the same for.
		times := pilots - used
		for _, t := range w.took {
			times = min(times, w.classes[t.class].left/t.count)
		}
		for _, t := range w.took {
			w.classes[t.class].left -= times * t.count
		}
		used += times
	}
	return used
}

// pack sets took to what one pilot takes: what uses its cards first.
func (w *work) pack(site protocol.SiteID, free protocol.Resources, drives func(*portion, *protocol.Requirements) bool) {
	w.took = w.took[:0]
	for _, cards := range [...]bool{true, false} {
		if cards && len(free.GPUs) == 0 {
			continue
		}
		for i := range w.classes {
			c := &w.classes[i]
			if free.Cores <= 0 {
				return
			}
			if c.left == 0 {
				continue
			}
			lack, shape := Fits(&c.requirements, &c.sites, site, &free)
			if lack != LackNothing {
				continue
			}
			r := shapeOf(&c.requirements, shape)
			if cards != (r.GPUs > 0) || len(w.took) == 0 && !drives(c, r) {
				continue
			}
			w.took = append(w.took, taken{i, takeMany(&free, r, c.left)})
		}
	}
}

// takeMany subtracts what up to n tasks of the same requirements, of which one fits,
// will use, and tells how many fit.
func takeMany(free *protocol.Resources, r *protocol.Requirements, n uint64) (count uint64) {
	for count < n && lacksResources(r, free) == LackNothing {
		take(free, r)
		count++
	}
	return count
}

// supply are pilot jobs or pilots of the same offer that have had no task yet.
type supply struct {
	site  protocol.SiteID
	kind  int // of the site in question; -1 for one that cannot be taken back
	offer protocol.Resources
	count uint64
}

// aging is how finely the remaining time of pilots is told apart.
const aging = 10 * Minute

// supplies gathers what comes, or is there and had no task yet: at the site what has
// not started by kind, and all else.
func (m *Machine) supplies(site protocol.SiteID, kinds []Launchable, out []Pressure) (elsewhere, own []supply) {
	kindOf := func(at protocol.SiteID, shape string) int {
		if at != site {
			return -1
		}
		return slices.IndexFunc(kinds, func(k Launchable) bool { return k.Name == shape })
	}
	add := func(all []supply, p supply) []supply {
		for i := range all {
			if q := &all[i]; q.site == p.site && q.kind == p.kind && sameOffer(&q.offer, &p.offer) {
				q.count++
				return all
			}
		}
		p.count = 1
		return append(all, p)
	}
	m.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool {
		k := kindOf(l.Site, l.Shape)
		switch {
		case l.Pilot != "" || l.Site != site && (m.time-l.Granted >= Reservation || m.Shut(l.Site) != ""):
		case k >= 0:
			out[k].Coming++
			own = add(own, supply{site: l.Site, kind: k, offer: l.Offer})
		default:
			elsewhere = add(elsewhere, supply{site: l.Site, kind: -1, offer: l.Offer})
		}
		return true
	})
	m.pilots.Scan(func(_ protocol.PilotID, p *Pilot) bool {
		if p.Left > 0 || p.Sequence > 0 || p.Draining || len(p.Leases) > 0 {
			return true
		}
		// It counts as what was promised of it: were it taken for what it turned out to
		// be, more and more would be launched of what does not keep its promise.
		offer := p.Resources
		if l, known := m.launches.Get(p.Launch); known {
			offer = l.Offer
			if k := kindOf(l.Site, l.Shape); k >= 0 {
				out[k].Waiting++
			}
		}
		if offer.Remaining > 0 {
			offer.Remaining = max(1, offer.Remaining-protocol.Seconds((m.time-p.Enrolled)/aging*(aging/Second)))
		}
		if s, _ := m.sites.Get(p.Site); s.shut(m.time) == "" && m.cleared(p, &offer).barred == "" {
			elsewhere = add(elsewhere, supply{site: p.Site, kind: -1, offer: offer})
		}
		return true
	})
	return elsewhere, own
}

// sameOffer tells whether what fits one offer fits the other.
func sameOffer(a, b *protocol.Resources) bool {
	return a.Cores == b.Cores && a.Memory == b.Memory && a.Disk == b.Disk && a.Remaining == b.Remaining && a.OS == b.OS &&
		slices.Equal(a.Tags, b.Tags) && slices.Equal(a.GPUs, b.GPUs)
}
