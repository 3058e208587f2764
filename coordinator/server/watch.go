package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// watch is the leader's memory of the living: when each lease and each pilot was
// last heard of. Followers keep it, too, so that a new leader knows which leases
// there are; what they know of times is worth nothing and is reset on election.
type watch struct {
	timing Timing

	mu     sync.Mutex
	leases map[protocol.LeaseID]*watchedLease // guarded by mu
	pilots map[protocol.PilotID]*watchedPilot // guarded by mu
	cached protocol.CacheFigures              // of all pilots since this process began; guarded by mu
}

type watchedLease struct {
	task  protocol.TaskID
	pilot protocol.PilotID
	phase protocol.Phase
	// deadline is when it lapses unless heard of.
	deadline time.Time
	lapsed   bool
	// said is what its payload says of itself; nil where that is nothing.
	said *protocol.Progress
	// expiring says that its expiry was proposed by this leader.
	expiring bool
}

type watchedPilot struct {
	seen      time.Time
	transport string
	why       string // no better way was taken, by the pilot's word
	leaving   bool
	// cache is what it has said of its cache. What it had done before this coordinator
	// led is known with its first word only, and not counted again.
	cache    *protocol.CacheFigures
	followed bool
	// obeyed is the newest order of its site that it has taken.
	obeyed uint64
}

func newWatch(t Timing) *watch {
	return &watch{timing: t, leases: map[protocol.LeaseID]*watchedLease{}, pilots: map[protocol.PilotID]*watchedPilot{}}
}

// observe follows the record.
func (w *watch) observe(now time.Time, events []state.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range events {
		w.observeLocked(now, &events[i])
	}
}

func (w *watch) observeLocked(now time.Time, e *state.Event) {
	switch b := e.Body.(type) {
	case *state.LeaseGranted:
		w.leases[b.Lease] = &watchedLease{
			task: b.Task, pilot: b.Pilot, phase: protocol.PhaseOffered, deadline: now.Add(w.timing.Offer),
		}
	case *state.LeaseLapsed:
		if l := w.leases[b.Lease]; l != nil {
			l.lapsed, l.expiring = true, false
		}
	case *state.LeaseRevived:
		if l := w.leases[b.Lease]; l != nil {
			l.lapsed, l.expiring, l.deadline = false, false, now.Add(w.timing.Lease)
		}
	case *state.AttemptEnded:
		if b.Accepted && b.Next == protocol.TaskCopied {
			if l := w.leases[b.Lease]; l != nil {
				l.phase, l.lapsed, l.expiring, l.deadline = protocol.PhaseCleaning, false, false, now.Add(w.timing.Lease)
				break
			}
		}
		delete(w.leases, b.Lease)
	case *state.AttemptCleaned:
		delete(w.leases, b.Lease)
	case *state.PilotEnrolled:
		w.pilots[b.Pilot] = &watchedPilot{seen: now, followed: true}
	case *state.PilotLeft:
		delete(w.pilots, b.Pilot)
	}
}

// reset starts the watch of a new leader from the record: everything was heard of
// just now (I-9).
func (w *watch) reset(now time.Time, leases []state.Lease, pilots []*state.Pilot) (watchedLeases, watchedPilots int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.leases)
	clear(w.pilots)
	for _, l := range leases {
		phase := protocol.PhaseOffered
		if l.State == state.Copied {
			phase = protocol.PhaseCleaning
		}
		w.leases[l.ID] = &watchedLease{
			task: l.Task, pilot: l.Pilot, phase: phase, deadline: now.Add(w.timing.Lease), lapsed: l.State == state.Lapsed,
		}
	}
	for _, p := range pilots {
		if p.Left == 0 {
			w.pilots[p.ID] = &watchedPilot{seen: now}
		}
	}
	return len(w.leases), len(w.pilots)
}

// grace gives every lease and pilot a full term: this process was stalled, and
// what it did not hear may have been said.
func (w *watch) grace(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.leases {
		l.deadline = now.Add(w.timing.Lease)
	}
	for _, p := range w.pilots {
		p.seen = now
	}
}

// heard notes a sign of life of a pilot. One that is not watched has just left, or
// the watch of a new leader has not begun, which will count from then.
func (w *watch) heard(now time.Time, pilot protocol.PilotID, transport string, way *protocol.Way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil {
		p.seen, p.transport, p.why = now, transport, ""
		if way != nil {
			p.transport, p.why = way.Rung, way.Why
		}
	}
}

// obeyed notes which orders of its site a pilot has taken.
func (w *watch) obeyed(pilot protocol.PilotID, number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil {
		p.obeyed = max(p.obeyed, number)
	}
}

// obedience is the newest order that a pilot has taken, as far as is known.
func (w *watch) obedience(pilot protocol.PilotID) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil {
		return p.obeyed
	}
	return 0
}

// tell takes what a pilot says of its cache.
func (w *watch) tell(pilot protocol.PilotID, said *protocol.CacheFigures) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pilots[pilot]
	if p == nil || said == nil {
		return
	}
	if p.cache == nil {
		p.cache = new(protocol.CacheFigures)
	}
	if p.followed {
		more := said.Since(p.cache)
		w.cached.Add(&more)
	}
	*p.cache, p.followed = *said, true
}

