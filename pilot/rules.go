package pilot

import (
	"fmt"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// rules are what the pilot's site wants: its policy, which the pilot reads itself, and
// its orders, which come by way of the coordinators.
type rules struct {
	policy *protocol.SitePolicy // nil where the site has said nothing
	obeyed uint64               // the newest order
	// refusing is until when nothing is asked for, because what came was refused.
	refusing time.Time
	closed   bool // by the policy's hours or a downtime, which is the end of the pilot
	// reclaim is why payloads end that have time to save their work, gone when they must
	// be; nil for none.
	reclaim *payload.DrainWithin
	gone    time.Time
}

// refusesFor is how long a pilot asks for nothing after it was given what its site
// forbids: the coordinators will have heard of the policy by then.
const refusesFor = time.Minute

// closingSlack is by how much a task may run into a downtime, by what it declares: its
// lease was granted a moment before.
const closingSlack = 60

// refuses says why a lease is against the site's policy; empty where it is not. This
// is not for coordinators to decide.
func (r *rules) refuses(l *protocol.Lease, now time.Time) string {
	if r.policy == nil {
		return ""
	}
	if why := r.policy.Refusal(l.Submitter, l.Group, l.Task.Dataset); why != "" {
		return why
	}
	t := r.policy.At(now.Unix())
	switch {
	case t.Closed != "":
		return t.Closed
	case protocol.Crosses(l.Granted.Walltime, now.Unix(), t.Ends+closingSlack) && t.Ends > 0:
		return fmt.Sprintf("it may run until after the site closes, at %s", time.Unix(t.Ends, 0).UTC().Format("2006-01-02 15:04 MST"))
	}
	return ""
}

// Rule takes the site's policy, when the pilot begins and whenever it changes.
func (c *Conversation) Rule(policy *protocol.SitePolicy) []Effect {
	c.site.policy, c.site.refusing = policy, time.Time{}
	c.awake, c.vain = true, false
	return nil
}

// takesNothing tells whether no lease is wanted, whatever is free.
func (c *Conversation) takesNothing(now Instant) bool {
	return c.draining || c.held || c.slotIsOver(now) || now.Time.Before(c.site.refusing)
}

// keepHours leaves when the site closes. What runs comes to its end, but in a downtime.
func (c *Conversation) keepHours(effects []Effect, now Instant) []Effect {
	if c.site.policy == nil {
		return effects
	}
	t := c.site.policy.At(now.Time.Unix())
	c.packing.closes = time.Time{}
	if t.Ends > 0 {
		c.packing.closes = time.Unix(t.Ends, 0)
	}
	if t.Closed == "" {
		return effects
	}
	c.draining = true
	if t.Down && !c.site.closed {
		c.site.closed = true
		effects = append(effects, c.stopAll(payload.ErrDrain)...)
	}
	return effects
}

// obeySite follows an order to the site, once.
func (c *Conversation) obeySite(now Instant, o *protocol.Order) (effects []Effect) {
	c.site.obeyed = max(c.site.obeyed, o.Number)
	switch o.Kind {
	case protocol.OrderDrain:
		c.draining = true
	case protocol.OrderStop:
		c.awake = true
		if o.Within == 0 {
			return c.stopAll(payload.ErrDrain)
		}
		return c.reclaimed(now, o.Within.Duration())
	}
	return nil
}

// reclaimed gives payloads what time there is but for storing what they leave. Those
// that have ended are on their way.
func (c *Conversation) reclaimed(now Instant, within time.Duration) (effects []Effect) {
	r := &c.site
	gone := now.Time.Add(within)
	if r.reclaim != nil {
		if gone.Before(r.gone.Add(-slotMargin)) {
			r.reclaim.Hurry()
		}
		return nil
	}
	c.draining = true
	r.reclaim, r.gone = payload.NewDrainWithin(max(payload.DefaultGrace, within-2*slotMargin)), gone
	for _, h := range c.attempts {
		if !h.ended {
			effects = h.stop(effects, r.reclaim, "the site is reclaimed")
		}
	}
	return effects
}
