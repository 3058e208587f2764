package pilot

import (
	"errors"
	"slices"
	"testing"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
)

// begun are the leases that effects begin.
func begun(effects []Effect) (ids []uint32) {
	for _, e := range effects {
		if e.Kind == EffectBegin {
			ids = append(ids, e.Lease.Ordinal)
		}
	}
	return ids
}

// A pilot of short tasks asks for more than it has cores for, begins them as others
// end, and asks again when half of them are gone.
func TestShortTasksAreLeasedAhead(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	pass := func(d time.Duration) { now.Time, now.Boot = now.Time.Add(d), now.Boot+d }
	lease := func(n uint32) protocol.Lease {
		l := testLease(n, 0)
		l.Task = protocol.TaskID{Dataset: 3, Job: protocol.JobIndex(n), Task: 1}
		return l
	}
	c := newTestConversation(now)
	next := uint32(2)
	c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{lease(0), lease(1)}})
	// end ends an attempt after a while, reports it, and returns what is asked for ahead.
	end := func(n uint32, took time.Duration) (*protocol.Ahead, []uint32) {
		t.Helper()
		pass(took)
		began := begun(c.Ended(now, lease(n).ID))
		c.Report(lease(n).ID, &protocol.SignedReport{Body: []byte("report")}, true)
		pass(companyAhead)
		s := c.Next(now)
		if s.Act != ActSpeak || len(s.Request.Reports) != 1 {
			t.Fatalf("next is %v with %+v, want an exchange that reports", s.Act, s.Request)
		}
		reply := &protocol.ExchangeReply{Answers: []protocol.ReportAnswer{{Lease: lease(n).ID}}}
		more := int(s.Request.Want)
		if s.Request.Ahead != nil {
			more += int(s.Request.Ahead.Count)
		}
		for range more {
			reply.Leases = append(reply.Leases, lease(next))
			next++
		}
		began = append(began, begun(c.Heard(now, reply))...)
		c.Over(lease(n).ID)
		return s.Request.Ahead, began
	}
	ahead, began := end(0, 100*time.Millisecond)
	if want := (protocol.Ahead{Dataset: 3, Task: 1, Count: 10}); ahead == nil || *ahead != want || !slices.Equal(began, []uint32{2}) {
		t.Fatalf("asks for %+v ahead and begins %v, want %+v: half a second of two cores", ahead, began, want)
	}
	waiting := func() (n int) {
		for _, h := range c.attempts {
			if h.waits {
				n++
			}
		}
		return n
	}
	asked := 0
	for n := uint32(1); n <= 60; n++ {
		if ahead, began = end(n, time.Millisecond); !slices.Equal(began, []uint32{n + 2}) {
			t.Fatalf("when %d has ended, begins %v, want %d", n, began, n+2)
		}
		if ahead != nil {
			asked++
			if w := waiting(); w < int(ahead.Count) || w > 2*maxAhead {
				t.Errorf("asked for %+v, %d wait", ahead, w)
			}
		}
	}
	if asked == 0 || asked > 20 {
		t.Errorf("%d exchanges of 60 have asked for something ahead", asked)
	}
	// One that takes long is the last that anything is leased ahead of.
	if ahead, began = end(61, time.Second); ahead != nil || len(began) != 1 {
		t.Errorf("after a task of a second, asks for %+v and begins %v", ahead, began)
	}
	left := waiting()
	pass(maxWaits + time.Second)
	s := c.Next(now)
	given := 0
	for i, e := range s.Effects {
		if e.Kind == EffectStop && errors.Is(e.Cause, payload.ErrDrain) && s.Effects[i-1].Kind == EffectBegin && s.Effects[i-1].Lease == e.Lease {
			given++
		}
	}
	if given != left || left == 0 || waiting() != 0 {
		t.Errorf("of %d leases %d are given back after %v of waiting: %+v", left, given, maxWaits, s.Effects)
	}
}

// What takes cards, or all the time there is, or the last time of a slot, is not leased ahead.
func TestWhatIsNotLeasedAhead(t *testing.T) {
	for name, change := range map[string]func(*protocol.Lease, *Conversation){
		"cards":   func(l *protocol.Lease, _ *Conversation) { l.Granted.GPUs = 1 },
		"elastic": func(l *protocol.Lease, _ *Conversation) { l.Granted.Elastic = true },
		"drains":  func(_ *protocol.Lease, c *Conversation) { c.draining = true },
		"owner":   func(_ *protocol.Lease, c *Conversation) { c.Hold(true) },
		"large":   func(l *protocol.Lease, _ *Conversation) { l.Granted.Cores = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			now := Instant{Time: time.Unix(1, 0)}
			c := newTestConversation(now)
			l := testLease(0, 0)
			change(&l, c)
			c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{l}})
			now.Time = now.Time.Add(time.Millisecond)
			c.Ended(now, l.ID)
			if ahead := c.ahead(now); ahead != nil {
				t.Errorf("asks for %+v", ahead)
			}
		})
	}
}

// A machine whose owner is back begins nothing.
func TestNothingThatWaitsBeginsWhileTheOwnerIsThere(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	c := newTestConversation(now)
	c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{testLease(0, 0), testLease(1, 0), testLease(2, 0)}})
	c.Hold(true)
	if effects := c.Ended(now, testLease(0, 0).ID); len(begun(effects)) != 0 {
		t.Errorf("begins %v", begun(effects))
	}
	c.Hold(false)
	if s := c.Next(now); !slices.Equal(begun(s.Effects), []uint32{2}) {
		t.Errorf("with the owner gone, begins %v, want 2", begun(s.Effects))
	}
}

// While enough waits, reports wait for each other; no longer once half of it is gone.
func TestReportsWaitWhileEnoughIsLeasedAhead(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	c := newTestConversation(now)
	var leases []protocol.Lease
	for n := range uint32(10) {
		leases = append(leases, testLease(n, 0))
	}
	c.Heard(now, &protocol.ExchangeReply{Leases: leases})
	now.Time = now.Time.Add(100 * time.Millisecond)
	c.Ended(now, leases[0].ID) // half a second of two cores are ten
	c.Heard(now, &protocol.ExchangeReply{})
	c.Report(leases[0].ID, &protocol.SignedReport{Body: []byte("report")}, true)
	if s := c.Next(now); s.Act != ActRest || s.Within != companyAhead {
		t.Errorf("with 7 of 10 waiting, next is %v within %v, want a rest of %v", s.Act, s.Within, companyAhead)
	}
	for _, l := range leases[1:3] {
		c.Ended(now, l.ID)
	}
	if s := c.Next(now); s.Act != ActRest || s.Within != company {
		t.Errorf("with 5 of 10 waiting, next is %v within %v, want a rest of %v", s.Act, s.Within, company)
	}
	c.Drain()
	if s := c.Next(now); s.Act != ActSpeak {
		t.Errorf("draining, next is %v, want an exchange at once", s.Act)
	}
}
