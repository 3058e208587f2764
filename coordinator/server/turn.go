package server

import (
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// Exchange is one exchange under way, as steps that do not wait: Next says what it
// needs until it says that the reply is there. A driver that gives it up calls
// Abandon.
type Exchange struct {
	core      *Core
	pilot     *state.Pilot
	transport string
	request   *protocol.ExchangeRequest
	reply     *protocol.ExchangeReply
	err       error

	stage     stage
	reports   *Admission
	proposals []state.Command
	revive    []protocol.HeldLease // what the proposals of stageReviving revive

	// Of its search for work.
	until   time.Time // zero does not park
	urgent  bool      // has something to say at once
	again   bool      // has been parked, or has tried
	tries   int
	place   *space
	deposed <-chan struct{}
	// owed is a release that has woken it, while it has not got anything of it.
	owed *state.TasksReleased
}

// Turn is what an exchange needs next.
type Turn uint8

const (
	// TurnReply needs nothing: Reply has the answer.
	TurnReply Turn = iota + 1
	// TurnPropose needs the Proposals to be proposed and Settle to be told their fates.
	TurnPropose
	// TurnWait needs that Woken or Deposed is closed, or that Until has come.
	TurnWait
)

// stage is how far an exchange has come.
type stage uint8

const (
	stageReports   stage = iota + 1 // its reports are to be proposed
	stageReporting                  // they are proposed
	stageLeaving                    // its good-bye is proposed
	stageRenewing                   // what it lists is to be renewed
	stageReviving                   // lapsed leases are proposed to live again
	stageLooking                    // it looks for work
	stageAcquiring                  // an acquisition is proposed
	stageParked                     // it waits
	stageAgain                      // it begins to look again
	stageDone
)

// Begin takes a pilot's exchange, or refuses it.
func (c *Core) Begin(now time.Time, caller *transport.Caller, request *protocol.ExchangeRequest) (*Exchange, error) {
	if err := checkExchange(request); err != nil {
		return nil, err
	}
	pilot, err := c.pilotOf(caller)
	if err != nil {
		return nil, err
	}
	c.watch.heard(now, pilot.ID, caller.Transport, request.Way)
	for i := range request.Progress {
		c.watch.told(pilot.ID, &request.Progress[i])
	}
	c.watch.tell(pilot.ID, request.Cache)
	c.watch.obeyed(pilot.ID, request.Obeyed)
	x := &Exchange{
		core: c, pilot: pilot, transport: caller.Transport, request: request, reply: &protocol.ExchangeReply{Next: c.pace()},
		stage: stageReports,
	}
	x.reports = c.Admit(senderOf(caller, pilot), request.Reports)
	return x, nil
}

// Next goes as far as it can and says what is needed.
func (x *Exchange) Next(now time.Time) Turn {
	for {
		switch x.stage {
		case stageReports:
			if x.proposals = x.reports.Proposals(); len(x.proposals) > 0 {
				x.stage = stageReporting
				x.askAlong()
				return TurnPropose
			}
			x.reported()
		case stageRenewing:
			if x.renew(now); len(x.proposals) > 0 {
				x.stage = stageReviving
				return TurnPropose
			}
			x.renewed(now)
		case stageLooking:
			if turn := x.look(now); turn != 0 {
				return turn
			}
		case stageParked:
			x.unpark(now)
		case stageAgain:
			x.parkAgain(now)
		case stageDone:
			return TurnReply
		default: // what is proposed is not settled yet
			return TurnPropose
		}
	}
}

// Proposals are the commands to propose after TurnPropose, all at once.
func (x *Exchange) Proposals() []state.Command { return x.proposals }

// Settle takes the fates of the proposals, in their order.
func (x *Exchange) Settle(now time.Time, fates []Fate) {
	switch x.stage {
	case stageReporting:
		n := len(x.reports.Proposals())
		x.reports.Settle(fates[:n])
		for i := range fates[n:] { // what was asked along
			x.take(fates[n+i].Answer.Grants)
		}
		x.reported()
	case stageLeaving:
		x.finish(fates[0].refusal())
	case stageReviving:
		x.revived(now, fates)
		x.renewed(now)
	case stageAcquiring:
		x.acquired(&fates[0])
	}
}

// Woken is closed when there is reason to look again; after TurnWait.
func (x *Exchange) Woken() <-chan struct{} { return x.place.wake }

// Deposed is closed when this node leads no more; after TurnWait.
func (x *Exchange) Deposed() <-chan struct{} { return x.deposed }

// Until is when the exchange has waited long enough; after TurnWait.
func (x *Exchange) Until() time.Time { return x.until }

// Reply is the answer after TurnReply, without the coordinators' addresses.
func (x *Exchange) Reply() (*protocol.ExchangeReply, error) {
	if x.err != nil {
		return nil, x.err
	}
	return x.reply, nil
}

// Abandon ends an exchange that nobody waits for any more.
func (x *Exchange) Abandon() {
	if x.place != nil {
		x.leave()
	}
	x.finish(nil)
}

// askAlong adds the wish for work to the reports, where something fits already: both
// in one entry cost half of one after the other. Where that gets nothing, or is
// refused, the exchange looks on as if it had not asked. A pilot that may not know
// of all its leases is sent those first.
func (x *Exchange) askAlong() {
	if x.request.Want == 0 && x.request.Ahead == nil || x.request.Leaving {
		return
	}
	for _, h := range x.pilot.Leases {
		if !slices.ContainsFunc(x.request.Held, func(l protocol.HeldLease) bool { return l.Lease == h.Lease }) {
			return
		}
	}
	var fits bool
	x.core.record.Read(func(m *state.Machine) {
		fits = x.request.Want > 0 && m.AnyFits(x.pilot.ID, &x.request.Free) || m.AnyAhead(x.pilot.ID, x.request.Ahead)
	})
	if fits {
		x.proposals = append(slices.Clip(x.proposals), x.acquisition())
	}
}

func (x *Exchange) acquisition() *state.Acquire {
	return &state.Acquire{Pilot: x.pilot.ID, Free: x.request.Free, Want: x.request.Want, Sequence: x.request.Sequence, Ahead: x.request.Ahead}
}

// take puts what was granted into the reply.
func (x *Exchange) take(grants []state.Grant) {
	for i := range grants {
		x.owed = nil
		x.reply.Leases = append(x.reply.Leases, x.core.lease(&grants[i], x.pilot))
	}
}

func (x *Exchange) finish(err error) {
	x.stage, x.err = stageDone, err
	x.passOn()
}

// leave gives up its place and tells whether somebody has woken it.
func (x *Exchange) leave() (woken bool) {
	owed, woken := x.core.parked.leave(x.place)
	if owed != nil {
		x.owed = owed
	}
	return woken
}

// passOn wakes another in the place of one that a release had woken and that got
// nothing of it: its client has gone, its site is suspended, it was told to drain. The
// release has counted on it, and nobody else would hear of the task.
func (x *Exchange) passOn() {
	b := x.owed
	if x.owed = nil; b == nil {
		return
	}
	x.core.record.Read(func(m *state.Machine) {
		if m.AnyQueued(b.Dataset, b.Task) {
			x.core.parked.wakeOne(b, func(s *space) bool { return m.AnyFits(s.pilot, &s.free) })
		}
	})
}

// reported goes on behind the reports.
func (x *Exchange) reported() {
	x.reply.Answers = x.reports.Answers()
	x.stage = stageRenewing
	if x.request.Leaving {
		reason := x.request.Reason
		if len(reason) > protocol.MaxName {
			reason = reason[:protocol.MaxName]
		}
		x.stage = stageLeaving
		x.proposals = []state.Command{&state.LeavePilot{Pilot: x.pilot.ID, Verdict: protocol.VerdictPreempted, Reason: reason}}
	}
}

// renew renews what the pilot lists, orders it to abandon what is not current, and
// sends again what it was granted and does not list. Lapsed leases are proposed to
// live again.
func (x *Exchange) renew(now time.Time) {
	x.proposals, x.revive = nil, x.revive[:0]
	listed := make(map[protocol.LeaseID]bool, len(x.request.Held))
	var again []state.Grant
	var draining bool
	var orders []protocol.Order
	x.core.record.Read(func(m *state.Machine) {
		for i := range x.reply.Leases { // granted just now
			listed[x.reply.Leases[i].ID] = true
		}
		for _, h := range x.request.Held {
			listed[h.Lease] = true
			l, ok := m.Lease(h.Task)
			switch {
			case settled(x.reply, h.Lease):
				// Its report was answered just now: that says all.
			case !ok || l.ID != h.Lease || l.Pilot != x.pilot.ID:
				x.order(protocol.OrderAbandon, h.Lease, "the lease is no longer current")
			case l.State == state.Lapsed:
				x.revive = append(x.revive, h)
				x.proposals = append(x.proposals, &state.Revive{Lease: h.Lease, Task: h.Task})
			default:
				x.core.watch.renew(now, h.Lease, h.Phase)
			}
		}
		pilot, ok := m.Pilot(x.pilot.ID)
		if !ok {
			return
		}
		draining = pilot.Draining
		orders = siteOrders(m, x.pilot.Site, x.request.Obeyed)
		for _, h := range pilot.Leases {
			if !listed[h.Lease] {
				if g, ok := m.GrantOf(h.Task); ok && g.Lease.ID == h.Lease && !x.reports.concerns(h.Lease) {
					again = append(again, g)
				}
			}
		}
	})
	x.take(again)
	if draining {
		x.order(protocol.OrderDrain, protocol.LeaseID{}, "an operator drains this pilot")
	}
	x.reply.Orders = append(x.reply.Orders, orders...)
}

func (x *Exchange) order(kind protocol.OrderKind, lease protocol.LeaseID, reason string) {
	x.reply.Orders = append(x.reply.Orders, protocol.Order{Kind: kind, Lease: lease, Reason: reason})
}

// revived settles what was proposed to live again.
func (x *Exchange) revived(now time.Time, fates []Fate) {
	for i, h := range x.revive {
		switch protocol.CodeOf(fates[i].refusal()) {
		case protocol.CodeOK:
			x.core.watch.renew(now, h.Lease, h.Phase)
		case protocol.CodeStale, protocol.CodeNotFound, protocol.CodeConflict:
			x.order(protocol.OrderAbandon, h.Lease, "the lease lapsed and its task was claimed by another pilot")
		}
	}
}

// renewed goes on behind the renewals.
func (x *Exchange) renewed(now time.Time) {
	switch {
	case x.again && len(x.reply.Leases)+len(x.reply.Orders) > 0:
		// It was woken for a lease of its own.
		x.leave()
		x.finish(nil)
	case x.again:
		x.stage = stageLooking
	case x.request.Want == 0 || len(x.reply.Leases) > 0:
		x.finish(nil)
	default:
		if x.request.Wait > 0 {
			x.until = now.Add(x.request.Wait.Duration())
		}
		x.urgent = len(x.reply.Orders) > 0 || len(x.reply.Answers) > 0
		x.park()
	}
}

// park takes a place before it looks: what is released in between wakes it.
func (x *Exchange) park() {
	x.stage = stageLooking
	x.place = x.core.parked.park(x.pilot.ID, x.pilot.Site, x.request.Free, x.request.Sequence)
	var term uint64
	if term, x.deposed = x.core.record.Leading(); term == 0 {
		x.leave()
		x.finish(protocol.Errorf(protocol.CodeUnknown, "leadership moved; repeat the exchange"))
		return
	}
	if x.core.parked.isSuperseded(x.place) {
		x.finish(nil)
	}
}

// parkAgain is park of one that had a place before. That may concern a lease of its
// own: an order may have to be given, or a lease to be sent that a lost exchange was
// granted.
func (x *Exchange) parkAgain(now time.Time) {
	x.again = true
	if x.park(); x.stage == stageLooking {
		x.core.watch.heard(now, x.pilot.ID, x.transport, x.request.Way)
		x.stage = stageRenewing
	}
}

// acquireTries is how often a look that found something to fit may be followed by
// an acquisition that gets nothing, because others were quicker, before an
// exchange waits for an event.
const acquireTries = 3

// look goes for what fits, or waits.
func (x *Exchange) look(now time.Time) Turn {
	var fits bool
	x.core.record.Read(func(m *state.Machine) {
		if fits = m.AnyFits(x.pilot.ID, &x.request.Free); !fits {
			offered, any, capped := m.Offered(x.pilot.ID, &x.request.Free)
			x.core.parked.limit(x.place, offered, any, capped)
		}
	})
	if fits && x.tries < acquireTries {
		x.tries++
		x.leave()
		x.stage = stageAcquiring
		x.proposals = []state.Command{x.acquisition()}
		return TurnPropose
	}
	if x.until.IsZero() || x.urgent || !now.Before(x.until) {
		x.leave()
		x.finish(nil)
		return 0
	}
	x.stage = stageParked
	x.passOn()
	return TurnWait
}

// acquired takes what was granted.
func (x *Exchange) acquired(fate *Fate) {
	if err := fate.refusal(); err != nil {
		x.finish(err)
		return
	}
	if grants := fate.Answer.Grants; len(grants) > 0 {
		x.take(grants)
		x.finish(nil)
		return
	}
	x.stage = stageAgain // what was released meanwhile woke nobody here
}

// unpark goes on behind a wait.
func (x *Exchange) unpark(now time.Time) {
	woken := x.leave()
	if x.core.parked.isSuperseded(x.place) || !woken && !now.Before(x.until) {
		x.finish(nil)
		return
	}
	x.tries, x.stage = 0, stageAgain
}

// settled tells whether the reply answers a report on the lease for good.
func settled(reply *protocol.ExchangeReply, id protocol.LeaseID) bool {
	for _, a := range reply.Answers {
		if a.Lease == id && !a.Code.Retryable() {
			return true
		}
	}
	return false
}

// lease is a grant as it goes to the pilot.
func (c *Core) lease(g *state.Grant, pilot *state.Pilot) protocol.Lease {
	l := protocol.Lease{
		ID: g.Lease.ID, Task: g.Lease.Task, TaskName: g.Task.Name, Attempt: g.Lease.Attempt,
		Steering: g.Facts.Steering, Modules: g.Facts.Modules, Seed: g.Facts.Seed, JobCount: g.Jobs, Version: g.Facts.LanguageVersion,
		Passkey: c.passkey(&g.Lease, pilot.PublicKey), Granted: g.Granted,
		Term: protocol.SecondsOf(c.timing.Lease), Fence: protocol.SecondsOf(c.timing.Fence),
		TempArea: g.Facts.TempArea, Submitter: g.Facts.Owner, Group: g.Facts.Group, Software: g.Facts.Software,
	}
	if len(g.Facts.Options) > 0 {
		l.Options = make(map[string]string, len(g.Facts.Options))
		for _, o := range g.Facts.Options {
			l.Options[o.Name] = o.Value
		}
	}
	if len(g.Task.Parents) > 0 {
		c.record.Read(func(m *state.Machine) { l.Inputs = m.Inputs(g.Lease.Task) })
	}
	if g.Earlier != nil {
		l.Inputs = append(l.Inputs, *g.Earlier)
	}
	return l
}

// Exchanges per second that a leader asks for at most, and the shortest interval.
// Source: research E3 (500/s).
const (
	exchangeRate = 500
	shortestPace = protocol.Seconds(3)
)

// pace is how often a busy pilot should speak: often while pilots are few, so
// that logs are live, and seldom enough for the leader when they are many.
func (c *Core) pace() protocol.Seconds {
	return max(shortestPace, min(protocol.Seconds(c.watch.count()/exchangeRate), protocol.SecondsOf(c.timing.Exchange)))
}

func checkExchange(r *protocol.ExchangeRequest) error {
	switch {
	case len(r.Held) > protocol.MaxHeld:
		return protocol.Errorf(protocol.CodeTooLarge, "%d leases listed, limit %d", len(r.Held), protocol.MaxHeld)
	case len(r.Reports) > protocol.MaxReports:
		return protocol.Errorf(protocol.CodeTooLarge, "%d reports, limit %d", len(r.Reports), protocol.MaxReports)
	case len(r.Progress) > protocol.MaxHeld:
		return protocol.Errorf(protocol.CodeTooLarge, "progress of %d leases, limit %d", len(r.Progress), protocol.MaxHeld)
	case r.Ahead != nil && r.Ahead.Count > protocol.MaxHeld:
		return protocol.Errorf(protocol.CodeTooLarge, "%d tasks wanted ahead, limit %d", r.Ahead.Count, protocol.MaxHeld)
	case len(r.Cached) > protocol.MaxCached:
		return protocol.Errorf(protocol.CodeTooLarge, "%d cached digests, limit %d", len(r.Cached), protocol.MaxCached)
	case r.Wait < 0 || r.Wait > protocol.MaxWait:
		return protocol.Errorf(protocol.CodeBadRequest, "wait of %d s, limit %d", r.Wait, protocol.MaxWait)
	}
	if r.Cache != nil {
		if err := r.Cache.Check(); err != nil {
			return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
		}
	}
	for i := range r.Reports {
		if n := len(r.Reports[i].Log); n > int(protocol.MaxReportLog) {
			return protocol.Errorf(protocol.CodeTooLarge, "a report with a log of %d bytes, limit %d", n, protocol.MaxReportLog)
		}
	}
	if r.Way != nil {
		if err := r.Way.Check(); err != nil {
			return protocol.Errorf(protocol.CodeBadRequest, "%v", err)
		}
	}
	for _, t := range r.Logs {
		if len(t.Data) > protocol.MaxLogTail || t.Offset < 0 {
			return protocol.Errorf(protocol.CodeTooLarge, "log tail of %d bytes, limit %d", len(t.Data), protocol.MaxLogTail)
		}
	}
	return nil
}

// pilotOf finds the caller in the record.
func (c *Core) pilotOf(caller *transport.Caller) (pilot *state.Pilot, err error) {
	var known bool
	c.record.Read(func(m *state.Machine) { pilot, known = m.Pilot(caller.Pilot) })
	switch {
	case !known || pilot.Site != caller.Site:
		return nil, protocol.Errorf(protocol.CodeUnauthorized, "pilot %s is not enrolled here; enrol again", caller.Pilot)
	case pilot.Revoked:
		return nil, protocol.Errorf(protocol.CodeForbidden, "pilot %s was revoked", caller.Pilot)
	case pilot.Left != 0:
		return nil, protocol.Errorf(protocol.CodeUnauthorized, "pilot %s has left, or was silent for too long; enrol again", caller.Pilot)
	}
	return pilot, nil
}
