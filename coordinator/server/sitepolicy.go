package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// own answers a site that speaks of itself (protocol.SiteRequest).
func (s *Server) own(w http.ResponseWriter, r *http.Request) error {
	var request protocol.SiteRequest
	if err := transport.ReadCBOR(r, protocol.MaxExchangeBytes, &request); err != nil {
		return err
	}
	reply, err := s.Own(r.Context(), transport.CallerOf(r.Context()), &request)
	if err != nil {
		return err
	}
	return transport.WriteCBOR(w, reply)
}

// Own is the verb without its network.
func (s *Server) Own(ctx context.Context, caller transport.Caller, request *protocol.SiteRequest) (*protocol.SiteReply, error) {
	site, err := s.siteOf(caller)
	if err != nil {
		return nil, err
	}
	reply := new(protocol.SiteReply)
	if request.Policy != nil {
		if reply.Changed, err = s.putPolicy(ctx, &caller, &site, request.Policy); err != nil {
			return nil, err
		}
	}
	if request.Order != 0 {
		by := state.Action{Actor: itself(site.ID), Reason: request.Reason, From: caller.Remote.String()}
		a, err := s.propose(ctx, &state.OrderSite{By: by, Site: site.ID, Order: request.Order, Own: true, Within: request.Within})
		if err != nil {
			return nil, err
		}
		reply.Changed = reply.Changed || a.Reason == ""
		s.Logger.Info("site controlled", "site", site.ID, "action", request.Order, "user", by.Actor)
	}
	if request.Taken > 0 {
		s.passes.took(site.ID, request.Taken)
	}
	reply.Orders, _ = s.ordersOf(site.ID)
	return reply, nil
}

// itself is how a site is named where a person would be.
func itself(site protocol.SiteID) protocol.UserID { return protocol.UserID("<site " + site + ">") }

// putPolicy takes what a site says of itself into the record, and tells whether that
// was something new.
func (s *Server) putPolicy(ctx context.Context, caller *transport.Caller, site *state.Site, policy *protocol.SitePolicy) (changed bool, err error) {
	if err := policy.Check(); err != nil {
		return false, protocol.Errorf(protocol.CodeBadRequest, "the site's policy: %v", err)
	}
	command := &state.PutSitePolicy{
		By: state.Action{Actor: itself(site.ID), From: caller.Remote.String()}, Site: site.ID, Policy: *policy,
	}
	var same bool
	s.Record.Read(func(m *state.Machine) {
		command.Opening = opening(m, policy, time.Now())
		before := site.Policy
		if before == nil {
			before = new(protocol.SitePolicy)
		}
		same = state.SamePolicy(before, policy)
	})
	if same {
		return false, nil
	}
	a, err := s.propose(ctx, command)
	if err != nil {
		return false, err
	}
	if a.Reason == "" {
		s.Logger.Info("a site's policy has changed", "site", site.ID)
	}
	return a.Reason == "", nil
}

// opening is what a policy's hours and downtimes are now, in record time: that of the
// last entry, whose stamp says what the wall clock was.
func opening(m *state.Machine, p *protocol.SitePolicy, now time.Time) state.Opening {
	t := p.At(now.Unix())
	at := func(unix int64) state.RecordTime {
		if unix == 0 {
			return 0
		}
		return max(1, m.Time()+state.RecordTime(1000*unix-int64(m.Wall()))*(state.Second/1000))
	}
	return state.Opening{Closed: t.Closed, Down: t.Down, Ends: at(t.Ends), NextDown: at(t.NextDown)}
}

// reckoning is how much what the record has of a site's times may be beside what the
// leader's clock says.
const reckoning = 30 * state.Second

// openings are the sites that have opened or closed, or will at another record time
// than was thought.
func (t *Term) openings(now time.Time, proposals []state.Command) []state.Command {
	t.core.record.Read(func(m *state.Machine) {
		for s := range m.Sites() {
			if s.Policy == nil {
				continue
			}
			had, is := s.Opening, opening(m, s.Policy, now)
			if had.Closed != is.Closed || had.Down != is.Down || differ(had.Ends, is.Ends) || differ(had.NextDown, is.NextDown) {
				proposals = append(proposals, &state.SetOpening{Site: s.ID, Opening: is})
			}
		}
	})
	return proposals
}

func differ(a, b state.RecordTime) bool {
	return (a == 0) != (b == 0) || a-b > reckoning || b-a > reckoning
}

// standing are a site's orders as they stand, the weakest first; of what hours and
// downtimes ask for, too.
func standing(m *state.Machine, s *state.Site) (all []protocol.SiteOrder) {
	for _, o := range []struct {
		order *state.SiteOrder
		who   string
	}{{s.Central, "operator"}, {s.Own, "site"}} {
		if o.order == nil {
			continue
		}
		x := protocol.SiteOrder{
			Number: o.order.Number, Kind: o.order.Kind, By: cmp.Or(string(o.order.By), o.who), Reason: o.order.Reason,
			Given: int64(o.order.Wall), Age: millis(max(0, m.Time()-o.order.Given)),
		}
		if o.order.Ends > 0 {
			x.Left = millis(max(1, o.order.Ends-m.Time()))
		}
		all = append(all, x)
	}
	if s.Opening.Closed != "" {
		x := protocol.SiteOrder{Number: s.OpeningIndex, Kind: protocol.SiteDrain, By: string(itself(s.ID)), Reason: s.Opening.Closed}
		if s.Opening.Down {
			x.Kind = protocol.SiteStop
		}
		all = append(all, x)
	}
	return all
}

