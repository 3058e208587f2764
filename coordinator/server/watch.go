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
}

type watchedLease struct {
	task  protocol.TaskID
	pilot protocol.PilotID
	phase protocol.Phase
	// deadline is when it lapses unless heard of.
	deadline time.Time
	lapsed   bool
	// expiring says that its expiry was proposed by this leader.
	expiring bool
}

type watchedPilot struct {
	seen      time.Time
	transport string
	leaving   bool
}

func newWatch(t Timing) *watch {
	return &watch{timing: t, leases: map[protocol.LeaseID]*watchedLease{}, pilots: map[protocol.PilotID]*watchedPilot{}}
}

// observe follows the record.
func (w *watch) observe(e *state.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch b := e.Body.(type) {
	case *state.LeaseGranted:
		w.leases[b.Lease] = &watchedLease{
			task: b.Task, pilot: b.Pilot, phase: protocol.PhaseOffered, deadline: time.Now().Add(w.timing.Offer),
		}
	case *state.LeaseLapsed:
		if l := w.leases[b.Lease]; l != nil {
			l.lapsed, l.expiring = true, false
		}
	case *state.LeaseRevived:
		if l := w.leases[b.Lease]; l != nil {
			l.lapsed, l.expiring, l.deadline = false, false, time.Now().Add(w.timing.Lease)
		}
	case *state.AttemptEnded:
		if b.Accepted && b.Next == protocol.TaskCopied {
			if l := w.leases[b.Lease]; l != nil {
				l.phase, l.lapsed, l.expiring, l.deadline = protocol.PhaseCleaning, false, false, time.Now().Add(w.timing.Lease)
				break
			}
		}
		delete(w.leases, b.Lease)
	case *state.AttemptCleaned:
		delete(w.leases, b.Lease)
	case *state.PilotEnrolled:
		w.pilots[b.Pilot] = &watchedPilot{seen: time.Now()}
	case *state.PilotLeft:
		delete(w.pilots, b.Pilot)
	}
}

// reset starts the watch of a new leader from the record: everything was heard of
// just now (I-9).
func (w *watch) reset(leases []state.Lease, pilots []state.Pilot) {
	now := time.Now()
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
}

// grace gives every lease and pilot a full term: this process was stalled, and
// what it did not hear may have been said.
func (w *watch) grace() {
	now := time.Now()
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
func (w *watch) heard(pilot protocol.PilotID, transport string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil {
		p.seen, p.transport = time.Now(), transport
	}
}

// renew notes that a pilot holds a lease in a phase.
func (w *watch) renew(id protocol.LeaseID, phase protocol.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[id]; l != nil && !l.lapsed {
		l.deadline = time.Now().Add(w.timing.Lease)
		l.expiring = false
		if phase != 0 {
			l.phase = phase
		}
	}
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
func (w *watch) presence(pilot protocol.PilotID) (seen time.Time, transport string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pilots[pilot]; p != nil {
		return p.seen, p.transport
	}
	return time.Time{}, ""
}

// count is how many pilots are watched.
func (w *watch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pilots)
}

// overdue lists what has been silent for too long: leases to expire, each marked
// as expiring first, and pilots to give up. A pilot with a lapsed lease goes on
// working, and may come back to it, until its fence.
func (w *watch) overdue() (leases []state.Expire, pilots []protocol.PilotID) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	live, lapsed := map[protocol.PilotID]bool{}, map[protocol.PilotID]bool{}
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
		leases = append(leases, state.Expire{Lease: id, Task: l.task})
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
	return leases, pilots
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

// watchEvery is how often the leader looks for silence.
const watchEvery = time.Second

// tickAfter is how long the log may be quiet before the leader moves record time on.
const tickAfter = time.Minute

// lead does the leader's work of one term until ctx ends.
func (s *Server) lead(ctx context.Context, term uint64) {
	var leases []state.Lease
	var pilots []state.Pilot
	s.Record.Read(func(m *state.Machine) {
		leases = slices.Collect(m.Leases())
		pilots = slices.Collect(m.Pilots(""))
		// While nothing is applied: a lease granted in between would never be watched.
		s.watch.reset(leases, pilots)
	})
	s.Logger.Info("leading", "term", term, "leases", len(leases), "pilots", len(pilots))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := time.Now()
	moved, at := s.Record.Applied(), last
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if pause := time.Since(last); pause > s.Timing.Stall {
			s.Logger.Warn("this coordinator was stalled; every lease gets a full term", "took", pause)
			s.watch.grace()
		}
		last = time.Now()
		if applied := s.Record.Applied(); applied != moved {
			moved, at = applied, last
		} else if last.Sub(at) >= tickAfter {
			// Record time stands still in a quiet log, and what is due would never end.
			at = last
			if _, err := s.propose(ctx, &state.Tick{}); err != nil && ctx.Err() == nil {
				s.Logger.Warn("record time not moved on", "err", err)
			}
		}
		s.giveUp(ctx, term)
	}
}

// giveUpAtOnce is how many silent leases or pilots are proposed together, so that
// they share entries: one after another, the many that fall silent with a site
// would look like a stall of this coordinator.
const giveUpAtOnce = 256

// giveUp expires what is overdue and returns when that is settled.
func (s *Server) giveUp(ctx context.Context, term uint64) {
	leases, pilots := s.watch.overdue()
	var proposed sync.WaitGroup
	for some := range slices.Chunk(leases, giveUpAtOnce) {
		for _, e := range some {
			proposed.Go(func() {
				e.Term = term
				if _, err := s.propose(ctx, &e); err != nil && ctx.Err() == nil {
					s.Logger.Warn("silent lease not expired", "lease", e.Lease, "task", e.Task, "err", err)
					s.watch.refused(e.Lease, err)
				}
			})
		}
		proposed.Wait()
	}
	for some := range slices.Chunk(pilots, giveUpAtOnce) {
		for _, p := range some {
			proposed.Go(func() {
				c := &state.LeavePilot{Pilot: p, Verdict: protocol.VerdictLost, Reason: "silent"}
				if _, err := s.propose(ctx, c); err != nil && ctx.Err() == nil {
					s.Logger.Warn("silent pilot not given up", "pilot", p, "err", err)
					s.watch.stays(p, err)
				}
			})
		}
		proposed.Wait()
	}
}
