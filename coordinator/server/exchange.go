package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// exchange is the pilots' hot verb (protocol.ExchangeRequest). It renews what is
// held, takes reports and log tails, and grants leases, parking the request when
// nothing fits.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) error {
	caller := transport.CallerOf(r.Context())
	var request protocol.ExchangeRequest
	if err := transport.ReadCBOR(r, protocol.MaxExchangeBytes, &request); err != nil {
		return err
	}
	reply, err := s.Exchange(r.Context(), caller, &request)
	if err != nil {
		return err
	}
	return transport.WriteCBOR(w, reply)
}

// Exchange is the verb without its network.
func (s *Server) Exchange(ctx context.Context, caller transport.Caller, request *protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	if err := checkExchange(request); err != nil {
		return nil, err
	}
	pilot, err := s.pilotOf(caller)
	if err != nil {
		return nil, err
	}
	s.watch.heard(pilot.ID, caller.Transport)
	for _, t := range request.Logs {
		s.appendTail(&pilot, t)
	}
	reply := &protocol.ExchangeReply{Next: s.pace()}
	reply.Answers = s.admitReports(ctx, &pilot, request.Reports)
	if request.Leaving {
		return reply, s.leave(ctx, &pilot, request.Reason)
	}
	s.renewHeld(ctx, &pilot, request, reply)
	if request.Want > 0 && len(reply.Leases) == 0 {
		if err := s.acquire(ctx, &pilot, caller, request, reply); err != nil {
			return nil, err
		}
	}
	reply.Addresses, reply.Leader = s.addresses()
	return reply, nil
}

// Exchanges per second that a leader asks for at most, and the shortest interval.
// Source: research E3 (500/s).
const (
	exchangeRate = 500
	shortestPace = protocol.Seconds(3)
)

// pace is how often a busy pilot should speak: often while pilots are few, so
// that logs are live, and seldom enough for the leader when they are many.
func (s *Server) pace() protocol.Seconds {
	return max(shortestPace, min(protocol.Seconds(s.watch.count()/exchangeRate), protocol.SecondsOf(s.Timing.Exchange)))
}

func checkExchange(r *protocol.ExchangeRequest) error {
	switch {
	case len(r.Held) > protocol.MaxHeld:
		return protocol.Errorf(protocol.CodeTooLarge, "%d leases listed, limit %d", len(r.Held), protocol.MaxHeld)
	case len(r.Reports) > protocol.MaxReports:
		return protocol.Errorf(protocol.CodeTooLarge, "%d reports, limit %d", len(r.Reports), protocol.MaxReports)
	case len(r.Cached) > protocol.MaxCached:
		return protocol.Errorf(protocol.CodeTooLarge, "%d cached digests, limit %d", len(r.Cached), protocol.MaxCached)
	case r.Wait < 0 || r.Wait > protocol.MaxWait:
		return protocol.Errorf(protocol.CodeBadRequest, "wait of %d s, limit %d", r.Wait, protocol.MaxWait)
	}
	for _, t := range r.Logs {
		if len(t.Data) > protocol.MaxLogTail || t.Offset < 0 {
			return protocol.Errorf(protocol.CodeTooLarge, "log tail of %d bytes, limit %d", len(t.Data), protocol.MaxLogTail)
		}
	}
	return nil
}

// pilotOf finds the caller in the record.
func (s *Server) pilotOf(caller transport.Caller) (state.Pilot, error) {
	var pilot state.Pilot
	var known bool
	s.Record.Read(func(m *state.Machine) { pilot, known = m.Pilot(caller.Pilot) })
	switch {
	case !known || pilot.Site != caller.Site:
		return pilot, protocol.Errorf(protocol.CodeUnauthorized, "pilot %s is not enrolled here; enrol again", caller.Pilot)
	case pilot.Revoked:
		return pilot, protocol.Errorf(protocol.CodeForbidden, "pilot %s was revoked", caller.Pilot)
	case pilot.Left != 0:
		return pilot, protocol.Errorf(protocol.CodeUnauthorized, "pilot %s has left, or was silent for too long; enrol again", caller.Pilot)
	}
	return pilot, nil
}

// appendTail keeps a piece of a live log, if the pilot holds the lease.
func (s *Server) appendTail(pilot *state.Pilot, t protocol.LogTail) {
	for _, h := range pilot.Leases {
		if h.Lease == t.Lease {
			if err := s.tails.Append(t.Lease, t.Offset, t.Data); err != nil {
				s.Logger.Debug("log tail not kept", "lease", t.Lease, "err", err)
			}
			return
		}
	}
}

