package protocol

import (
	"fmt"
	"slices"
	"time"
)

// SitePolicy is what the owners of a site want of it. The site makes it and sends it
// over its own connection; matching, launching, the glidein pass and every pilot of
// the site obey it, and nobody else can change it. The zero value wants nothing.
type SitePolicy struct {
	// Allow says whose work is taken, empty everybody's; Ban whose is not. Ban wins.
	Allow SiteWho `cbor:"1,keyasint" json:"allow,omitzero"`
	Ban   SiteWho `cbor:"2,keyasint" json:"ban,omitzero"`
	// Own are the groups whose work comes first. With a Share they come first only while
	// they have less than so many percent of the cores in use, and others do else.
	Own   []GroupID `cbor:"3,keyasint,omitempty" json:"own,omitempty"`
	Share int       `cbor:"4,keyasint,omitempty" json:"share,omitempty"`
	Caps  SiteCaps  `cbor:"5,keyasint" json:"caps,omitzero"`
	// Timed says that the site runs in Hours only, sorted and disjoint. What lies behind
	// the last of them is not known, and closed until the site says more.
	Timed bool     `cbor:"6,keyasint,omitempty" json:"timed,omitempty"`
	Hours []Window `cbor:"7,keyasint,omitempty" json:"hours,omitempty"`
	// Downtimes are announced, sorted by their beginning; they may overlap.
	Downtimes []Downtime `cbor:"8,keyasint,omitempty" json:"downtimes,omitempty"`
}

// SiteWho names work by group, user and dataset; one that matches is enough.
type SiteWho struct {
	Groups   []GroupID   `cbor:"1,keyasint,omitempty" json:"groups,omitempty"`
	Users    []UserID    `cbor:"2,keyasint,omitempty" json:"users,omitempty"`
	Datasets []DatasetID `cbor:"3,keyasint,omitempty" json:"datasets,omitempty"`
}

// SiteCaps bound what all tasks at the site take together; zero does not.
type SiteCaps struct {
	Cores   int      `cbor:"1,keyasint,omitempty" json:"cores,omitempty"`
	GPUs    int      `cbor:"2,keyasint,omitempty" json:"gpus,omitempty"`
	Scratch ByteSize `cbor:"3,keyasint,omitempty" json:"scratch,omitempty" doc:"bytes"`
	// Network is what all pilots move in a second, in bytes. Each keeps to its part.
	Network ByteSize `cbor:"4,keyasint,omitempty" json:"network,omitempty" doc:"bytes per second"`
}

// Window is a span of wall time, in Unix seconds: From is in it, To is not.
type Window struct {
	From int64 `cbor:"1,keyasint" json:"from" doc:"unix seconds"`
	To   int64 `cbor:"2,keyasint" json:"to" doc:"unix seconds"`
}

// Downtime is a span in which a site does not run.
type Downtime struct {
	// Number names it; the site gives it, and uses none twice.
	Number uint32 `cbor:"1,keyasint" json:"number"`
	Window Window `cbor:"2,keyasint" json:"window"`
	Reason string `cbor:"3,keyasint,omitempty" json:"reason,omitempty"`
}

// Limits of a policy.
const (
	MaxPolicyNames  = 1024 // in each list
	MaxSiteWindows  = 512
	MaxDowntimes    = 128
	MaxDowntimeText = 256
	maxMoment       = 7_258_118_400 // the year 2200
)

