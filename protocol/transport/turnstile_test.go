package transport

import (
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnstileLetsSoManyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTurnstile(&Limits{Handshakes: 2})
		began := time.Now()
		first, second := s.enter(), s.enter()
		entered := make(chan func(), 2)
		for range 2 {
			go func() { entered <- s.enter() }()
		}
		synctest.Wait()
		if n := len(entered); n != 0 {
			t.Fatalf("%d more than 2 handshakes are under way", n)
		}
		first()
		first() // its connection ends later
		synctest.Wait()
		if n := len(entered); n != 1 {
			t.Errorf("%d entered when one had left, want 1", n)
		}
		if time.Since(began) != 0 {
			t.Errorf("the one waited for %v", time.Since(began))
		}
		(<-entered)()
		second()
		(<-entered)()
		if n := len(s.places); n != 0 {
			t.Errorf("%d places are taken by nobody", n)
		}
		if n := s.delayed.Load(); n != 2 {
			t.Errorf("%d have waited, want 2", n)
		}
	})
}

func TestSilentHandshakeGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTurnstile(&Limits{Handshakes: 1})
		began := time.Now()
		silent := s.enter()
		next := s.enter()
		if d := time.Since(began); d != handshakeTurn {
			t.Errorf("the next waited for %v, want %v", d, handshakeTurn)
		}
		silent() // not the place of the next
		if n := len(s.places); n != 1 {
			t.Errorf("%d places are taken, want 1", n)
		}
		next()
	})
}

// While a handshake holds the only place, a pilot that is connected is served, and
// one that comes waits for it.
func TestConnectedAreServedWhileOthersWait(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), func(c *ServerConfig) { c.Limits.Handshakes = 1 })
	ctx := withDeadline(t)
	pilot := as(DoorPilot, ca.leaf(t, pilotURI, time.Hour))
	connected := newTestClient(t, ca, s, pilot)
	if err := connected.CallCBOR(ctx, "GET", "/", nil, nil); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := connected.CallCBOR(ctx, "GET", "/", nil, nil); err != nil {
		t.Errorf("one that is connected: %v", err)
	}
	if err := newTestClient(t, ca, s, pilot).CallCBOR(ctx, "GET", "/", nil, nil); err != nil {
		t.Errorf("one that comes: %v", err)
	}
}

func TestACrowdIsLetInOneAfterTheOther(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(who), func(c *ServerConfig) { only(c); c.Limits.Handshakes = 1 })
		ctx := withDeadline(t)
		pilot := as(DoorPilot, ca.leaf(t, pilotURI, time.Hour))
		var crowd sync.WaitGroup
		for range 20 {
			cl := newTestClient(t, ca, s, pilot)
			crowd.Go(func() {
				if err := cl.CallCBOR(ctx, "GET", "/", nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		crowd.Wait()
		if st := s.Stats(); st.Delayed == 0 || st.Refused != 0 {
			t.Errorf("Stats() = %+v, want some that waited and nobody refused", st)
		}
	})
}
