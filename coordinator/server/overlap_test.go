package server

import (
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// A pilot whose connection was cut speaks again while its former exchange is
// still parked. The two must not wake each other for ever, and the work must go
// to the one that somebody waits for.
func TestALaterExchangeTakesThePlaceOfAParkedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		p := r.enrol("here")
		first := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		second := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		if !first.isDone() || first.err != nil || len(first.reply.Leases) != 0 || second.isDone() {
			t.Fatalf("the former exchange is done: %v, %+v, %v; the later one is done: %v", first.isDone(), first.reply, first.err, second.isDone())
		}
		r.submit(ada, 1, twoTasks)
		synctest.Wait()
		if !second.isDone() || second.err != nil || len(second.reply.Leases) != 1 {
			t.Errorf("the later exchange = %+v, %v; want the lease", second.reply, second.err)
		}
	})
}

// A lease that was granted to an exchange nobody waits for any more is sent at
// once through the one that is parked.
func TestAGrantToALostExchangeWakesTheParkedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		p := r.enrol("here")
		x := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		// The lost one took its look before the parked one arrived.
		r.record.lead.Lock()
		r.record.before = func(c state.Command) error {
			if a, is := c.(*state.Acquire); is && a.Sequence == p.sequence {
				_, err := r.record.apply(r.record.term, &state.Acquire{Pilot: p.caller.Pilot, Free: p.free, Want: 1, Sequence: 0})
				return err
			}
			return nil
		}
		r.record.lead.Unlock()
		r.submit(ada, 1, twoTasks)
		synctest.Wait()
		if !x.isDone() || x.err != nil || len(x.reply.Leases) != 1 {
			t.Errorf("parked exchange = %+v, %v; want the lease that the lost one was granted", x.reply, x.err)
		}
	})
}

// What is released between a look and a place in the car park must not be missed.
func TestAReleaseDuringAnAcquisitionIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		p, q := r.enrol("here"), r.enrol("here")
		r.submit(ada, 1, twoTasks)
		taken := false
		r.record.before = func(c state.Command) error {
			if a, is := c.(*state.Acquire); is && a.Pilot == p.caller.Pilot && !taken {
				taken = true
				_, err := r.record.apply(r.record.term, &state.Acquire{Pilot: q.caller.Pilot, Free: q.free, Want: 1, Sequence: 1})
				return err
			}
			return nil
		}
		r.record.after = func(c state.Command) error {
			if a, is := c.(*state.Acquire); is && a.Pilot == p.caller.Pilot && taken {
				r.record.lead.Lock()
				r.record.before, r.record.after = nil, nil
				r.record.lead.Unlock()
				r.submit(ada, 1, twoTasks) // before the answer is there
			}
			return nil
		}
		x := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		time.Sleep(time.Second) //nolint:forbidigo // virtual time
		synctest.Wait()
		if !x.isDone() || x.err != nil || len(x.reply.Leases) != 1 {
			t.Errorf("the exchange = %+v, %v; want the task that came meanwhile", x.reply, x.err)
		}
	})
}

// A pilot that is cut off works on until its fence, and comes back to a lease that
// nobody has claimed.
func TestAPilotWithALapsedLeaseIsWaitedForUntilItsFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 2, twoTasks)
		p, q := r.enrol("here"), r.enrol("here")
		l, lost := p.take(1)[0], q.take(1)[0]
		running := []protocol.HeldLease{held(&l, protocol.PhaseRunning)}
		p.mustSpeak(protocol.ExchangeRequest{Held: running})
		quiet(r.Timing.Fence - time.Minute)
		if reply := p.mustSpeak(protocol.ExchangeRequest{Held: running}); len(reply.Orders) != 0 {
			t.Errorf("back before its fence: %v", reply.Orders)
		}
		p.finish(&l)
		quiet(2 * time.Minute)
		if _, err := q.speak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&lost, protocol.PhaseRunning)}}); protocol.CodeOf(err) != protocol.CodeUnauthorized {
			t.Errorf("back after its fence: %v, want to be told to enrol again", err)
		}
	})
}

// A pilot that leaves while it is parked must not be watched again: it would be
// given up every second from then on.
func TestAPilotThatLeftIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p := r.enrol("here")
		x := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		r.do(&state.LeavePilot{Pilot: p.caller.Pilot, Verdict: protocol.VerdictLost, Reason: "its node is gone"})
		quiet(5 * time.Minute)
		if !x.isDone() || r.core.watch.count() != 0 {
			t.Errorf("exchange done: %v; %d pilots watched, want none", x.isDone(), r.core.watch.count())
		}
	})
}

// A release counts on those it wakes: what one of them cannot take, another must
// hear of at once, not at its next exchange minutes later.
func TestAWakeThatIsNotUsedIsPassedOn(t *testing.T) {
	t.Run("the client has gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			ada := r.person("ada", "producer")
			gone, other := r.enrol("here"), r.enrol("here")
			now := time.Now()
			x, err := r.core.Begin(now, &gone.caller, &protocol.ExchangeRequest{Sequence: 1, Free: gone.free, Want: 1, Wait: 240})
			if err != nil || x.Next(now) != TurnWait {
				t.Fatalf("it does not wait: %v", err)
			}
			y := other.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
			synctest.Wait()
			r.submit(ada, 1, twoTasks)
			<-x.Woken()
			x.Abandon()
			synctest.Wait()
			if !y.isDone() || y.err != nil || len(y.reply.Leases) != 1 {
				t.Errorf("the other exchange = %+v, %v; want the lease at once", y.reply, y.err)
			}
		})
	})
	t.Run("its site is suspended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			ada := r.person("ada", "producer")
			p, q := r.enrol("closed"), r.enrol("here")
			r.do(&state.PutSite{Site: "closed", Suspended: true})
			x := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
			synctest.Wait()
			y := q.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
			synctest.Wait()
			r.submit(ada, 1, twoTasks)
			synctest.Wait()
			if x.isDone() || !y.isDone() || y.err != nil || len(y.reply.Leases) != 1 {
				t.Errorf("at the suspended site: done %v; at the other: %+v, %v; want the lease there at once", x.isDone(), y.reply, y.err)
			}
		})
	})
}

// A quarantine ends by record time, with nothing released: its pilots must hear of it.
func TestPilotsOfANodeThatIsReleasedAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.do(&state.SetFormat{Format: state.Format})
		ada := r.person("ada", "producer")
		p := r.enrol("here")
		r.do(&state.ExcludeNode{Site: "here", Host: "node"})
		r.submit(ada, 1, twoTasks)
		x := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		if x.isDone() {
			t.Fatalf("a pilot of an excluded node does not wait: %+v, %v", x.reply, x.err)
		}
		r.do(&state.ReleaseNode{Site: "here", Host: "node"})
		synctest.Wait()
		if !x.isDone() || x.err != nil || len(x.reply.Leases) != 1 {
			t.Errorf("after the release = %+v, %v; want the lease at once", x.reply, x.err)
		}
	})
}
