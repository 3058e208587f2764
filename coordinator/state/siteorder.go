package state

import (
	"fmt"

	"floe/protocol"
)

// SiteOrder is a standing order of a site.
type SiteOrder struct {
	// Number is the index of the entry that gave it.
	Number uint64                 `cbor:"1,keyasint"`
	Kind   protocol.SiteOrderKind `cbor:"2,keyasint"`
	By     protocol.UserID        `cbor:"3,keyasint,omitempty"`
	Reason string                 `cbor:"4,keyasint,omitempty"`
	Given  RecordTime             `cbor:"5,keyasint"`
	Wall   UnixMillis             `cbor:"6,keyasint"`
	// Ends is when a reclaim's time is over.
	Ends RecordTime `cbor:"7,keyasint,omitempty"`
}

// OrderSite gives a site a standing order, or takes it back. The site's own orders and
// those of operators stand beside each other: neither takes back the other's.
type OrderSite struct {
	By    Action                 `cbor:"1,keyasint"`
	Site  protocol.SiteID        `cbor:"2,keyasint"`
	Order protocol.SiteOrderKind `cbor:"3,keyasint"`
	// Own says that the site itself gives it.
	Own bool `cbor:"4,keyasint,omitempty"`
	// Within is the time of a reclaim.
	Within protocol.Seconds `cbor:"5,keyasint,omitempty"`
}

// Kind returns the command's number in the log.
func (*OrderSite) Kind() Kind { return KindOrderSite }

func (*OrderSite) needs() uint32 { return formatPolicy }

func (o *OrderSite) action() (*Action, string, string) {
	return &o.By, o.Order.String() + " site", string(o.Site)
}

// Validate implements Command.
func (o *OrderSite) Validate() error {
	var c check
	c.wrap(validateSite(&o.By, o.Site))
	c.that(o.Order >= protocol.SiteResume && o.Order <= protocol.SiteStop, "unknown order %d", o.Order)
	if o.Order == protocol.SiteReclaim {
		c.that(o.Within >= protocol.MinReclaim && o.Within <= protocol.MaxReclaim, "reclaim within %d s: want %d s to %d s", o.Within, protocol.MinReclaim, protocol.MaxReclaim)
	} else {
		c.that(o.Within == 0, "%v: only a reclaim takes a time", o.Order)
	}
	return c.err
}

func (o *OrderSite) apply(m *Machine) Answer {
	s := m.site(o.Site)
	switch {
	case s == nil:
		return refuse(protocol.CodeNotFound, fmt.Sprintf("no site %s", o.Site))
	case s.Revoked:
		return refuse(protocol.CodeConflict, fmt.Sprintf("site %s is revoked: it joins again with a new token (floe token create site %[1]s)", o.Site))
	}
	stands := &s.Central
	if o.Own {
		stands = &s.Own
	}
	if o.Order == protocol.SiteResume {
		suspended := s.Suspended && !o.Own
		if *stands == nil && !suspended {
			return Answer{Reason: "nothing to change"}
		}
		*stands, s.Suspended = nil, s.Suspended && !suspended
		m.emitSite(s, false)
		return Answer{}
	}
	if old := *stands; old != nil && old.Kind == o.Order && (old.Ends == 0 || old.Ends == old.Given.After(o.Within)) {
		return Answer{Reason: "ordered before"}
	}
	made := &SiteOrder{Number: m.index, Kind: o.Order, By: o.By.Actor, Reason: o.By.Reason, Given: m.time, Wall: m.wall}
	if o.Order == protocol.SiteReclaim {
		made.Ends = m.time.After(o.Within)
	}
	*stands = made
	if o.Order > protocol.SitePause {
		m.endWaiting(s, "the site was told to "+o.Order.String())
	}
	m.emitSite(s, false)
	return Answer{}
}

// endWaiting ends the launch leases of pilot jobs that have not begun.
func (m *Machine) endWaiting(s *Site, reason string) {
	var waiting []*Launch
	m.launches.Scan(func(_ protocol.LaunchID, l *Launch) bool {
		if l.Site == s.ID && l.Pilot == "" {
			waiting = append(waiting, l)
		}
		return true
	})
	for _, l := range waiting {
		m.endLaunch(l, EndQuietly, reason)
	}
}