// Check returns what is wrong with a policy, or nil.
func (p *SitePolicy) Check() error {
	for _, w := range []struct {
		what string
		who  *SiteWho
	}{{"allow", &p.Allow}, {"ban", &p.Ban}} {
		if err := w.who.check(); err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
	}
	if err := checkNames("own group", p.Own); err != nil {
		return err
	}
	switch {
	case p.Share < 0 || p.Share > 100:
		return fmt.Errorf("share %d: want 1 to 100 percent", p.Share)
	case p.Share > 0 && len(p.Own) == 0:
		return fmt.Errorf("share %d: of no group", p.Share)
	case p.Caps.Cores < 0 || p.Caps.GPUs < 0 || p.Caps.Scratch < 0 || p.Caps.Network < 0:
		return fmt.Errorf("a cap below zero")
	case !p.Timed && len(p.Hours) > 0:
		return fmt.Errorf("hours of a site that runs at all times")
	case len(p.Hours) > MaxSiteWindows || len(p.Downtimes) > MaxDowntimes:
		return fmt.Errorf("%d hours and %d downtimes, limits %d and %d", len(p.Hours), len(p.Downtimes), MaxSiteWindows, MaxDowntimes)
	}
	end := int64(0)
	for _, w := range p.Hours {
		if w.From < end || w.To <= w.From || w.To > maxMoment {
			return fmt.Errorf("hours %d to %d: they must be sorted, disjoint and not empty", w.From, w.To)
		}
		end = w.To
	}
	for i, d := range p.Downtimes {
		switch {
		case d.Number == 0 || d.Window.From < 0 || d.Window.To <= d.Window.From || d.Window.To > maxMoment:
			return fmt.Errorf("downtime %d: from %d to %d is no span of time", d.Number, d.Window.From, d.Window.To)
		case i > 0 && d.Window.From < p.Downtimes[i-1].Window.From:
			return fmt.Errorf("downtime %d: they are not sorted", d.Number)
		case len(d.Reason) > MaxDowntimeText:
			return fmt.Errorf("downtime %d: reason of %d bytes, limit %d", d.Number, len(d.Reason), MaxDowntimeText)
		case slices.ContainsFunc(p.Downtimes[:i], func(o Downtime) bool { return o.Number == d.Number }):
			return fmt.Errorf("downtime %d: twice", d.Number)
		}
	}
	return nil
}

func (w *SiteWho) check() error {
	if err := checkNames("group", w.Groups); err != nil {
		return err
	}
	if err := checkNames("user", w.Users); err != nil {
		return err
	}
	if len(w.Datasets) > MaxPolicyNames {
		return fmt.Errorf("more than %d datasets", MaxPolicyNames)
	}
	return nil
}

func checkNames[T ~string](what string, names []T) error {
	if len(names) > MaxPolicyNames {
		return fmt.Errorf("more than %d names", MaxPolicyNames)
	}
	for _, n := range names {
		if err := CheckName(what, string(n)); err != nil {
			return err
		}
	}
	return nil
}

// isEmpty tells whether nobody is named.
func (w *SiteWho) isEmpty() bool { return len(w.Groups)+len(w.Users)+len(w.Datasets) == 0 }

// match tells what of a dataset is named; empty where nothing is.
func (w *SiteWho) match(owner UserID, group GroupID, dataset DatasetID) string {
	switch {
	case slices.Contains(w.Users, owner):
		return "user " + string(owner)
	case group != "" && slices.Contains(w.Groups, group):
		return "group " + string(group)
	case slices.Contains(w.Datasets, dataset):
		return fmt.Sprintf("dataset %d", dataset)
	}
	return ""
}

// Chooses tells whether the policy takes some work and refuses other.
func (p *SitePolicy) Chooses() bool { return p != nil && (!p.Allow.isEmpty() || !p.Ban.isEmpty()) }

// Counts tells whether the policy asks for what is in use at the site to be counted.
func (p *SitePolicy) Counts() bool {
	return p != nil && (p.Caps.Cores > 0 || p.Caps.GPUs > 0 || p.Caps.Scratch > 0 || p.Share > 0)
}

// Permits tells whether work of an owner and group is taken at the site.
func (p *SitePolicy) Permits(owner UserID, group GroupID, dataset DatasetID) bool {
	return !p.Chooses() || p.Ban.match(owner, group, dataset) == "" && (p.Allow.isEmpty() || p.Allow.match(owner, group, dataset) != "")
}

