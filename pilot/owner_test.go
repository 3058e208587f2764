package pilot

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/protocol"
)

func TestWhenAPilotStandsStill(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	away := hardware.Sight{Input: time.Hour, HasInput: true}
	type at struct {
		when     time.Duration
		sight    hardware.Sight
		still    bool
		giveBack bool
	}
	typing := hardware.Sight{Input: time.Second, HasInput: true}
	for name, steps := range map[string][]at{
		"nobody tells of input": {{0, hardware.Sight{}, false, false}},
		"the owner comes and goes": {
			{0, away, false, false},
			{1 * minute, typing, true, false},
			{2 * minute, hardware.Sight{Input: minute, HasInput: true}, true, false},
			{6 * minute, hardware.Sight{Input: 5 * minute, HasInput: true}, false, false},
		},
		"the owner stays": {
			{0, typing, true, false},
			{29 * minute, typing, true, false},
			{30 * minute, typing, true, true},
			{60 * minute, typing, true, false},
			{70 * minute, away, false, false},
			{71 * minute, typing, true, false},
			{101 * minute, typing, true, true},
		},
		"others compute, with gaps": {
			{0, hardware.Sight{Load: 0.6}, false, false},
			{minute, hardware.Sight{Load: 2}, true, false},
			{minute + 5*time.Second, hardware.Sight{}, true, false},
			{minute + 30*time.Second, hardware.Sight{Load: 1}, true, false},
			{2*minute + 20*time.Second, hardware.Sight{}, true, false},
			{2*minute + 30*time.Second, hardware.Sight{}, false, false},
		},
		"the plug is pulled":         {{0, away, false, false}, {minute, hardware.Sight{Battery: true}, true, false}, {3 * minute, away, false, false}},
		"another program has a card": {{0, away, false, false}, {minute, hardware.Sight{Cards: true}, true, false}, {3 * minute, away, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &presence{policy: OwnerPolicy{Quiet: ownerQuiet, Patience: ownerPatience}}
			begin, was := time.Unix(1e9, 0), false
			for _, s := range steps {
				d := p.decide(begin.Add(s.when), s.sight)
				if d.still != s.still || d.giveBack != s.giveBack || d.changed != (was != s.still) {
					t.Errorf("after %v: %+v (%s), want still %v, give back %v", s.when, d, p.reason, s.still, s.giveBack)
				}
				if was = s.still; d.still && p.reason == "" {
					t.Errorf("after %v: it stands still for no reason", s.when)
				}
			}
		})
	}
}

// TestAnOwnerWhoComesBack has a task stand still, then given back, in virtual time; and
// no other is asked for before the owner has left.
func TestAnOwnerWhoComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		sight := func(context.Context) hardware.Sight {
			s := hardware.Sight{Input: time.Hour, HasInput: true}
			if since := time.Since(begin); since >= 10*time.Minute && since < 90*time.Minute {
				s.Input = 0
			}
			return s
		}
		talk := NewConversation(Instant{time.Now(), 0}, ConversationConfig{Idle: 24 * time.Hour, Offer: protocol.Resources{Cores: 1}, Jitter: func(time.Duration) time.Duration { return 0 }})
		p := &Pilot{config: Config{Owner: &OwnerPolicy{Look: sight}}, logger: slog.New(slog.DiscardHandler), pause: payload.NewPause(), talk: talk, wake: make(chan struct{}, 1)}
		stop := p.mindOwner(t.Context())
		defer stop()
		for _, x := range []struct {
			at     time.Duration
			wanted uint16
		}{{0, 1}, {9 * time.Minute, 1}, {10*time.Minute + ownerLook, 0}, {89 * time.Minute, 0}, {91 * time.Minute, 1}} {
			<-time.After(x.at - time.Since(begin))
			synctest.Wait()
			p.mu.Lock()
			free := talk.packing.free(time.Now())
			got := talk.wanted(Instant{time.Now(), time.Since(begin)}, &free)
			p.mu.Unlock()
			if got != x.wanted {
				t.Errorf("after %v the pilot wants %d tasks, want %d", x.at, got, x.wanted)
			}
		}
	})
}
