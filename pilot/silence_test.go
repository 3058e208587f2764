package pilot

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/protocol"
)

// A node that fails its own check keeps its slot for a while, so that the batch system
// does not fill it at once, and speaks to nobody; told to leave, it leaves.
func TestANodeThatFailsItsCheckWaitsBeforeItLeaves(t *testing.T) {
	for _, test := range []struct {
		name string
		told time.Duration // to leave; 0 is never
		want time.Duration
	}{{"nobody tells it to leave", 0, failedWait}, {"drained", time.Minute, time.Minute}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCoordinators(t)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				if test.told > 0 {
					time.AfterFunc(test.told, stop)
				}
				p := f.newPilot(func(c *Config) {
					c.Measure = func(context.Context, hardware.Options) (protocol.Resources, hardware.Report) {
						return protocol.Resources{Cores: 4}, hardware.Report{} // and no disk
					}
				})
				began := time.Now()
				err := p.live(ctx)
				if took := time.Since(began); !errors.Is(err, ErrNode) || took != test.want { // virtual time
					t.Errorf("it ended after %v with %v, want after %v because of its node", took, err, test.want)
				}
				if len(f.heard) > 0 {
					t.Errorf("a node that failed its check spoke %d times", len(f.heard))
				}
			})
		})
	}
}

// Pilots that have all lost their coordinator do not all come back at once: each
// draws its pauses from a range that doubles, up to a minute.
func TestPilotsComeBackAtTimesOfTheirOwn(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	var ranges []time.Duration
	c := NewConversation(now, ConversationConfig{
		Offer: protocol.Resources{Cores: 1}, Idle: time.Hour,
		Jitter: func(limit time.Duration) time.Duration { ranges = append(ranges, limit); return limit / 2 },
	})
	for i := range 8 {
		if s := c.Next(now); s.Act != ActSpeak {
			t.Fatalf("after %d failures: %+v, want an exchange", i, s)
		}
		c.Failed(now, errors.New("no route to host"))
		s := c.Next(now)
		if s.Act != ActRest || s.Within < ranges[i]/2 {
			t.Fatalf("after %d failures: %+v, want a rest of half of %v at least", i+1, s, ranges[i])
		}
		now.Time, now.Boot = now.Time.Add(s.Within), now.Boot+s.Within
	}
	for i, r := range ranges {
		if want := min(time.Minute, 2*time.Second<<i); r != want {
			t.Errorf("pause %d is drawn from %v, want %v", i+1, r, want)
		}
	}
	c.Heard(now, &protocol.ExchangeReply{Next: 1})
	now.Time = now.Time.Add(time.Second)
	c.Failed(now, errors.New("again"))
	if last := ranges[len(ranges)-1]; last != 2*time.Second {
		t.Errorf("after an answer the next pause is drawn from %v, want 2s", last)
	}
}

// lossy are coordinators of which one exchange is lost: the nth, on its way there or
// back. What it was granted is sent again, as coordinators do.
type lossy struct {
	*fakeCoordinators
	before bool
	nth    int32
	err    error
	count  atomic.Int32
}

func (l *lossy) Exchange(ctx context.Context, r *protocol.ExchangeRequest) (*protocol.ExchangeReply, error) {
	lost := l.count.Add(1) == l.nth
	if lost && l.before {
		return nil, l.err
	}
	reply, err := l.fakeCoordinators.Exchange(ctx, r)
	if lost && err == nil {
		l.mu.Lock()
		l.leases = append(l.leases, reply.Leases...)
		l.mu.Unlock()
		return nil, l.err
	}
	return reply, err
}

// The connection may be lost at any step of an exchange: before it is sent, and when
// it was done and nobody hears. Whatever is lost, each task runs once and is reported
// until that is known, and nothing stays in the spool.
func TestAnExchangeMayBeLostAtEveryStep(t *testing.T) {
	lost := errors.New("connection reset by peer")
	// An exchange of a lease's life is lost: the nth that is sent, or the nth that is
	// answered.
	for _, before := range []bool{true, false} {
		for nth := int32(1); nth <= 6; nth++ {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCoordinators(t)
				f.lease(document("true", ""))
				link := &lossy{fakeCoordinators: f, before: before, nth: nth, err: lost}
				ran := atomic.Int32{}
				p := f.newPilot(func(c *Config) {
					c.Idle = 5 * time.Minute
					c.Payload = func(context.Context, payload.Task, payload.Limits, payload.Dir, payload.Options) payload.Outcome {
						ran.Add(1)
						<-time.After(20 * time.Second)
						return payload.Outcome{Verdict: protocol.VerdictOK}
					}
				})
				p.link = link
				if err := p.live(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := link.count.Load(); n < nth {
					t.Fatalf("%d exchanges: the %dth was never made", n, nth)
				}
				reports := f.reports()
				if ran.Load() != 1 || len(reports) == 0 || f.ended[reports[0].Lease] != protocol.CodeOK {
					t.Errorf("exchange %d lost, before it was sent %v: the task ran %d times, %d reports", nth, before, ran.Load(), len(reports))
				}
				if left := spooled(t, p); len(left) != 0 {
					t.Errorf("exchange %d lost, before it was sent %v: spool %v", nth, before, left)
				}
			})
		}
	}
}
