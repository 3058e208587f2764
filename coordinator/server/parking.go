package server

import (
	"sync"

	"floe/coordinator/state"
	"floe/protocol"
)

// parking holds the exchanges that wait for work. An event that releases tasks
// wakes at most as many pilots as tasks were released, and only those they fit;
// an event that concerns a pilot's own lease wakes that pilot.
type parking struct {
	mu     sync.Mutex
	spaces map[protocol.PilotID]*space // guarded by mu
	order  []*space                    // guarded by mu; longest waiting first, may hold left ones
	capped int                         // guarded by mu; of spaces
}

// space is one parked exchange.
type space struct {
	pilot protocol.PilotID
	site  protocol.SiteID
	free  protocol.Resources
	// sequence is the exchange's: of two of one pilot, the later one stays.
	sequence uint64
	wake     chan struct{} // closed when woken
	done     bool          // guarded by parking.mu, as what follows
	// barred says that its node is given nothing: what is released is for others.
	barred bool
	// capped says that its site gives only so much at once: more when leases end there.
	capped bool
	// superseded says that the pilot has spoken again: nobody waits for this one.
	superseded bool
	released   *state.TasksReleased // for which it was woken, nil for anything else
}

func newParking() *parking { return &parking{spaces: map[protocol.PilotID]*space{}} }

// park registers an exchange. A former one of the same pilot is superseded: its
// connection is gone, or the pilot repeats itself. It may not park again, or the
// two would wake each other for ever.
func (p *parking) park(pilot protocol.PilotID, site protocol.SiteID, free protocol.Resources, sequence uint64) *space {
	s := &space{pilot: pilot, site: site, free: free, sequence: sequence, wake: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.spaces[pilot]; other != nil {
		if other.sequence > sequence {
			s.superseded = true
			p.wakeLocked(s)
			return s
		}
		other.superseded = true
		p.wakeLocked(other)
	}
	p.spaces[pilot] = s
	p.order = append(p.order, s)
	return s
}

// limit cuts what a parked exchange may be woken for: its node, or its GPUs, may be
// quarantined, its site closed. A change of node or site wakes it.
func (p *parking) limit(s *space, free protocol.Resources, any, capped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.free, s.barred = free, !any
	if capped && !s.capped && !s.done {
		s.capped = true
		p.capped++
	}
}

// count is how many exchanges wait.
func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spaces)
}

// isSuperseded tells whether the pilot has parked a later exchange.
func (p *parking) isSuperseded(s *space) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.superseded
}

// leave ends the wait and tells whether somebody else had ended it before, and for
// which release if it was one.
func (p *parking) leave(s *space) (released *state.TasksReleased, woken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	released, woken = s.released, s.done
	p.wakeLocked(s)
	// The order is swept when more than half of it has left.
	if len(p.order) > 2*len(p.spaces)+16 {
		kept := p.order[:0]
		for _, o := range p.order {
			if !o.done {
				kept = append(kept, o)
			}
		}
		clear(p.order[len(kept):])
		p.order = kept
	}
	return released, woken
}

func (p *parking) wakeLocked(s *space) {
	if s.done {
		return
	}
	s.done = true
	close(s.wake)
	if s.capped {
		p.capped--
	}
	if p.spaces[s.pilot] == s {
		delete(p.spaces, s.pilot)
	}
}

// wakeAll ends every wait: this node no longer leads.
func (p *parking) wakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.order {
		p.wakeLocked(s)
	}
	p.order = nil
}

// observe wakes whom an event concerns.
func (p *parking) observe(e *state.Event) {
	switch b := e.Body.(type) {
	case *state.TasksReleased:
		p.release(b)
	case *state.AttemptEnded:
		p.wakePilot(b.Pilot) // it may have to abandon a lease
		p.wakeCapped(b.Site)
	case *state.AttemptCleaned:
		p.wakeCapped("")
	case *state.LeaseGranted:
		// The exchange that was granted it is not parked. If another one of the pilot
		// is, nobody may hear of the grant but by that one.
		p.wakePilot(b.Pilot)
	case *state.PilotChanged:
		p.wakePilot(b.Pilot)
	case *state.PilotLeft:
		p.wakePilot(b.Pilot)
	case *state.SiteChanged:
		p.wakeSite(b.Site)
	case *state.NodeChanged:
		p.wakeSite(b.Site)
	}
}

func (p *parking) release(b *state.TasksReleased) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := b.Count
	for _, s := range p.order {
		if left == 0 {
			return
		}
		if !s.done && fits(b, s) {
			s.released = b
			p.wakeLocked(s)
			left--
		}
	}
}

// wakeOne wakes the longest waiting that a release suits, in somebody else's place.
func (p *parking) wakeOne(b *state.TasksReleased, suits func(*space) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.order {
		if !s.done && fits(b, s) && suits(s) {
			s.released = b
			p.wakeLocked(s)
			return
		}
	}
}

func fits(b *state.TasksReleased, s *space) bool {
	lack, _ := state.Fits(&b.Requirements, &b.Sites, s.site, &s.free)
	return lack == state.LackNothing && !s.barred
}

func (p *parking) wakePilot(pilot protocol.PilotID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.spaces[pilot]; s != nil {
		p.wakeLocked(s)
	}
}

// wakeCapped wakes those whom the caps of a site, or of any, may have kept waiting.
func (p *parking) wakeCapped(site protocol.SiteID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.capped == 0 {
		return
	}
	for _, s := range p.order {
		if s.capped && (site == "" || s.site == site) {
			p.wakeLocked(s)
		}
	}
}

func (p *parking) wakeSite(site protocol.SiteID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.order {
		if s.site == site {
			p.wakeLocked(s)
		}
	}
}