// Refusal says why work is not taken at the site; empty where it is.
func (p *SitePolicy) Refusal(owner UserID, group GroupID, dataset DatasetID) string {
	if p.Permits(owner, group, dataset) {
		return ""
	}
	if banned := p.Ban.match(owner, group, dataset); banned != "" {
		return banned + " is banned"
	}
	if group == "" {
		return fmt.Sprintf("user %s and dataset %d are not among those allowed", owner, dataset)
	}
	return fmt.Sprintf("user %s, group %s and dataset %d are not among those allowed", owner, group, dataset)
}

// IsOwn tells whether a group is one of the site's own.
func (p *SitePolicy) IsOwn(group GroupID) bool {
	return p != nil && group != "" && slices.Contains(p.Own, group)
}

// SiteTimes is what a policy says at one moment.
type SiteTimes struct {
	// Closed is why nothing begins at the site now; empty while it is open. Down says
	// that it is a downtime, in which nothing runs on.
	Closed string
	Down   bool
	// Ends is when the site closes next, NextDown when the next downtime begins, in Unix
	// seconds; zero is not known. A closed site has no Ends.
	Ends, NextDown int64
	// Changes is when any of this is different; zero is not known.
	Changes int64
}

// At says what the policy's hours and downtimes are at a moment, in Unix seconds.
func (p *SitePolicy) At(now int64) (t SiteTimes) {
	if p == nil {
		return t
	}
	for i := range p.Downtimes {
		d := &p.Downtimes[i]
		switch {
		case d.Window.To <= now:
		case d.Window.From > now:
			if t.NextDown == 0 {
				t.NextDown = d.Window.From
			}
		case !t.Down || d.Window.To > t.Changes:
			t.Down, t.Changes = true, d.Window.To
			t.Closed = fmt.Sprintf("downtime %d until %s", d.Number, clock(d.Window.To))
			if d.Reason != "" {
				t.Closed += ": " + d.Reason
			}
		}
	}
	if t.Down {
		return t
	}
	t.Ends = t.NextDown
	if p.Timed {
		p.inHours(&t, now)
	}
	if t.Closed != "" {
		t.Ends = 0
		if t.Changes == 0 || t.NextDown > 0 && t.NextDown < t.Changes {
			t.Changes = t.NextDown
		}
		return t
	}
	t.Changes = t.Ends
	return t
}

// inHours adds what the hours say.
func (p *SitePolicy) inHours(t *SiteTimes, now int64) {
	i := slices.IndexFunc(p.Hours, func(w Window) bool { return w.To > now })
	switch {
	case i < 0:
		t.Closed = "outside of its hours; the site has not said when they begin again"
	case p.Hours[i].From > now:
		t.Closed, t.Changes = "outside of its hours until "+clock(p.Hours[i].From), p.Hours[i].From
	default:
		for i+1 < len(p.Hours) && p.Hours[i+1].From == p.Hours[i].To {
			i++
		}
		if t.Ends == 0 || p.Hours[i].To < t.Ends {
			t.Ends = p.Hours[i].To
		}
	}
}