// admitReports verifies reports and has the record count them, all at once so
// that they share entries. The answers are in the order of the reports.
func (s *Server) admitReports(ctx context.Context, sender *state.Pilot, reports []protocol.SignedReport) []protocol.ReportAnswer {
	answers := make([]protocol.ReportAnswer, len(reports))
	var wg sync.WaitGroup
	for i := range reports {
		wg.Go(func() { answers[i] = s.admitReport(ctx, sender.Site, &reports[i]) })
	}
	wg.Wait()
	return answers
}

// admitReport takes one report that came through a pilot or pass of a site.
func (s *Server) admitReport(ctx context.Context, site protocol.SiteID, signed *protocol.SignedReport) protocol.ReportAnswer {
	report, err := signed.Decode()
	var answer protocol.ReportAnswer
	if report != nil {
		answer.Lease = report.Lease // also of one that is refused, or it would stay in its spool
	}
	refuse := func(c protocol.Code, reason string) protocol.ReportAnswer {
		answer.Code, answer.Reason = c, reason
		return answer
	}
	if err != nil {
		return refuse(protocol.CodeBadRequest, err.Error())
	}
	var pilot state.Pilot
	var known, current bool
	var lease state.Lease
	s.Record.Read(func(m *state.Machine) {
		pilot, known = m.Pilot(report.Pilot)
		lease, current = m.Lease(report.Task)
	})
	switch {
	case !known || pilot.Site != site:
		return refuse(protocol.CodeStale, "its pilot is not known at this site any more")
	case !signed.Verify(pilot.PublicKey):
		return refuse(protocol.CodeBadRequest, "the signature is not that of the pilot")
	case current && lease.ID == report.Lease && !s.passkey(&lease, &pilot).Matches(report.Passkey):
		return refuse(protocol.CodeStale, "the passkey is not that of the lease")
	}
	a, err := s.Record.Propose(ctx, state.ReportFrom(report))
	if err != nil {
		code := protocol.CodeOf(err)
		if code != protocol.CodeBadRequest && code != protocol.CodeTooLarge {
			code = protocol.CodeUnknown
		}
		return refuse(code, err.Error())
	}
	if a.Code == protocol.CodeOK {
		s.tails.Seal(report.Lease)
		if !report.Log.Digest.IsZero() && report.Verdict != protocol.VerdictOK {
			// A failed attempt's log is kept longer.
			_ = s.Blobs.Mark(logClass, logOwner(report.Task), true)
		}
	}
	return refuse(a.Code, a.Reason)
}

func (s *Server) passkey(l *state.Lease, p *state.Pilot) protocol.Passkey {
	return s.Authority.Passkey(l.Task, l.ID, protocol.DigestOf(p.PublicKey), l.Nonce)
}

