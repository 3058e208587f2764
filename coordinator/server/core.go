package server

import (
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// Core is what a leader decides about pilots: what their exchanges are answered,
// who is woken, and what has been silent for too long. Its steps are told the time,
// wait for nothing and start nothing; they return what to propose and what to wait
// for. Server drives them with requests and the clock, cmd/simulation with neither.
//
// Steps of different exchanges may be called concurrently, those of one [Exchange],
// [Admission] or [Term] one after another. Observe is called in the order of the log.
type Core struct {
	record   View
	passkeys Passkeys
	timing   Timing
	watch    *watch
	parked   *parking
}

// View is the replicated record as decisions need it (see [Record]).
type View interface {
	Read(f func(*state.Machine))
	Leading() (term uint64, changed <-chan struct{})
}

// Passkeys derives passkeys (see [Authority]).
type Passkeys interface {
	Passkey(task protocol.TaskID, lease protocol.LeaseID, key protocol.Digest, nonce [16]byte) protocol.Passkey
}

// NewCore returns the core of a coordinator that has observed nothing yet.
func NewCore(record View, passkeys Passkeys, t Timing) *Core {
	t = t.withDefaults()
	return &Core{record: record, passkeys: passkeys, timing: t, watch: newWatch(t), parked: newParking()}
}

// Fate is what became of a proposed command: its answer, or the error by which
// none came.
type Fate struct {
	Answer state.Answer
	Err    error
}

// refusal is why the command had no effect, nil where it had.
func (f *Fate) refusal() error {
	if f.Err != nil {
		return f.Err
	}
	return f.Answer.Err()
}

// Observe takes the events of one applied entry and wakes whom they concern.
func (c *Core) Observe(now time.Time, events []state.Event) {
	c.watch.observe(now, events)
	for i := range events {
		c.parked.observe(&events[i])
	}
}

// Term is a leader's work of one term.
type Term struct {
	core   *Core
	number uint64
	looked time.Time
	// moved is the log's length when it last grew, at the time of that.
	moved uint64
	at    time.Time
}

// BeginTerm starts a term: everything was heard of just now (I-9). The counts are of
// current leases and of pilots that have not left.
func (c *Core) BeginTerm(now time.Time, number uint64) (t *Term, leases, pilots int) {
	t = &Term{core: c, number: number, looked: now, at: now}
	c.record.Read(func(m *state.Machine) {
		// While nothing is applied: a lease granted in between would never be watched.
		leases, pilots = c.watch.reset(now, slices.Collect(m.Leases()), slices.Collect(m.Pilots("")))
		t.moved = m.Index()
	})
	return t, leases, pilots
}

// LookEvery is how often a leader looks for silence.
const LookEvery = time.Second

// tickAfter is how long the log may be quiet before the leader moves record time on.
const tickAfter = time.Minute

// Look is what the leader does every LookEvery, and never before what the last one
// proposed is settled. It returns what to propose, and for how long this process was
// stalled if that was too long: then every lease gets a full term.
func (t *Term) Look(now time.Time) (proposals []state.Command, stalled time.Duration) {
	w := t.core.watch
	if pause := now.Sub(t.looked); pause > w.timing.Stall {
		w.grace(now)
		stalled = pause
	}
	t.looked = now
	var applied uint64
	t.core.record.Read(func(m *state.Machine) { applied = m.Index() })
	if applied != t.moved {
		t.moved, t.at = applied, now
	} else if now.Sub(t.at) >= tickAfter {
		// Record time stands still in a quiet log, and what is due would never end.
		t.at = now
		proposals = append(proposals, &state.Tick{})
	}
	return w.overdue(now, t.number, t.openings(now, proposals)), stalled
}

// Settle takes the error, or the refusal, of what Look proposed.
func (t *Term) Settle(c state.Command, err error) {
	switch c := c.(type) {
	case *state.Expire:
		t.core.watch.refused(c.Lease, err)
	case *state.LeavePilot:
		t.core.watch.stays(c.Pilot, err)
	}
}

// EndTerm sends every parked exchange away: this node leads no more.
func (c *Core) EndTerm() { c.parked.wakeAll() }
