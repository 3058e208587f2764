package state

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tidwall/btree"

	"floe/protocol"
)

// Opening is what a site's hours and downtimes are, in record time. Its policy has
// them in wall time: the leader translates, when the policy changes and whenever the
// site opens or closes. At Ends the site closes by itself.
type Opening struct {
	// Closed is why nothing begins at the site; empty while it is open. Down says that it
	// is a downtime.
	Closed string `cbor:"1,keyasint,omitempty"`
	Down   bool   `cbor:"2,keyasint,omitempty"`
	// Ends is when the site closes next, NextDown when the next downtime begins; zero is
	// not known.
	Ends     RecordTime `cbor:"3,keyasint,omitempty"`
	NextDown RecordTime `cbor:"4,keyasint,omitempty"`
}

// SiteUse is what the leases of a site take together, where its policy has it counted.
type SiteUse struct {
	Cores int               `cbor:"1,keyasint,omitempty"`
	GPUs  int               `cbor:"2,keyasint,omitempty"`
	Disk  protocol.ByteSize `cbor:"3,keyasint,omitempty"`
	// Own are the cores of the site's own groups.
	Own int `cbor:"4,keyasint,omitempty"`
}

func (u *SiteUse) add(v *SiteUse, sign int) {
	u.Cores += sign * v.Cores
	u.GPUs += sign * v.GPUs
	u.Disk += protocol.ByteSize(sign) * v.Disk
	u.Own += sign * v.Own
}

// PutSitePolicy replaces a site's policy by what the site itself says.
type PutSitePolicy struct {
	By      Action              `cbor:"1,keyasint"`
	Site    protocol.SiteID     `cbor:"2,keyasint"`
	Policy  protocol.SitePolicy `cbor:"3,keyasint"`
	Opening Opening             `cbor:"4,keyasint"`
}

// SetOpening says that a site has opened or closed, or that the leader's reckoning of
// when it will has changed.
type SetOpening struct {
	Site    protocol.SiteID `cbor:"1,keyasint"`
	Opening Opening         `cbor:"2,keyasint"`
}

// Kind returns the command's number in the log.
func (*PutSitePolicy) Kind() Kind { return KindPutSitePolicy }

// Kind returns the command's number in the log.
func (*SetOpening) Kind() Kind { return KindSetOpening }

func (*PutSitePolicy) needs() uint32 { return formatPolicy }
func (*SetOpening) needs() uint32    { return formatPolicy }

func (p *PutSitePolicy) action() (*Action, string, string) {
	return &p.By, "put site policy", string(p.Site)
}

// Validate implements Command.
func (p *PutSitePolicy) Validate() error {
	var c check
	c.wrap(validateSite(&p.By, p.Site))
	c.wrap(p.Policy.Check())
	c.wrap(p.Opening.check())
	return c.err
}

// Validate implements Command.
func (s *SetOpening) Validate() error {
	var c check
	c.name("site", string(s.Site))
	c.wrap(s.Opening.check())
	return c.err
}

func (o *Opening) check() error {
	var c check
	c.text("why it is closed", o.Closed, MaxText)
	c.that(o.Ends >= 0 && o.NextDown >= 0, "opening: a time before the record's beginning")
	c.that(o.Closed == "" || o.Ends == 0, "opening: a closed site does not close")
	return c.err
}

func (p *PutSitePolicy) apply(m *Machine) Answer {
	s := m.site(p.Site)
	if s == nil {
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", p.Site))
	}
	same := SamePolicy(s.Policy, &p.Policy)
	if same && s.Opening == p.Opening {
		return Answer{Reason: "nothing to change"}
	}
	m.open(s, p.Opening)
	if !same {
		s.Policy, s.PolicyIndex = &p.Policy, m.index
		m.recount(s)
	}
	m.emitSite(s, false)
	return Answer{}
}

// SamePolicy compares two policies as the log has them. None is not the empty one.
func SamePolicy(a, b *protocol.SitePolicy) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, errX := protocol.Marshal(a)
	y, errY := protocol.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func (o *SetOpening) apply(m *Machine) Answer {
	s := m.site(o.Site)
	switch {
	case s == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", o.Site))
	case s.Opening == o.Opening:
		return Answer{Reason: "nothing to change"}
	}
	m.open(s, o.Opening)
	m.emitSite(s, false)
	return Answer{}
}

// open takes over when a site opens and closes. In a downtime, pilot jobs that wait
// are not wanted any more.
func (m *Machine) open(s *Site, o Opening) {
	if o.Closed != s.Opening.Closed || o.Down != s.Opening.Down {
		s.OpeningIndex = m.index
	}
	s.Opening = o
	if o.Down {
		m.endWaiting(s, o.Closed)
	}
}

