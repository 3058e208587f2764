package pilot

import (
	"context"
	"errors"
	"slices"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// Conversation is a pilot's side of the protocol: what it holds, when it speaks and
// what it says, what it makes of answers, orders and new leases, and when it gives up.
// Its steps are told the time, wait for nothing and start nothing; they return what to
// do. Pilot drives them with a network, processes and the clock, cmd/simulation with
// none of these. It is not for concurrent use.
type Conversation struct {
	idle   time.Duration
	jitter func(limit time.Duration) time.Duration

	packing  *packing
	short    shortTask
	site     rules
	sequence uint64
	attempts []*held // oldest first
	draining bool    // takes nothing more
	held     bool    // takes nothing for now
	told     bool    // to drain, by whoever runs the pilot
	ended    bool    // no exchange will follow: reports stay in the spool

	idleSince time.Time
	contact   time.Duration // boot time of the last exchange that was answered
	spoke     time.Time     // when the last exchange ended
	pace      time.Duration // between exchanges while attempts run
	failures  int           // in a row
	paused    time.Time     // nothing is said before, unless an attempt has something to say
	awake     bool          // one has
	asked     bool          // the last exchange asked for work
	vain      bool          // and got none, and since then nothing more has become free
}

// Instant is the time on a node by two clocks.
type Instant struct {
	Time time.Time
	// Boot is the time since the machine was booted, with the time it was suspended.
	Boot time.Duration
}

// held is one lease that the pilot has.
type held struct {
	lease  *protocol.Lease
	phase  protocol.Phase
	report *protocol.SignedReport // whose fate is not known
	last   bool                   // no other report will follow this one
	waits  bool                   // it was granted beyond what is free, and has not begun
	since  time.Time              // when it came, or has begun
	// ended says that its payload is gone: what it ran on is free. reported says that
	// its first report was made.
	ended, reported bool
	fenced          bool // its payload was stopped by the fence
	// settled says that its last report was answered: the lease is nothing to renew
	// any more. over says that nothing is left to do but to forget it.
	settled, over bool
}

// Act is what a pilot does next.
type Act uint8

const (
	// ActRest waits for at most Step.Within, or until an attempt has something to say.
	ActRest Act = iota + 1
	// ActSpeak makes the exchange Step.Request and calls Heard or Failed. Where the
	// request may park, what an attempt has to say cuts it short.
	ActSpeak
	// ActLeave says good-bye by Step.Request, with what is left in the spool.
	ActLeave
	// ActEnd leaves without a word.
	ActEnd
)

// Step is what a pilot does next.
type Step struct {
	Act     Act
	Within  time.Duration // to rest, or for an exchange to park
	Request *protocol.ExchangeRequest
	// Effects come first.
	Effects []Effect
}

// EffectKind says what a pilot does with an attempt.
type EffectKind uint8

const (
	// EffectBegin starts the attempt of Effect.Grant.
	EffectBegin EffectKind = iota + 1
	// EffectStop ends its payload for Effect.Cause: payload.ErrDrain, ErrAbandoned or ErrFenced.
	EffectStop
	// EffectSettle tells an attempt that waits for it the fate of its report: Effect.Code.
	EffectSettle
)

// Effect is what a pilot does with one attempt because of what it heard, or did not.
type Effect struct {
	Kind   EffectKind
	Lease  protocol.LeaseID
	Task   protocol.TaskID
	Grant  *protocol.Lease
	Cause  error
	Code   protocol.Code
	Reason string
	// Deliver says that the report settled may leave the spool.
	Deliver bool
	// Refusal is why the attempt of Effect.Grant is not to run: the site forbids it.
	Refusal string

	share share
}

// ConversationConfig is what a pilot knows before its first word.
type ConversationConfig struct {
	// Offer is what the node has, End when the batch slot ends, zero where nobody knows.
	Offer protocol.Resources
	End   time.Time
	// Idle is how long to wait without work before leaving.
	Idle time.Duration
	// Jitter draws a time below a limit.
	Jitter func(limit time.Duration) time.Duration
}

// NewConversation begins with a pilot that has just enrolled.
func NewConversation(now Instant, c ConversationConfig) *Conversation {
	return &Conversation{
		idle: c.Idle, jitter: c.Jitter, packing: newPacking(c.Offer, c.End), idleSince: now.Time, contact: now.Boot,
		spoke: now.Time, pace: shortestPace,
	}
}

// Next says what to do now.
func (c *Conversation) Next(now Instant) Step {
	if c.ended {
		return Step{Act: ActEnd}
	}
	s := Step{Effects: c.keepHours(c.fence(now), now)}
	c.sweep()
	s.Effects = c.giveBackWaiting(c.beginWaiting(s.Effects, now), now)
	if len(c.attempts) > 0 {
		c.idleSince = now.Time
	}
	if len(c.attempts) == 0 && (c.draining || now.Time.Sub(c.idleSince) > c.idle || c.slotIsOver(now)) {
		s.Act, s.Request = ActLeave, c.goodbye(now)
		return s
	}
	if s.Within = c.rest(now); s.Within > 0 {
		s.Act = ActRest
		return s
	}
	c.awake = false
	s.Act = ActSpeak
	s.Request, s.Within = c.compose(now)
	return s
}

// fence ends payloads that no coordinator has confirmed for too long (I-10).
func (c *Conversation) fence(now Instant) (effects []Effect) {
	silent := now.Boot - c.contact
	for _, h := range c.attempts {
		if !h.ended && !h.fenced && h.lease.Fence > 0 && silent > h.lease.Fence.Duration() {
			h.fenced = true
			effects = h.stop(effects, payload.ErrFenced, "no coordinator for "+silent.Round(time.Second).String())
		}
	}
	return effects
}

// stop ends the payload. What has not begun is forgotten: there is nothing to report.
func (h *held) stop(effects []Effect, cause error, reason string) []Effect {
	if h.waits {
		h.over = true
		return effects
	}
	return append(effects, Effect{Kind: EffectStop, Lease: h.lease.ID, Task: h.lease.Task, Cause: cause, Reason: reason})
}

// settle gives the fate of the report that is waited for.
func (h *held) settle(code protocol.Code, reason string, deliver bool) Effect {
	h.report = nil
	h.settled = h.last || code != protocol.CodeOK
	return Effect{Kind: EffectSettle, Lease: h.lease.ID, Task: h.lease.Task, Code: code, Reason: reason, Deliver: deliver}
}

// sweep forgets attempts that are over.
func (c *Conversation) sweep() {
	c.attempts = slices.DeleteFunc(c.attempts, func(h *held) bool {
		if h.over {
			c.packing.release(h.lease.ID)
		}
		return h.over
	})
}

// slotIsOver tells whether the batch slot ends too soon to begin anything.
func (c *Conversation) slotIsOver(now Instant) bool {
	return !c.packing.end.IsZero() && c.packing.end.Sub(now.Time) < slotMargin
}

// slotMargin is what is left of the batch slot when no payload runs any more: for what
// it leaves to be stored, and for the report.
const slotMargin = 30 * time.Second

// maxEnded is how many attempts per core of the node may have ended and not be over:
// their logs are being stored, their reports wait for an answer, or their outputs for
// their names. A pilot that does not get rid of what it has done takes no more. That
// many leave a core no time to wait while one attempt is reported in eight times the
// time that it ran. Source: docs/benchmarks, compare.
const maxEnded = 8

// wanted is how many more tasks the pilot would take.
func (c *Conversation) wanted(now Instant, free *protocol.Resources) uint16 {
	if c.takesNothing(now) {
		return 0
	}
	room := maxEnded*c.packing.all.Cores - c.endedCount()
	return uint16(max(0, min(free.Cores, 64, room, protocol.MaxHeld-len(c.attempts))))
}

// isReporting tells whether the first report of an attempt that has ended is being
// made: soon there will be something to say.
func (c *Conversation) isReporting() bool {
	return slices.ContainsFunc(c.attempts, func(h *held) bool { return h.ended && !h.reported && !h.settled })
}

// rest is how long there is nothing to say, or nothing that could not wait.
func (c *Conversation) rest(now Instant) time.Duration {
	if c.awake {
		if c.draining || !c.asksNothing(now) {
			return 0
		}
		return c.spoke.Add(c.company(now)).Sub(now.Time)
	}
	until := c.paused
	if !slices.ContainsFunc(c.attempts, func(h *held) bool { return h.report != nil }) && c.asksNothing(now) {
		quiet := time.Second
		switch {
		case len(c.attempts) > 0:
			quiet = c.pace
		case c.held, now.Time.Before(c.site.refusing):
			quiet = longestPace
		}
		if next := c.spoke.Add(quiet); next.After(until) {
			until = next
		}
	}
	return until.Sub(now.Time)
}

// company is how long after an exchange a report waits for others, or for a core that
// becomes free: where tasks end faster than that, each of their exchanges carries
// more, and none that only reports keeps one waiting that asks.
const company = 10 * time.Millisecond

// asksNothing tells whether no work is wanted, or none before the next report.
func (c *Conversation) asksNothing(now Instant) bool {
	free := c.packing.free(now.Time)
	return c.wanted(now, &free) == 0 || c.vain && c.isReporting()
}

// compose lists what is held and what is free. The second result is how long the
// exchange may park.
func (c *Conversation) compose(now Instant) (*protocol.ExchangeRequest, time.Duration) {
	c.sequence++
	r := &protocol.ExchangeRequest{Sequence: c.sequence, Free: c.packing.free(now.Time), Obeyed: c.site.obeyed}
	size := 0
	for _, h := range c.attempts {
		if h.over || h.settled {
			continue
		}
		r.Held = append(r.Held, protocol.HeldLease{Lease: h.lease.ID, Task: h.lease.Task, Phase: h.phase})
		if h.report != nil && len(r.Reports) < protocol.MaxReports && (size == 0 || size+h.report.Size() < maxReport) {
			r.Reports = append(r.Reports, *h.report)
			size += h.report.Size()
		}
	}
	slices.SortFunc(r.Held, func(a, b protocol.HeldLease) int { return a.Lease.Compare(b.Lease) })
	r.Want = c.wanted(now, &r.Free)
	r.Ahead = c.ahead(now)
	c.asked = r.Want > 0
	var wait time.Duration
	switch {
	case len(r.Reports) > 0 || r.Want == 0 || c.isReporting():
		// Parked, it would be cut short soon: a grant just under way would be lost for
		// a while, and what it was granted offered once more.
	case len(c.attempts) > 0:
		// Renewing and asking: parked for as long as the logs may wait.
		wait = c.pace
	default:
		wait = min(askWait, max(time.Second, c.idle-now.Time.Sub(c.idleSince)))
	}
	r.Wait = protocol.SecondsOf(wait)
	return r, wait
}

// Heard takes the answer to an exchange.
func (c *Conversation) Heard(now Instant, reply *protocol.ExchangeReply) (effects []Effect) {
	c.contact, c.spoke = now.Boot, now.Time
	c.pace = min(max(reply.Next.Duration(), shortestPace), longestPace)
	c.vain = c.asked && len(reply.Leases) == 0
	effects = c.obey(now, reply)
	for i := range reply.Leases {
		effects = c.begin(effects, now, &reply.Leases[i])
	}
	if unsettled(reply) {
		c.pause(now) // the same reports at once would meet the same trouble
	} else {
		c.failures, c.paused = 0, time.Time{}
	}
	return effects
}

// unsettled tells whether a reply leaves a report's fate open.
func unsettled(reply *protocol.ExchangeReply) bool {
	return slices.ContainsFunc(reply.Answers, func(a protocol.ReportAnswer) bool { return isOpen(a.Code) })
}

// isOpen tells whether a report so answered is to be repeated.
func isOpen(c protocol.Code) bool { return c.Retryable() || c == protocol.CodeInternal }

// obey settles the fate of reports and follows orders.
func (c *Conversation) obey(now Instant, reply *protocol.ExchangeReply) (effects []Effect) {
	for _, a := range reply.Answers {
		if h := c.find(a.Lease); h != nil && h.report != nil && !isOpen(a.Code) {
			effects = append(effects, h.settle(a.Code, a.Reason, true))
		}
	}
	for _, o := range reply.Orders {
		if o.Number > 0 {
			if o.Number > c.site.obeyed {
				effects = append(effects, c.obeySite(now, &o)...)
			}
			continue
		}
		switch o.Kind {
		case protocol.OrderAbandon:
			if h := c.find(o.Lease); h != nil && !h.settled {
				effects = h.stop(effects, payload.ErrAbandoned, o.Reason)
				if h.report != nil {
					// Its fate is known: nobody waits for it any more.
					effects = append(effects, h.settle(protocol.CodeStale, o.Reason, true))
				}
			}
		case protocol.OrderDrain:
			c.draining = true
		case protocol.OrderStop:
			effects = append(effects, c.stopAll(payload.ErrDrain)...)
		}
	}
	return effects
}

// begin takes a lease and starts its attempt; one that was sent again is ignored. Of
// two exchanges, the one that was cut short may have been granted what the other
// offered once more: what there is no room for waits until there is.
func (c *Conversation) begin(effects []Effect, now Instant, lease *protocol.Lease) []Effect {
	if c.find(lease.ID) != nil {
		return effects
	}
	h := &held{lease: lease, phase: protocol.PhaseOffered, since: now.Time}
	c.attempts = append(c.attempts, h)
	if h.waits = !c.draining && !c.packing.hasRoom(lease); h.waits {
		return effects
	}
	return c.start(effects, now, h)
}

func (c *Conversation) start(effects []Effect, now Instant, h *held) []Effect {
	h.waits, h.since = false, now.Time
	if why := c.site.refuses(h.lease, now.Time); why != "" && !c.draining && !c.ended {
		c.site.refusing = now.Time.Add(refusesFor)
		return append(effects, Effect{Kind: EffectBegin, Lease: h.lease.ID, Task: h.lease.Task, Grant: h.lease, Refusal: why})
	}
	effects = append(effects, Effect{Kind: EffectBegin, Lease: h.lease.ID, Task: h.lease.Task, Grant: h.lease, share: c.packing.take(h.lease)})
	switch {
	case c.ended:
		effects = h.stop(effects, payload.ErrAbandoned, "the pilot ends")
	case c.draining:
		effects = h.stop(effects, payload.ErrDrain, "the pilot drains")
	}
	return effects
}

func (c *Conversation) find(id protocol.LeaseID) *held {
	for _, h := range c.attempts {
		if h.lease.ID == id {
			return h
		}
	}
	return nil
}

// Failed takes that an exchange was not answered, and why. It tells whether the
// pilot is at its end, because speaking again would never help.
func (c *Conversation) Failed(now Instant, err error) (effects []Effect, fatal bool) {
	c.spoke = now.Time
	switch code := protocol.CodeOf(err); {
	case code == protocol.CodeUnauthorized, code == protocol.CodeForbidden:
		return c.End(), true
	case errors.Is(err, context.Canceled): // cut short
	default:
		c.pause(now)
	}
	return nil, false
}

// Failures is how many exchanges in a row did not settle what they should.
func (c *Conversation) Failures() int { return c.failures }

// pause keeps quiet for a while: exponential, with full jitter.
func (c *Conversation) pause(now Instant) {
	c.failures++
	ceiling := min(lastPause, firstPause<<min(c.failures, 10))
	c.paused = now.Time.Add(c.jitter(ceiling) + 100*time.Millisecond)
}

// Drain takes nothing more and ends what runs, as preempted.
func (c *Conversation) Drain() []Effect {
	c.told, c.awake = true, true
	return c.stopAll(payload.ErrDrain)
}

func (c *Conversation) stopAll(cause error) (effects []Effect) {
	c.draining = true
	if c.site.reclaim != nil {
		c.site.reclaim.Hurry() // whoever wants them to end now wants it sooner
	}
	for _, h := range c.attempts {
		effects = h.stop(effects, cause, "the pilot drains")
	}
	return effects
}

// Hold takes nothing for as long as it says, and lets what runs be.
func (c *Conversation) Hold(on bool) []Effect {
	c.held = on
	c.awake, c.vain = c.awake || !on, false
	return nil
}

// GiveBack ends what runs, as preempted, for others to go on.
func (c *Conversation) GiveBack(reason string) (effects []Effect) {
	for _, h := range c.attempts {
		effects = h.stop(effects, payload.ErrDrain, reason)
	}
	return effects
}

// Retreat takes nothing more and lets what runs come to its end: the node is no longer
// what was offered.
func (c *Conversation) Retreat() []Effect {
	c.draining, c.awake = true, true
	return nil
}

// End gives everything up: no coordinator will listen to this pilot again, or there
// is no time left to find one. What reports there are stay in the spool, for another
// pilot or pass of the site.
func (c *Conversation) End() []Effect {
	if c.ended {
		return nil
	}
	c.ended, c.awake = true, true
	effects := c.stopAll(payload.ErrAbandoned)
	for _, h := range c.attempts {
		if h.report != nil {
			effects = append(effects, h.settle(protocol.CodeUnknown, "the pilot ends", false))
		}
	}
	return effects
}

// goodbye is a pilot's last word.
func (c *Conversation) goodbye(now Instant) *protocol.ExchangeRequest {
	reason := "idle"
	switch {
	case c.told:
		reason = "drained"
	case c.slotIsOver(now):
		reason = "end of slot"
	case c.draining:
		reason = "drained by order"
	}
	c.sequence++
	return &protocol.ExchangeRequest{Sequence: c.sequence, Free: c.packing.free(now.Time), Leaving: true, Reason: reason, Obeyed: c.site.obeyed}
}

// Phase notes how far an attempt has come.
func (c *Conversation) Phase(lease protocol.LeaseID, phase protocol.Phase) {
	if h := c.find(lease); h != nil {
		h.phase = phase
	}
}

// Ended says that the payload of an attempt is gone. What it ran on is free: what
// waits for that begins, and the next exchange asks for more work, while the report is
// still being made. Its disk is taken until it is over.
func (c *Conversation) Ended(now Instant, lease protocol.LeaseID) []Effect {
	if h := c.find(lease); h != nil && !h.ended {
		c.short.ended(h.lease, now.Time.Sub(h.since))
		c.end(h)
	}
	return c.beginWaiting(nil, now)
}

func (c *Conversation) end(h *held) {
	if !h.ended {
		h.ended, h.phase, c.vain = true, protocol.PhaseCopying, false
		c.packing.finish(h.lease.ID)
	}
}

// Retire says that cards are broken: no further task gets them.
func (c *Conversation) Retire(ids []string) { c.packing.retire(ids) }

// Report takes a report that is on disk, for the exchanges that follow; its payload
// has ended. It returns false when none will follow: the report stays where it is.
func (c *Conversation) Report(lease protocol.LeaseID, report *protocol.SignedReport, last bool) bool {
	h := c.find(lease)
	if h != nil {
		c.end(h)
	}
	if c.ended || h == nil {
		return false
	}
	h.report, h.reported, h.last, c.awake = report, true, last, true
	return true
}

// Forgo says that no further report of an attempt will come, though one should.
func (c *Conversation) Forgo(lease protocol.LeaseID) {
	if h := c.find(lease); h != nil {
		h.settled = true
	}
}

// Over says that nothing is left to do for an attempt, and that all it took is free.
func (c *Conversation) Over(lease protocol.LeaseID) {
	if h := c.find(lease); h != nil {
		h.over, c.vain = true, false
	}
}

// Errand is what an attempt does once the fate of its report is known.
type Errand uint8

const (
	// ErrandNone: that was all.
	ErrandNone Errand = iota
	// ErrandPublish: give the outputs their names, and report again that it is done.
	ErrandPublish
	// ErrandDiscard: the outputs do not count and go.
	ErrandDiscard
	// ErrandKeep: nobody knows; the report stays in the spool and the outputs with it.
	ErrandKeep
)

// ErrandAfter is what an attempt does after its report was answered with a code.
func ErrandAfter(code protocol.Code, report *protocol.Report) Errand {
	switch code {
	case protocol.CodeOK:
		if !report.Cleaned {
			return ErrandPublish
		}
		return ErrandNone
	case protocol.CodeStale, protocol.CodeBadRequest:
		return ErrandDiscard
	}
	return ErrandKeep
}