// clock writes a moment as people of any zone read it.
func clock(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04 MST") }

// PresumedWalltime is how long a task is taken to run that does not say, where a
// site's end is near.
const PresumedWalltime = Seconds(3600)

// Crosses tells whether a task with a walltime limit, zero for none, may still run when
// a site closes.
func Crosses(walltime Seconds, now, ends int64) bool {
	if walltime == 0 {
		walltime = PresumedWalltime
	}
	return ends > 0 && int64(walltime) > ends-now
}

// SiteOrderKind is what a site is told to do as a whole.
type SiteOrderKind uint8

// The orders, weakest first. The numbers are part of wire and log.
const (
	SiteResume  SiteOrderKind = iota + 1 // go on: whoever orders it takes back their order
	SitePause                            // begin nothing; what runs goes on
	SiteDrain                            // finish what runs and leave
	SiteReclaim                          // save work, give it back, and be gone in a given time
	SiteStop                             // the same, at once
)

var siteOrders = [...]string{"", "resume", "pause", "drain", "reclaim", "stop"}

func (k SiteOrderKind) String() string { return nameOf(siteOrders[:], int(k), "site order") }

// MarshalText writes the order's word.
func (k SiteOrderKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the order's word.
func (k *SiteOrderKind) UnmarshalText(b []byte) error {
	i, err := indexOf(siteOrders[:], string(b), "site order")
	*k = SiteOrderKind(i)
	return err
}

// MinReclaim and MaxReclaim bound what a reclaim may ask for.
const (
	MinReclaim = Seconds(60)
	MaxReclaim = Seconds(7 * 24 * 3600)
)

// SiteOrder is one standing order of a site, as people and the site see it.
type SiteOrder struct {
	// Number rises with every order of the cluster.
	Number uint64        `cbor:"1,keyasint" json:"number"`
	Kind   SiteOrderKind `cbor:"2,keyasint" json:"order"`
	// By is who gave it: the site itself, or an operator.
	By     string `cbor:"3,keyasint" json:"by"`
	Reason string `cbor:"4,keyasint,omitempty" json:"reason,omitempty"`
	Given  int64  `cbor:"5,keyasint,omitempty" json:"given,omitempty" doc:"unix milliseconds, by the coordinators' clocks"`
	Age    int64  `cbor:"6,keyasint,omitempty" json:"age_ms" doc:"milliseconds"`
	// Left is what is left of a reclaim's time.
	Left int64 `cbor:"7,keyasint,omitempty" json:"left_ms,omitempty" doc:"milliseconds until all must be gone"`
	// Pass is when a pass took it; zero is not yet. Taken counts the pilots that did,
	// Waiting are those that did not.
	Pass    int64     `cbor:"8,keyasint,omitempty" json:"pass,omitempty" doc:"unix milliseconds when a pass of the site took it; absent: not yet, or another coordinator led"`
	Taken   int       `cbor:"9,keyasint,omitempty" json:"taken" doc:"pilots that took it"`
	Waiting []PilotID `cbor:"10,keyasint,omitempty" json:"waiting,omitempty" doc:"pilots that have not taken it yet"`
}

// SiteOrders are the standing orders of a site; GET /v1/sites/{site}/orders.
type SiteOrders struct {
	Site   SiteID      `cbor:"1,keyasint" json:"site"`
	Orders []SiteOrder `cbor:"2,keyasint,omitempty" json:"orders"`
	// Closed is why hours or a downtime keep it closed now.
	Closed string `cbor:"3,keyasint,omitempty" json:"closed,omitempty"`
	// Policy is the site's own, as the record has it; nil where it has none.
	Policy *SitePolicy `cbor:"4,keyasint,omitempty" json:"policy,omitempty"`
}

// SiteRequest is how a site speaks of itself, POST /v1/sites/own: with its own
// certificate, for itself alone. All fields may be absent: it only asks then.
type SiteRequest struct {
	// Policy replaces the site's policy.
	Policy *SitePolicy `cbor:"1,keyasint,omitempty"`
	// Order is given by the site itself, for a Reason; Within is for a reclaim.
	Order  SiteOrderKind `cbor:"2,keyasint,omitempty"`
	Within Seconds       `cbor:"3,keyasint,omitempty"`
	Reason string        `cbor:"4,keyasint,omitempty"`
	// Taken is the newest order that a pass has taken.
	Taken uint64 `cbor:"5,keyasint,omitempty"`
}

// SiteReply answers a SiteRequest.
type SiteReply struct {
	// Changed says that the policy or the orders are others now.
	Changed bool       `cbor:"1,keyasint,omitempty"`
	Orders  SiteOrders `cbor:"2,keyasint"`
}