// siteOrders are the orders of its site that a pilot has not taken.
func siteOrders(m *state.Machine, site protocol.SiteID, obeyed uint64) (all []protocol.Order) {
	s, known := m.Site(site)
	if !known {
		return nil
	}
	for _, o := range standing(m, &s) {
		if o.Number <= obeyed {
			continue
		}
		x := protocol.Order{Kind: protocol.OrderPause, Number: o.Number, Reason: fmt.Sprintf("%s: %v the site: %s", o.By, o.Kind, o.Reason)}
		switch o.Kind {
		case protocol.SiteDrain:
			x.Kind = protocol.OrderDrain
		case protocol.SiteStop:
			x.Kind = protocol.OrderStop
		case protocol.SiteReclaim:
			x.Kind, x.Within = protocol.OrderStop, protocol.Seconds(max(1, o.Left/1000))
		}
		all = append(all, x)
	}
	return all
}

// ordersOf says what a site is told to do, and who has heard of it.
func (s *Server) ordersOf(id protocol.SiteID) (reply protocol.SiteOrders, known bool) {
	s.Record.Read(func(m *state.Machine) {
		var site state.Site
		if site, known = m.Site(id); !known {
			return
		}
		reply = protocol.SiteOrders{Site: id, Orders: standing(m, &site), Closed: site.Opening.Closed, Policy: site.Policy}
		for p := range m.Pilots("") {
			if p.Site != id || p.Left > 0 {
				continue
			}
			obeyed := s.core.watch.obedience(p.ID)
			for i := range reply.Orders {
				if o := &reply.Orders[i]; obeyed >= o.Number {
					o.Taken++
				} else {
					o.Waiting = append(o.Waiting, p.ID)
				}
			}
		}
	})
	at, number := s.passes.taken(id)
	for i := range reply.Orders {
		if number >= reply.Orders[i].Number {
			reply.Orders[i].Pass = at.UnixMilli()
		}
	}
	return reply, known
}

// orders lists a site's standing orders, and its policy.
func (s *Server) orders(_ context.Context, in *sitePath) (*body[protocol.SiteOrders], error) {
	reply, known := s.ordersOf(in.Site)
	if !known {
		return nil, protocol.Errorf(protocol.CodeNotFound, "no site %s", in.Site)
	}
	if reply.Orders == nil {
		reply.Orders = []protocol.SiteOrder{}
	}
	return &body[protocol.SiteOrders]{reply}, nil
}

// takenOrder is the newest order that passes of a site have taken, and when.
type takenOrder struct {
	number uint64
	at     time.Time
}

func (p *passes) took(site protocol.SiteID, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.orders == nil {
		p.orders = map[protocol.SiteID]takenOrder{}
	}
	if number > p.orders[site].number {
		p.orders[site] = takenOrder{number, time.Now()}
	}
}

func (p *passes) taken(site protocol.SiteID) (at time.Time, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.orders[site]
	return o.at, o.number
}

// orders tells a pass what the site is told to do. What must be gone by now is removed.
func (p *Launching) orders(m *state.Machine, reply *protocol.LaunchReply) {
	s, known := m.Site(p.Site)
	if !known {
		return
	}
	reply.Orders = standing(m, &s)
	if why := overdue(m, &s); why != "" {
		reply.Remove, reply.Strays = nil, nil
		for i := range p.Request.Known {
			reply.Remove = append(reply.Remove, p.Request.Known[i].Launch)
		}
		reply.Reasons = append(reply.Reasons, fmt.Sprintf("%d pilot jobs are removed: %s", len(reply.Remove), why))
	}
}

// overdue tells whether all pilot jobs of a site must be gone by now, and why.
func overdue(m *state.Machine, s *state.Site) string {
	for _, o := range []*state.SiteOrder{s.Central, s.Own} {
		switch {
		case o == nil:
		case o.Kind == protocol.SiteReclaim && m.Time() >= o.Ends:
			return "the time of its reclaim is over"
		case o.Kind == protocol.SiteStop && m.Time() >= o.Given+stopWithin:
			return "it was told to stop"
		}
	}
	return ""
}

// stopWithin is after how long pilot jobs of a stopped site are removed that have not
// left by themselves: they have 20 s of grace, and speak every minute at least.
const stopWithin = 3 * state.Minute

// standingOf is how a site stands, in a word.
func standingOf(s *state.Site) string {
	kind := protocol.SiteResume
	for _, o := range []*state.SiteOrder{s.Central, s.Own} {
		if o != nil {
			kind = max(kind, o.Kind)
		}
	}
	switch {
	case kind == protocol.SiteResume && s.Suspended:
		return "suspended"
	case kind == protocol.SiteResume && s.Opening.Closed != "":
		return "closed"
	}
	return [...]string{"", "active", "paused", "draining", "reclaimed", "stopped"}[kind]
}
