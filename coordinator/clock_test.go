package coordinator

import (
	"testing"
	"time"

	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// A leader whose clock jumps a year expires nothing: record time goes by the
// monotonic clock, and what a new leader's clock may add is bounded. What the leader
// watches by itself goes by Go's monotonic clock as well.
func TestAClockThatJumpsExpiresNothing(t *testing.T) {
	m := newMachine(t)
	wall := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	stamp := (&Config{Wall: func() time.Time { return wall }}).stamper()
	var index uint64
	var told []state.Event
	m.observe = func(e []state.Event) { told = append(told, e...) }
	apply := func(term uint64, first bool, elapsed time.Duration, commands ...state.Command) {
		t.Helper()
		s := replica.Stamping{Term: term, First: first, Elapsed: elapsed}
		for _, c := range commands {
			b, err := state.EncodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			s.Commands = append(s.Commands, append([]byte(nil), b...))
		}
		entry, err := stamp(s)
		if err != nil {
			t.Fatal(err)
		}
		index++
		answers, err := m.Apply(index, term, entry)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if a, _ := a.(state.Answer); a.Err() != nil {
				t.Fatal(a.Err())
			}
		}
	}
	token, ticket, join := protocol.DigestOf([]byte("token")), protocol.DigestOf([]byte("ticket")), protocol.DigestOf([]byte("join"))
	day := state.Day
	apply(1, true, 0,
		&state.PutSite{Site: "mill"},
		&state.PutUser{User: "ada", Role: "admin"},
		&state.PutToken{Hash: token, User: "ada", Role: "admin", Expires: day},
		&state.PutTicket{Hash: ticket, Site: "mill", Uses: 1, Expires: day},
		&state.PutJoinToken{Hash: join, For: state.JoinSite, Name: "pond", Uses: 1, Expires: day},
	)
	alive := func(when string) {
		t.Helper()
		_, knowsToken := m.state.Token(token)
		_, knowsTicket := m.state.Ticket(ticket)
		_, knowsJoin := m.state.JoinToken(join)
		if !knowsToken || !knowsTicket || !knowsJoin {
			t.Errorf("%s: token %v, ticket %v, join token %v; want all there", when, knowsToken, knowsTicket, knowsJoin)
		}
	}
	before := m.state.Time()
	wall = wall.AddDate(1, 0, 0)
	apply(1, false, time.Second, &state.Tick{})
	alive("the leader's clock jumped a year")
	if got := m.state.Time() - before; got != state.Second {
		t.Errorf("record time went on by %v, want the second that passed", time.Duration(got))
	}
	before, told = m.state.Time(), nil
	wall = wall.AddDate(1, 0, 0)
	apply(2, true, 0, &state.Tick{})
	alive("another leader's clock is a year ahead")
	if got := m.state.Time() - before; got > state.MaxWallStep {
		t.Errorf("record time went on by %v, want at most %v", time.Duration(got), time.Duration(state.MaxWallStep))
	}
	alarmed := false
	for _, e := range told {
		if l, ok := e.Body.(*state.LeaderChanged); ok {
			alarmed = l.Clamped
		}
	}
	if !alarmed {
		t.Error("nobody is told of the clock")
	}
	before = m.state.Time()
	wall = wall.AddDate(-3, 0, 0)
	apply(2, false, time.Second, &state.Tick{})
	apply(3, true, 0, &state.Tick{})
	alive("clocks went back")
	if m.state.Time() < before {
		t.Error("record time went back")
	}
	apply(3, false, 25*time.Hour, &state.Tick{})
	if _, knows := m.state.Token(token); knows {
		t.Error("a day that passed did not end the token: this test can see nothing end")
	}
}