// caches are the figures of one pilot's cache, nil where none are known, and the sum
// of what all have done since this coordinator knows of them.
func (w *watch) caches(pilot protocol.PilotID) (of *protocol.CacheFigures, all protocol.CacheFigures) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil && p.cache != nil {
		copied := *p.cache
		of = &copied
	}
	return of, w.cached
}

// renew notes that a pilot holds a lease in a phase.
func (w *watch) renew(now time.Time, id protocol.LeaseID, phase protocol.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[id]; l != nil && !l.lapsed {
		l.deadline = now.Add(w.timing.Lease)
		l.expiring = false
		if phase != 0 {
			l.phase = phase
		}
	}
}

// told notes what the payload of a lease says of itself, if the pilot holds it.
func (w *watch) told(pilot protocol.PilotID, p *protocol.Progress) {
	if p.Check() != nil {
		return // it is for people only: no reason to refuse what else the pilot says
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[p.Lease]; l != nil && l.pilot == pilot {
		l.said = p
	}
}

// progress is what the payload of a lease says of itself; nil where that is nothing.
func (w *watch) progress(id protocol.LeaseID) *protocol.Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[id]; l != nil {
		return l.said
	}
	return nil
}

// phase tells how far a lease has come; 0 when it is not watched.
func (w *watch) phase(id protocol.LeaseID) protocol.Phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[id]; l != nil {
		return l.phase
	}
	return 0
}

// presence tells when a pilot was last heard of and over what.
func (w *watch) presence(pilot protocol.PilotID) (seen time.Time, transport, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil {
		return p.seen, p.transport, p.why
	}
	return time.Time{}, "", ""
}

// count is how many pilots are watched.
func (w *watch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pilots)
}

// overdue lists what has been silent for too long: leases to expire, each marked
// as expiring first, and pilots to give up. A pilot with a lapsed lease goes on
// working, and may come back to it, until its fence. Both come in order, behind
// what the list holds already.
func (w *watch) overdue(now time.Time, term uint64, list []state.Command) []state.Command {
	w.mu.Lock()
	defer w.mu.Unlock()
	live, lapsed := map[protocol.PilotID]bool{}, map[protocol.PilotID]bool{}
	var leases []*state.Expire
	var pilots []protocol.PilotID
	for id, l := range w.leases {
		if l.lapsed {
			lapsed[l.pilot] = true
			continue
		}
		live[l.pilot] = true
		if l.expiring || now.Before(l.deadline) {
			continue
		}
		l.expiring = true
		x := &state.Expire{Lease: id, Task: l.task, Term: term}
		if l.said != nil {
			x.Saved = l.said.Checkpoint
		}
		leases = append(leases, x)
	}
	for id, p := range w.pilots {
		patience := w.timing.Pilot
		if lapsed[id] {
			patience = max(patience, w.timing.Fence)
		}
		if !live[id] && !p.leaving && now.Sub(p.seen) > patience {
			p.leaving = true
			pilots = append(pilots, id)
		}
	}
	slices.SortFunc(leases, func(a, b *state.Expire) int { return a.Lease.Compare(b.Lease) })
	slices.Sort(pilots)
	for _, e := range leases {
		list = append(list, e)
	}
	for _, id := range pilots {
		list = append(list, &state.LeavePilot{Pilot: id, Verdict: protocol.VerdictLost, Reason: "silent"})
	}
	return list
}

// refused settles an expiry that was not applied: what the record does not know
// is forgotten, the rest is proposed again.
func (w *watch) refused(id protocol.LeaseID, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[id]; l != nil {
		if l.expiring = false; isGone(err) {
			delete(w.leases, id)
		}
	}
}

// stays is refused for the departure of a pilot.
func (w *watch) stays(id protocol.PilotID, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[id]; p != nil {
		if p.leaving = false; isGone(err) {
			delete(w.pilots, id)
		}
	}
}

// isGone tells a refusal because there is nothing to change from a failure.
func isGone(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.CodeStale || code == protocol.CodeNotFound
}

// lead does the leader's work of one term until ctx ends.
func (s *Server) lead(ctx context.Context, number uint64) {
	term, leases, pilots := s.core.BeginTerm(time.Now(), number)
	s.Logger.Info("leading", "term", number, "leases", leases, "pilots", pilots)
	tick := time.NewTicker(LookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		proposals, stalled := term.Look(time.Now())
		if stalled > 0 {
			s.Logger.Warn("this coordinator was stalled; every lease gets a full term", "took", stalled)
		}
		for some := range slices.Chunk(proposals, lookAtOnce) {
			for i, fate := range s.proposeAll(ctx, some) {
				if err := fate.refusal(); err != nil && ctx.Err() == nil {
					s.notSilenced(some[i], err)
					term.Settle(some[i], err)
				}
			}
		}
	}
}

// lookAtOnce is how much of one look is proposed together, so that it shares
// entries: one after another, the many that fall silent with a site would look like
// a stall of this coordinator.
const lookAtOnce = 256

func (s *Server) notSilenced(c state.Command, err error) {
	switch c := c.(type) {
	case *state.Expire:
		s.Logger.Warn("silent lease not expired", "lease", c.Lease, "task", c.Task, "err", err)
	case *state.LeavePilot:
		s.Logger.Warn("silent pilot not given up", "pilot", c.Pilot, "err", err)
	case *state.Tick:
		s.Logger.Warn("record time not moved on", "err", err)
	}
}
