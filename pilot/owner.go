package pilot

import (
	"context"
	"sync"
	"time"

	"floe/pilot/hardware"
)

// OwnerPolicy is how a pilot of somebody's workstation keeps out of the owner's way.
// While the owner is there no task is taken, and what runs stands still. Zero fields
// are their defaults.
type OwnerPolicy struct {
	// Quiet is for how long nobody may have touched the machine before anything runs.
	Quiet time.Duration
	// Patience is how long tasks stand still before they are given back.
	Patience time.Duration
	// Look says what the owner does; nil is a hardware.Owner's.
	Look func(ctx context.Context) hardware.Sight
}

// Defaults of OwnerPolicy, and how often the owner is looked for.
const (
	ownerQuiet    = 5 * time.Minute
	ownerPatience = 30 * time.Minute
	ownerLook     = 5 * time.Second
	// ownerSettle is how long load, battery and cards must have been quiet: they come
	// and go more often than people.
	ownerSettle = time.Minute
	// ownerLoad is how many cores' worth of work of others is the owner's.
	ownerLoad = 0.7
)

// presence is what is made of one sight after another.
type presence struct {
	policy OwnerPolicy
	since  time.Time // standing still since; zero runs
	seen   time.Time // when something other than input was last seen
	given  bool      // what stood still was given back
	reason string    // what stands in the way
}

// decision is what a sight comes to.
type decision struct {
	still    bool // stand still, and take nothing
	giveBack bool // once for each time
	changed  bool
}

// decide takes what was seen.
func (p *presence) decide(now time.Time, s hardware.Sight) (d decision) {
	reason := ""
	switch {
	case s.Battery:
		reason = "the machine runs on its battery"
	case s.Cards:
		reason = "another program uses a card"
	case s.Load > ownerLoad:
		reason = "other programs need the processor"
	}
	if reason != "" {
		p.seen = now
	}
	switch {
	case s.HasInput && s.Input < p.policy.Quiet:
		reason = "somebody is at the machine"
	case reason == "" && !p.seen.IsZero() && now.Sub(p.seen) < ownerSettle:
		reason = p.reason
	}
	was := !p.since.IsZero()
	d.still = reason != ""
	d.changed = d.still != was
	p.reason = reason
	switch {
	case !d.still:
		p.since, p.given = time.Time{}, false
	case !was:
		p.since = now
	case !p.given && now.Sub(p.since) >= p.policy.Patience:
		p.given, d.giveBack = true, true
	}
	return d
}

// mindOwner watches the owner until the function it returns is called.
func (p *Pilot) mindOwner(ctx context.Context) (stop func()) {
	policy := *p.config.Owner
	if policy.Quiet == 0 {
		policy.Quiet = ownerQuiet
	}
	if policy.Patience == 0 {
		policy.Patience = ownerPatience
	}
	if policy.Look == nil {
		policy.Look = new(hardware.Owner).Look
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	here := &presence{policy: policy}
	p.mind(ctx, here) // before the first task is asked for
	watching.Go(func() {
		tick := time.NewTicker(ownerLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				p.pause.Set(false) // what drains must be able to
				return
			case <-tick.C:
				p.mind(ctx, here)
			}
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// mind looks once, and does what comes of it.
func (p *Pilot) mind(ctx context.Context, here *presence) {
	d := here.decide(time.Now(), here.policy.Look(ctx))
	if d.changed {
		p.pause.Set(d.still)
		p.change(func(c *Conversation) []Effect { return c.Hold(d.still) })
		if d.still {
			p.logger.Info("standing still for the machine's owner", "state", here.reason)
		} else {
			p.logger.Info("going on: the owner is away")
		}
		p.nudge()
	}
	if d.giveBack {
		p.logger.Info("tasks are given back", "state", here.reason)
		p.change(func(c *Conversation) []Effect { return c.GiveBack(here.reason) })
		p.nudge()
	}
}
