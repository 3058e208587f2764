package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// request is what a client asks a coordinator: the field that is set.
type request struct {
	caller   transport.Caller
	exchange *protocol.ExchangeRequest
	// site and reports are those of a pass.
	site    protocol.SiteID
	reports []protocol.SignedReport
	launch  *protocol.LaunchRequest // that asks for launch leases
	// command gives a command, made when the leader looks at its record.
	command func(m *state.Machine) state.Command
}

// call is a request on its way. It is answered once, or the client gives it up.
type call struct {
	client *process
	node   *node
	over   bool
	gone   []func() // at the node: end what was begun for it
	done   func(any, error)
}

// call sends a request. done hears of the answer, or of an error when there is none
// within a time.
func (w *World) call(client *process, to *node, r request, within time.Duration, done func(any, error)) *call {
	c := &call{client: client, node: to, done: done}
	w.net.send(client, &to.process, func() {
		gone := to.serve(r, client != nil && client.name[0] != 'c', func(answer any, err error) {
			w.net.send(&to.process, client, func() { c.end(answer, err) })
		})
		if gone != nil {
			c.gone = append(c.gone, gone)
		}
	})
	client.after(within, func() {
		if !c.over {
			c.cancel(fmt.Errorf("no answer: %w", context.DeadlineExceeded))
		}
	})
	return c
}

func (c *call) end(answer any, err error) {
	if !c.over {
		c.over = true
		c.done(answer, err)
	}
}

// cancel gives the call up; the node may hear of that.
func (c *call) cancel(err error) {
	if c.over {
		return
	}
	w := c.node.w
	w.net.send(c.client, &c.node.process, func() {
		for _, gone := range c.gone {
			gone()
		}
	})
	c.end(nil, err)
}

// serve answers a request, or has the leader do it. It returns what ends it when the
// client has gone, nil where there is nothing to end.
func (n *node) serve(r request, mayForward bool, reply func(any, error)) (gone func()) {
	if n.term == 0 {
		if to := n.raft.leader; to != nil && to != n && mayForward {
			c := n.w.call(&n.process, to, r, time.Hour, reply)
			return func() { c.cancel(errGone) }
		}
		n.after(0, func() { reply(nil, protocol.Errorf(protocol.CodeUnknown, "no leader is known; repeat the request")) })
		return nil
	}
	defer n.poll()
	switch {
	case r.exchange != nil:
		return n.serveExchange(r, reply)
	case r.launch != nil:
		n.serveLaunch(&r, reply)
	case r.command != nil:
		c := r.command(n.machine)
		n.propose(c, func(f server.Fate) { reply(f.Answer, f.Err) })
	default:
		term := n.term
		a := n.core.Admit(server.Sender{Site: r.site}, r.reports)
		settle := func(fates []server.Fate) {
			a.Settle(fates)
			n.certain(term, func(answer any, err error) {
				if x, is := answer.(*protocol.ExchangeReply); is {
					answer = x.Answers
				}
				reply(answer, err)
			})(&protocol.ExchangeReply{Answers: a.Answers()}, nil)
		}
		if len(a.Proposals()) == 0 {
			n.after(0, func() { settle(nil) })
		} else {
			n.proposeAll(a.Proposals(), settle)
		}
	}
	return nil
}

func (n *node) serveExchange(r request, reply func(any, error)) (gone func()) {
	term := n.term
	reply = n.certain(term, reply)
	x, err := n.core.Begin(n.time(), &r.caller, r.exchange)
	if err != nil {
		n.after(0, func() { reply(nil, err) })
		return nil
	}
	s := &session{n: n, x: x, pilot: r.caller.Pilot, free: r.exchange.Free, sequence: r.exchange.Sequence, owed: n.owed(&r)}
	sent := n.w.now
	s.reply = func(answer any, err error) {
		if x, is := answer.(*protocol.ExchangeReply); is && err == nil {
			n.w.noteRenewed(n, term, sent, r.exchange, x)
			s.checkOwed(x)
			if len(x.Leases) > 0 && n.w.chaotic && n.w.chance(12) {
				n.w.note("the answer to exchange %d of %s is lost", s.sequence, s.pilot)
				answer, err = nil, protocol.Errorf(protocol.CodeInternal, "connection reset")
			}
		}
		reply(answer, err)
	}
	n.sessions = append(n.sessions, s)
	s.step()
	return s.gone
}

// owed are the leases that a pilot was granted, and shows no sign of knowing.
func (n *node) owed(r *request) (owed []protocol.HeldLease) {
	p, _ := n.machine.Pilot(r.caller.Pilot)
	for _, h := range p.Leases {
		l, current := n.machine.Lease(h.Task)
		if !current || l.State != state.Live || r.exchange.Leaving || mentions(r.exchange, h.Lease) {
			continue
		}
		owed = append(owed, protocol.HeldLease{Lease: h.Lease, Task: h.Task})
	}
	return owed
}

// mentions tells whether a pilot lists a lease, or reports on it.
func mentions(r *protocol.ExchangeRequest, id protocol.LeaseID) bool {
	return slices.ContainsFunc(r.Held, func(h protocol.HeldLease) bool { return h.Lease == id }) ||
		slices.ContainsFunc(r.Reports, func(s protocol.SignedReport) bool {
			report, err := s.Decode()
			return err == nil && report.Lease == id
		})
}

// checkOwed checks that a pilot that is answered hears of what it was granted (I-4):
// the answer to the exchange that was granted it may have been lost.
func (s *session) checkOwed(x *protocol.ExchangeReply) {
	for _, h := range s.owed {
		l, current := s.n.machine.Lease(h.Task)
		heard := slices.ContainsFunc(x.Leases, func(l protocol.Lease) bool { return l.ID == h.Lease })
		if current && l.ID == h.Lease && l.State == state.Live && !heard {
			s.n.w.broken("I-4", "%s is not sent lease %v again, which it holds and does not list", s.pilot, h.Lease)
		}
	}
}

// certain lets an answer pass that makes a pilot give something up only if this node
// has led a term all the time, as the server does.
func (n *node) certain(term uint64, reply func(any, error)) func(any, error) {
	return func(answer any, err error) {
		x, _ := answer.(*protocol.ExchangeReply)
		var refused *protocol.Error
		final := err == nil && x != nil && server.IsFinal(x)
		if !final && (err == nil || !errors.As(err, &refused) || refused.Code.Retryable()) {
			reply(answer, err)
			return
		}
		n.raft.confirm(func(leads bool) {
			if leads && n.term == term {
				reply(answer, err)
			} else {
				reply(nil, protocol.Errorf(protocol.CodeUnknown, "leadership moved; repeat the request"))
			}
		})
	}
}

// noteRenewed notes which leases an exchange that arrived at a time has renewed, if the
// node led all the while: what a leader says that was deposed is worth nothing.
func (w *World) noteRenewed(n *node, term uint64, arrived time.Duration, r *protocol.ExchangeRequest, reply *protocol.ExchangeReply) {
	if n.term != term || n.term != w.newestTerm() {
		return
	}
	for _, h := range r.Held {
		lost := slices.ContainsFunc(reply.Orders, func(o protocol.Order) bool { return o.Lease == h.Lease })
		if l, current := n.machine.Lease(h.Task); current && !lost && l.ID == h.Lease && l.State == state.Live {
			w.books.renewed[h.Lease] = max(w.books.renewed[h.Lease], arrived)
		}
	}
}

// newestTerm is the term of the newest leader.
func (w *World) newestTerm() (newest uint64) {
	for _, n := range w.nodes {
		if n.alive {
			newest = max(newest, n.term)
		}
	}
	return newest
}
