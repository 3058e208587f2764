package server

import (
	"context"
	"net/http"
	"slices"
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
	reply, err := s.Exchange(r.Context(), &caller, &request)
	if err != nil {
		return err
	}
	return transport.WriteCBOR(w, reply)
}

// Exchange is the verb without its network.
func (s *Server) Exchange(ctx context.Context, caller *transport.Caller, request *protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	term, _ := s.Record.Leading()
	x, err := s.core.Begin(time.Now(), caller, request)
	if err != nil {
		return nil, s.certain(ctx, term, err)
	}
	for _, t := range request.Logs {
		s.appendTail(x, t)
	}
	s.storeLogs(ctx, x.reports.logs)
	var wait *time.Timer
	for {
		switch x.Next(time.Now()) {
		case TurnReply:
			reply, err := x.Reply()
			if err != nil {
				return nil, s.certain(ctx, term, err)
			}
			if IsFinal(reply) && !s.leads(ctx, term) {
				return nil, errDeposed
			}
			reply.Addresses, reply.Leader = s.addresses()
			return reply, nil
		case TurnPropose:
			x.Settle(time.Now(), s.proposeAll(ctx, x.Proposals()))
		case TurnWait:
			if wait == nil {
				wait = time.NewTimer(time.Until(x.Until()))
				defer wait.Stop()
			}
			select {
			case <-x.Woken():
			case <-x.Deposed():
			case <-wait.C:
			case <-ctx.Done():
				x.Abandon()
				return nil, ctx.Err()
			}
		}
	}
}

// proposeAll has the record apply commands, all at once so that they share
// entries. The fates are in the order of the commands. What the core has made of a
// report is valid; the rest is checked here.
func (s *Server) proposeAll(ctx context.Context, commands []state.Command) []Fate {
	fates := make([]Fate, len(commands))
	valid, of := make([]state.Command, 0, len(commands)), make([]int, 0, len(commands))
	for i, c := range commands {
		if _, is := c.(*state.Report); !is {
			if err := c.Validate(); err != nil {
				fates[i].Err = protocol.Errorf(protocol.CodeBadRequest, "%v", err)
				continue
			}
		}
		valid, of = append(valid, c), append(of, i)
	}
	for i, fate := range s.Record.ProposeAll(ctx, valid) {
		fates[of[i]] = fate
		if report, is := valid[i].(*state.Report); is && fate.Err == nil && fate.Answer.Code == protocol.CodeOK {
			s.keepLog(report)
		}
	}
	return fates
}

// keepLog ends the live log of a reported attempt. A failed one's is kept longer.
func (s *Server) keepLog(r *state.Report) {
	s.tails.Seal(r.Lease)
	if !r.Log.Digest.IsZero() && r.Verdict != protocol.VerdictOK {
		_ = s.Blobs.Mark(logClass, logOwner(r.Task), true)
	}
}

// appendTail keeps a piece of a live log, if the pilot holds the lease.
func (s *Server) appendTail(x *Exchange, t protocol.LogTail) {
	for _, h := range x.pilot.Leases {
		if h.Lease == t.Lease {
			if err := s.tails.Append(t.Lease, t.Offset, t.Data); err != nil {
				s.Logger.Debug("log tail not kept", "lease", t.Lease, "err", err)
			}
			return
		}
	}
}

// admitReports takes reports that came with a pass of a site.
func (s *Server) admitReports(ctx context.Context, site protocol.SiteID, reports []protocol.SignedReport) []protocol.ReportAnswer {
	term, _ := s.Record.Leading()
	a := s.core.Admit(Sender{Site: site}, reports)
	s.storeLogs(ctx, a.logs)
	a.Settle(s.proposeAll(ctx, a.Proposals()))
	answers := a.Answers()
	if slices.ContainsFunc(answers, isRefused) && !s.leads(ctx, term) {
		for i := range answers {
			if isRefused(answers[i]) { // by a record that may be old
				answers[i].Code, answers[i].Reason = protocol.CodeUnknown, errDeposed.Message
			}
		}
	}
	return answers
}

// addresses lists the coordinators' API addresses and the leader's.
func (s *Server) addresses() (all []string, leader string) {
	members := s.directory.members(time.Now(), s.Record.Members)
	id := s.Record.Leader()
	all = make([]string, len(members))
	for i, m := range members {
		all[i] = m.Address
		if m.ID == id {
			leader = m.Address
		}
	}
	return all, leader
}

// directory remembers the members for a moment: every exchange names them, and they
// hardly ever change.
type directory struct {
	mu    sync.Mutex
	until time.Time         // guarded by mu
	known []protocol.Member // guarded by mu
}

// directoryAge is how old what a directory says may be.
const directoryAge = time.Second

func (d *directory) members(now time.Time, ask func() []protocol.Member) []protocol.Member {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !now.Before(d.until) {
		d.known, d.until = ask(), now.Add(directoryAge)
	}
	return d.known
}
