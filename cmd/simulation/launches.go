package simulation

import (
	"fmt"
	"slices"
	"time"

	"floe/coordinator/server"
	"floe/coordinator/state"
	"floe/protocol"
)

// job is a pilot job in the batch system of a site, and in the ledger of its glidein.
type job struct {
	launch protocol.LaunchID
	ticket protocol.Digest
	pilot  *pilot // that it has become; nil while it waits
	began  time.Duration
}

// shape is the one kind of pilot job of a site: what its first node has. Others have
// less, so that pilots of theirs may find nothing to do.
const shape = "node"

// passLaunches is a glidein pass that starts pilots by launch leases alone.
func (s *site) passLaunches() {
	w := s.w
	s.after(w.between(2*time.Minute, 5*time.Minute), s.passLaunches)
	for _, h := range s.hosts {
		s.deliverFrom(h)
	}
	if s.asking { // the pass before has the lock
		return
	}
	r := &protocol.LaunchRequest{Version: protocol.Version}
	running := 0
	s.jobs = slices.DeleteFunc(s.jobs, func(j *job) bool {
		if j.pilot != nil && !j.pilot.alive {
			s.ended = append(s.ended, protocol.EndedLaunch{Launch: j.launch, Reason: "its pilot ended"})
			return true
		}
		k := protocol.KnownLaunch{Launch: j.launch, Running: j.pilot != nil}
		if k.Running {
			k.For = protocol.SecondsOf(w.now - j.began)
			running++
		}
		r.Known = append(r.Known, k)
		return false
	})
	r.Ended = slices.Clone(s.ended)
	room := len(s.hosts) - len(s.jobs)
	r.Shapes = []protocol.LaunchShape{{
		Name: shape, Offer: s.hosts[0].has, Room: uint32(max(0, room)), Running: uint32(running), Queued: uint32(len(s.jobs) - running),
	}}
	s.asking = true
	w.call(&s.process, w.anyNode(), request{site: s.id, launch: r}, time.Minute, func(answer any, err error) {
		s.asking = false
		reply, _ := answer.(*protocol.LaunchReply)
		if err != nil || w.chaotic && w.chance(8) { // or the pass dies with the answer
			w.note("%s hears nothing of its pass: %v", s.name, err)
			return
		}
		s.ended = s.ended[len(r.Ended):]
		w.note("%s is granted %d, removes %v: %v", s.name, len(reply.Grants), reply.Remove, reply.Reasons)
		if len(reply.Grants) > room {
			w.broken("I-15", "%s is granted %d pilot jobs and has room for %d", s.name, len(reply.Grants), room)
		}
		for _, l := range reply.Remove {
			s.remove(l)
		}
		for _, g := range reply.Grants {
			s.submit(&job{launch: g.Launch, ticket: secretOf(string(g.Launch)).Digest()})
		}
	})
}

// submit hands a job in; the batch system starts it after a while, or has trouble.
func (s *site) submit(j *job) {
	w := s.w
	if w.chaotic && w.chance(12) {
		s.ended = append(s.ended, protocol.EndedLaunch{Launch: j.launch, How: protocol.LaunchRefused, Reason: "no such queue"})
		return
	}
	s.jobs = append(s.jobs, j)
	s.after(w.between(time.Second, 10*time.Minute), func() { s.startJob(j) })
}

func (s *site) startJob(j *job) {
	w := s.w
	var free []*host
	for _, h := range s.hosts {
		if h.pilot == nil {
			free = append(free, h)
		}
	}
	switch {
	case !slices.Contains(s.jobs, j): // it was removed
	case w.chaotic && w.chance(5):
		w.note("pilot job %s of %s dies", j.launch, s.name)
		s.drop(j)
		s.ended = append(s.ended, protocol.EndedLaunch{Launch: j.launch, Reason: "no route to host"})
	case len(free) == 0:
		s.after(time.Minute, func() { s.startJob(j) })
	default:
		j.began = w.now
		j.pilot = w.launch(s, free[w.rng.IntN(len(free))], j)
	}
}

func (s *site) drop(j *job) {
	s.jobs = slices.DeleteFunc(s.jobs, func(o *job) bool { return o == j })
}

// remove ends a job: its pilot, too, if it runs.
func (s *site) remove(l protocol.LaunchID) {
	for _, j := range slices.Clone(s.jobs) {
		if j.launch != l {
			continue
		}
		if s.drop(j); j.pilot != nil && j.pilot.alive {
			j.pilot.crash()
		}
	}
}

// serveLaunch answers a pass, in the steps of the server.
func (n *node) serveLaunch(r *request, reply func(any, error)) {
	p := &server.Launching{Site: r.site, Request: r.launch}
	answer := new(protocol.LaunchReply)
	step := func(commands []state.Command, next func()) {
		if len(commands) == 0 {
			n.after(0, next)
			return
		}
		n.proposeAll(commands, func(fates []server.Fate) {
			for _, f := range fates {
				if err := f.Err; err != nil {
					reply(nil, err)
					return
				}
				if f.Answer.Code != protocol.CodeOK {
					answer.Grants = nil
				}
			}
			next()
		})
	}
	step(p.Ends(n.machine), func() {
		step(p.Surplus(n.machine), func() {
			p.Remove(n.machine, answer)
			var grants *state.GrantLaunches
			grants, answer.Grants = p.Grants(n.machine, timing.Launch, n.w.newTicket)
			if grants == nil {
				reply(answer, nil)
				return
			}
			step([]state.Command{grants}, func() { reply(answer, nil) })
		})
	})
}

func (w *World) newTicket() protocol.Token {
	w.tickets++
	id := fmt.Sprintf("t%d", w.tickets)
	return protocol.Token{Role: protocol.TokenPilot, ID: id, Secret: secretOf(id)}
}

// secretOf is a ticket's secret: that nobody can guess it is not tested here.
func secretOf(id string) protocol.Secret { return protocol.Secret("the secret of " + id) }

// judgeLaunches checks what a grant leaves behind it: no shape has more that have yet
// to prove themselves than it may.
func (w *World) judgeLaunches(m *state.Machine, events []state.Event) {
	granted := map[protocol.SiteID]bool{}
	for i := range events {
		switch e := events[i].Body.(type) {
		case *state.LaunchGranted:
			granted[e.Site] = true
		case *state.LaunchEnded: // in the same entry: the allowance may be less behind it
			return
		}
	}
	for _, id := range sortedKeys(granted) {
		s, _ := m.Site(id)
		if x := s.Shape(shape); m.Format() > 1 && x.Unproven > x.Allowance {
			w.broken("I-15", "%s has %d unproven pilot jobs, may have %d", id, x.Unproven, x.Allowance)
		}
	}
}

// launchesLeft tells which launch leases nobody knows any more, nil where none: each
// is of a job that the site has, or has told or is about to tell the end of.
func (w *World) launchesLeft(m *state.Machine) error {
	for l := range m.Launches() {
		i := slices.IndexFunc(w.sites, func(s *site) bool { return s.id == l.Site })
		s := w.sites[i]
		has := slices.ContainsFunc(s.jobs, func(j *job) bool { return j.launch == l.ID }) ||
			slices.ContainsFunc(s.ended, func(e protocol.EndedLaunch) bool { return e.Launch == l.ID })
		if p, known := m.Pilot(l.Pilot); !has && !(known && p.Left == 0) {
			return fmt.Errorf("I-15: launch lease %s of %s has no pilot job, %v after everything healed", l.ID, l.Site, w.now)
		}
	}
	return nil
}