// shut says why nothing begins at a site; empty where work does.
func (s *Site) shut(now RecordTime) string {
	switch {
	case s.Suspended || s.Revoked:
		return fmt.Sprintf("site %s is suspended", s.ID)
	case s.Central != nil:
		return fmt.Sprintf("site %s has the order to %v from an operator%s", s.ID, s.Central.Kind, because(s.Central.Reason))
	case s.Own != nil:
		return fmt.Sprintf("site %s has the order to %v from its own people%s", s.ID, s.Own.Kind, because(s.Own.Reason))
	case s.Opening.Closed != "":
		return fmt.Sprintf("site %s is closed: %s", s.ID, s.Opening.Closed)
	case s.Opening.Ends > 0 && now >= s.Opening.Ends:
		return fmt.Sprintf("site %s closes just now", s.ID)
	}
	return ""
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// Shut says why nothing begins at a site, empty where work does.
func (r *Record) Shut(id protocol.SiteID) string {
	s, known := r.sites.Get(id)
	if !known {
		return fmt.Sprintf("no site %s", id)
	}
	return s.shut(r.time)
}

// limit cuts what a pilot has to what the site still lets tasks take, and to the time
// until it closes.
func (s *Site) limit(f *protocol.Resources, now RecordTime) {
	if s.Opening.Ends > 0 {
		left := max(protocol.Seconds((s.Opening.Ends-now)/Second), 1)
		if f.Remaining == 0 || f.Remaining > left {
			f.Remaining = left
		}
	}
	if s.Policy == nil {
		return
	}
	caps := &s.Policy.Caps
	if caps.Cores > 0 {
		f.Cores = min(f.Cores, max(0, caps.Cores-s.Use.Cores))
	}
	if caps.Scratch > 0 {
		f.Disk = min(f.Disk, max(0, caps.Scratch-s.Use.Disk))
	}
	if left := max(0, caps.GPUs-s.Use.GPUs); caps.GPUs > 0 && left < len(f.GPUs) {
		f.GPUs = f.GPUs[:left]
	}
}

// launchCrosses says that a pilot job would still be there when a downtime begins.
func (s *Site) launchCrosses(offer *protocol.Resources, now RecordTime) string {
	if down := s.Opening.NextDown; down > 0 && offer.Remaining > 0 && now.After(offer.Remaining) > down {
		return fmt.Sprintf("a pilot job of %v would run into the downtime that begins in %v",
			offer.Remaining.Duration(), protocol.Seconds((down-now)/Second).Duration())
	}
	return ""
}

// launchable cuts kinds of pilot jobs to what the site gives them, and notes of which
// none may be launched.
func (s *Site) launchable(kinds []Launchable, out []Pressure, now RecordTime) []Launchable {
	kinds = slices.Clone(kinds)
	shut := s.shut(now)
	for k := range kinds {
		if out[k].Shut = shut; shut == "" {
			out[k].Shut = s.launchCrosses(&kinds[k].Offer, now)
		}
		s.limit(&kinds[k].Offer, now)
	}
	return kinds
}

// fits is Fits at a site that may close: there, a task that does not say how long it
// runs is presumed to run for an hour.
func (s *Site) fits(r *protocol.Requirements, rule *SiteRule, free *protocol.Resources, now RecordTime) (Lack, uint8) {
	lack, shape := Fits(r, rule, s.ID, free)
	if lack == LackNothing && s.Opening.Ends > 0 && shapeOf(r, shape).Walltime == 0 && now.After(protocol.PresumedWalltime) > s.Opening.Ends {
		return LackWalltime, 0
	}
	return lack, shape
}

// choice is which work of a class is looked at.
type choice uint8

const (
	anyWork    choice = iota
	ownWork           // of the site's own groups
	othersWork        // of others
)

// choices are what a site's policy looks for, one after the other.
func (s *Site) choices() []choice {
	switch p := s.Policy; {
	case p == nil || len(p.Own) == 0:
		return justAny
	case p.Share > 0 && s.Use.Cores > 0 && 100*s.Use.Own >= p.Share*s.Use.Cores:
		return othersFirst
	}
	return ownFirst
}

var (
	justAny     = []choice{anyWork}
	ownFirst    = []choice{ownWork, anyWork}
	othersFirst = []choice{othersWork, anyWork}
)

// takes tells whether a site takes the work of a dataset.
func (s *Site) takes(d *dataset, w choice) bool {
	own := w == anyWork || s.Policy.IsOwn(d.facts.Group) == (w == ownWork)
	return own && s.Policy.Permits(d.facts.Owner, d.facts.Group, d.id)
}

// first is the lane of a class that a site would serve next.
func (m *Machine) first(c *readyClass, s *Site, w choice) (order uint64, ref laneRef, found bool) {
	if w == anyWork && !s.Policy.Chooses() {
		return c.order.Min()
	}
	c.order.Scan(func(o uint64, r laneRef) bool {
		if d, _ := m.datasets.Get(r.dataset); s.takes(d, w) {
			order, ref, found = o, r, true
		}
		return !found
	})
	return order, ref, found
}

// permitted counts the tasks of a class that a site takes.
func (m *Machine) permitted(c *readyClass, s *Site) (n uint64) {
	if !s.Policy.Chooses() {
		return c.count
	}
	c.order.Scan(func(_ uint64, r laneRef) bool {
		if d, _ := m.datasets.Get(r.dataset); s.takes(d, anyWork) {
			n += d.tasks[r.task].lanes[r.lane].queued.n
		}
		return true
	})
	return n
}

// use is what a lease takes of its site.
func (s *Site) use(d *dataset, l *Lease) *SiteUse {
	r := d.tasks[l.Task.Task].granted(uint32(l.Task.Job), l.Shape)
	u := &SiteUse{Cores: max(r.Cores, 1), GPUs: r.GPUs, Disk: r.Disk}
	if s.Policy.IsOwn(d.facts.Group) {
		u.Own = u.Cores
	}
	return u
}

// recount counts what the leases of a site take, by its policy.
func (m *Machine) recount(s *Site) {
	s.Use = SiteUse{}
	if !s.Policy.Counts() || s.Leases == 0 {
		return
	}
	for _, id := range m.pilotsOf(s.ID) {
		p, _ := m.pilots.Get(id)
		for _, h := range p.Leases {
			d, j := m.dataset(h.Task.Dataset), uint32(h.Task.Job)
			l, _ := d.current(j, h.Task.Task)
			c := *l
			c.Counted = s.use(d, l)
			s.Use.add(c.Counted, 1)
			d.live.Set(taskKey(j, h.Task.Task), &c)
		}
	}
}

// SiteRefusal is a site that does not take a task, and why.
type SiteRefusal struct {
	Site   protocol.SiteID
	Reason string
	Pilots uint64 // of the site, running
}

// refusals lists the sites that do not take a dataset's work, by name.
func (r *Record) refusals(d *dataset) (all []SiteRefusal) {
	r.sites.Scan(func(id protocol.SiteID, s *Site) bool {
		reason := s.shut(r.time)
		if why := s.Policy.Refusal(d.facts.Owner, d.facts.Group, d.id); why != "" && !s.Revoked {
			reason = fmt.Sprintf("the policy of site %s: %s", id, why)
		}
		if reason != "" && !s.Revoked {
			all = append(all, SiteRefusal{id, reason, s.Pilots})
		}
		return true
	})
	return all
}

// policies checks that counts are right, and that no lease was granted against the
// policy that stood then.
func (a *audit) policies(r *Record) {
	used := new(btree.Map[protocol.SiteID, *SiteUse])
	r.datasets.Scan(func(_ protocol.DatasetID, d *dataset) bool {
		d.live.Scan(func(_ uint64, l *Lease) bool {
			s, known := r.sites.Get(l.Site)
			if !known || s.Policy == nil {
				return true
			}
			if l.ID.Index > s.PolicyIndex {
				if why := s.Policy.Refusal(d.facts.Owner, d.facts.Group, d.id); why != "" {
					a.fault("I-40", "lease %v of task %v was granted at site %s, though %s", l.ID, l.Task, l.Site, why)
				}
			}
			if s.Policy.Counts() {
				u, _ := used.Get(l.Site)
				if u == nil {
					u = new(SiteUse)
					used.Set(l.Site, u)
				}
				if l.Counted != nil {
					u.add(l.Counted, 1)
				} else {
					a.fault("I-41", "lease %v of site %s is not counted", l.ID, l.Site)
				}
			}
			return true
		})
		return true
	})
	r.sites.Scan(func(id protocol.SiteID, s *Site) bool {
		want := SiteUse{}
		if u, some := used.Get(id); some {
			want = *u
		}
		if s.Use != want {
			a.fault("I-41", "site %s counts %+v in use, its leases take %+v", id, s.Use, want)
		}
		return true
	})
}