// renewHeld renews what the pilot lists, orders it to abandon what is not
// current, and sends again what it was granted and does not list.
func (s *Server) renewHeld(ctx context.Context, pilot *state.Pilot, request *protocol.ExchangeRequest, reply *protocol.ExchangeReply) {
	listed := make(map[protocol.LeaseID]bool, len(request.Held))
	var revive []protocol.HeldLease
	var again []state.Grant
	var draining bool
	s.Record.Read(func(m *state.Machine) {
		for _, h := range request.Held {
			listed[h.Lease] = true
			l, ok := m.Lease(h.Task)
			switch {
			case settled(reply, h.Lease):
				// Its report was answered just now: that says all.
			case !ok || l.ID != h.Lease || l.Pilot != pilot.ID:
				reply.Orders = append(reply.Orders, protocol.Order{Kind: protocol.OrderAbandon, Lease: h.Lease, Reason: "the lease is no longer current"})
			case l.State == state.Lapsed:
				revive = append(revive, h)
			default:
				s.watch.renew(h.Lease, h.Phase)
			}
		}
		now, ok := m.Pilot(pilot.ID)
		if !ok {
			return
		}
		draining = now.Draining
		for _, h := range now.Leases {
			if !listed[h.Lease] {
				if g, ok := m.GrantOf(h.Task); ok && g.Lease.ID == h.Lease && !reported(request, h.Lease) {
					again = append(again, g)
				}
			}
		}
	})
	for _, h := range revive {
		if _, err := s.propose(ctx, &state.Revive{Lease: h.Lease, Task: h.Task}); err == nil {
			s.watch.renew(h.Lease, h.Phase)
		} else if code := protocol.CodeOf(err); code == protocol.CodeStale || code == protocol.CodeNotFound || code == protocol.CodeConflict {
			reply.Orders = append(reply.Orders, protocol.Order{Kind: protocol.OrderAbandon, Lease: h.Lease, Reason: "the lease lapsed and its task was claimed by another pilot"})
		}
	}
	for i := range again {
		reply.Leases = append(reply.Leases, s.lease(&again[i], pilot))
	}
	if draining {
		reply.Orders = append(reply.Orders, protocol.Order{Kind: protocol.OrderDrain, Reason: "an operator drains this pilot"})
	}
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

// reported tells whether the request carries a report on the lease. Decoding it
// twice is cheaper than being wrong: a lease whose report was refused as unknown
// must not be run again by the same pilot.
func reported(request *protocol.ExchangeRequest, id protocol.LeaseID) bool {
	for i := range request.Reports {
		if r, err := request.Reports[i].Decode(); err == nil && r.Lease == id {
			return true
		}
	}
	return false
}

// acquireTries is how often a look that found something to fit may be followed by
// an acquisition that gets nothing, because others were quicker, before an
// exchange waits for an event.
const acquireTries = 3

// acquire grants leases, or parks the exchange until something fits.
func (s *Server) acquire(ctx context.Context, pilot *state.Pilot, caller transport.Caller, request *protocol.ExchangeRequest, reply *protocol.ExchangeReply) error {
	var deadline <-chan time.Time
	if request.Wait > 0 {
		timer := time.NewTimer(request.Wait.Duration())
		defer timer.Stop()
		deadline = timer.C
	}
	urgent := len(reply.Orders) > 0 || len(reply.Answers) > 0
	for tries, again := 0, false; ; again = true {
		// Parked before looking: what is released in between wakes it.
		place := s.parked.park(pilot.ID, pilot.Site, request.Free, request.Sequence)
		term, changed := s.Record.Leading()
		if term == 0 {
			s.parked.leave(place)
			return protocol.Errorf(protocol.CodeUnknown, "leadership moved; repeat the exchange")
		}
		if s.parked.isSuperseded(place) {
			return nil
		}
		if again {
			s.watch.heard(pilot.ID, caller.Transport)
			// It may concern a lease of its own: an order may have to be given, or a
			// lease to be sent that a lost exchange was granted.
			s.renewHeld(ctx, pilot, request, reply)
			if len(reply.Leases) > 0 || len(reply.Orders) > 0 {
				s.parked.leave(place)
				return nil
			}
		}
		var fits bool
		s.Record.Read(func(m *state.Machine) { fits = m.AnyFits(pilot.ID, &request.Free) })
		if fits && tries < acquireTries {
			tries++
			s.parked.leave(place)
			command := &state.Acquire{Pilot: pilot.ID, Free: request.Free, Want: request.Want, Sequence: request.Sequence}
			a, err := s.propose(ctx, command)
			if err != nil {
				return err
			}
			if len(a.Grants) > 0 {
				for i := range a.Grants {
					reply.Leases = append(reply.Leases, s.lease(&a.Grants[i], pilot))
				}
				return nil
			}
			continue // what was released meanwhile woke nobody here
		}
		if deadline == nil || urgent {
			s.parked.leave(place)
			return nil
		}
		select {
		case <-place.wake:
		case <-changed:
		case <-deadline:
			s.parked.leave(place)
			return nil
		case <-ctx.Done():
			s.parked.leave(place)
			return ctx.Err()
		}
		s.parked.leave(place)
		if s.parked.isSuperseded(place) {
			return nil
		}
		tries = 0
	}
}

// lease is a grant as it goes to the pilot.
func (s *Server) lease(g *state.Grant, pilot *state.Pilot) protocol.Lease {
	l := protocol.Lease{
		ID: g.Lease.ID, Task: g.Lease.Task, TaskName: g.Task.Name, Attempt: g.Lease.Attempt,
		Steering: g.Facts.Steering, Seed: g.Facts.Seed, JobCount: g.Jobs, Version: g.Facts.LanguageVersion,
		Passkey: s.passkey(&g.Lease, pilot), Granted: g.Granted,
		Term: protocol.SecondsOf(s.Timing.Lease), Fence: protocol.SecondsOf(s.Timing.Fence),
		TempArea: g.Facts.TempArea, Submitter: g.Facts.Owner, Group: g.Facts.Group,
	}
	if len(g.Facts.Options) > 0 {
		l.Options = make(map[string]string, len(g.Facts.Options))
		for _, o := range g.Facts.Options {
			l.Options[o.Name] = o.Value
		}
	}
	s.Record.Read(func(m *state.Machine) { l.Inputs = m.Inputs(g.Lease.Task) })
	return l
}

// leave ends a pilot that says good-bye.
func (s *Server) leave(ctx context.Context, pilot *state.Pilot, reason string) error {
	if len(reason) > protocol.MaxName {
		reason = reason[:protocol.MaxName]
	}
	_, err := s.propose(ctx, &state.LeavePilot{Pilot: pilot.ID, Verdict: protocol.VerdictPreempted, Reason: reason})
	return err
}

// addresses lists the coordinators' API addresses and the leader's.
func (s *Server) addresses() (all []string, leader string) {
	id := s.Record.Leader()
	for _, m := range s.Record.Members() {
		all = append(all, m.Address)
		if m.ID == id {
			leader = m.Address
		}
	}
	return all, leader
}
