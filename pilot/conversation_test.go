package pilot

import (
	"slices"
	"testing"
	"time"

	"floe/protocol"
)

// newTestConversation is one of a node with two cores, and lease a lease of one of
// them and nearly half of the disk.
func newTestConversation(now Instant) *Conversation {
	return NewConversation(now, ConversationConfig{
		Offer: protocol.Resources{Cores: 2, Memory: 4 * protocol.GB, Disk: 10 * protocol.GB}, Idle: time.Hour,
		Jitter: func(time.Duration) time.Duration { return 0 },
	})
}

func testLease(n uint32, disk protocol.ByteSize) protocol.Lease {
	return protocol.Lease{ID: protocol.LeaseID{Index: 7, Ordinal: n}, Granted: protocol.Requirements{Cores: 1, Memory: protocol.GB, Disk: disk}}
}

// A task that has ended is reported and its cores are offered in one exchange; its
// disk is offered once it is cleaned up.
func TestAnExchangeThatReportsAsksForMore(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	c := newTestConversation(now)
	lease := func(n uint32) protocol.Lease { return testLease(n, 4*protocol.GB) }
	c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{lease(0), lease(1)}})
	if !c.Report(lease(1).ID, &protocol.SignedReport{Body: []byte("report")}, true) {
		t.Fatal("the report is not taken")
	}
	s := c.Next(now)
	if s.Act != ActSpeak || len(s.Request.Reports) != 1 || s.Request.Want != 1 || len(s.Request.Held) != 2 {
		t.Fatalf("next is %v with %+v, want an exchange that reports one task and wants one", s.Act, s.Request)
	}
	if f := s.Request.Free; f.Cores != 1 || f.Memory != 3*protocol.GB || f.Disk != 2*protocol.GB {
		t.Errorf("free are %d cores, %v memory, %v disk; want 1, 3GB and 2GB", f.Cores, f.Memory, f.Disk)
	}
	c.Heard(now, &protocol.ExchangeReply{Answers: []protocol.ReportAnswer{{Lease: lease(1).ID}}, Leases: []protocol.Lease{lease(2)}})
	c.Over(lease(1).ID)
	if s = c.Next(now); s.Act != ActRest {
		t.Fatalf("with both cores busy, next is %v with %+v, want a rest", s.Act, s.Request)
	}
	c.Report(lease(2).ID, &protocol.SignedReport{Body: []byte("report")}, true)
	if s = c.Next(now); s.Act != ActSpeak || s.Request.Free.Disk != 2*protocol.GB || s.Request.Free.Cores != 1 {
		t.Errorf("next is %v with %+v, want the disk of the task that is over to be free again", s.Act, s.Request)
	}
}

// A core does not wait for the report of what ran on it.
func TestAnEndedTaskMakesRoomBeforeItIsReported(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	c := newTestConversation(now)
	c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{testLease(0, 4*protocol.GB), testLease(1, 4*protocol.GB)}})
	if s := c.Next(now); s.Act != ActRest {
		t.Fatalf("with both cores busy, next is %v with %+v, want a rest", s.Act, s.Request)
	}
	c.Ended(now, testLease(1, 0).ID)
	s := c.Next(now)
	if s.Act != ActSpeak || s.Request.Want != 1 || len(s.Request.Held) != 2 || len(s.Request.Reports) != 0 {
		t.Fatalf("next is %v with %+v, want an exchange that wants one task and reports none", s.Act, s.Request)
	}
	if f := s.Request.Free; f.Cores != 1 || f.Memory != 3*protocol.GB || f.Disk != 2*protocol.GB {
		t.Errorf("free are %d cores, %v memory, %v disk; want 1, 3GB and 2GB", f.Cores, f.Memory, f.Disk)
	}
	if got := s.Request.Held[1].Phase; got != protocol.PhaseCopying {
		t.Errorf("the task that has ended is %v, want copying", got)
	}
	if s.Request.Wait != 0 {
		t.Errorf("the exchange may park for %d s, though a report will follow soon", s.Request.Wait)
	}
	// There is nothing: the exchange that reports asks again, none before.
	c.Heard(now, &protocol.ExchangeReply{})
	if s = c.Next(now); s.Act != ActRest {
		t.Fatalf("next is %v with %+v, want a rest until the report is there", s.Act, s.Request)
	}
	c.Report(testLease(1, 0).ID, &protocol.SignedReport{Body: []byte("report")}, true)
	if s = c.Next(now); s.Act != ActSpeak || s.Request.Want != 1 || len(s.Request.Reports) != 1 {
		t.Fatalf("next is %v with %+v, want an exchange that reports one task and wants one", s.Act, s.Request)
	}
	c.Heard(now, &protocol.ExchangeReply{Answers: []protocol.ReportAnswer{{Lease: testLease(1, 0).ID}}})
	if s = c.Next(now); s.Act != ActSpeak || s.Request.Wait == 0 {
		t.Errorf("with a core free and nothing to report, next is %v with %+v, want an exchange that parks", s.Act, s.Request)
	}
}

// A pilot that cannot get rid of what it has done takes no more, until it can.
func TestAPilotTakesNoMoreThanItCanReport(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	c := newTestConversation(now)
	n := uint32(0)
	for {
		s := c.Next(now)
		if s.Act != ActSpeak || s.Request.Want == 0 {
			break
		}
		if n > 100 {
			t.Fatal("it takes tasks for ever, and none of them is reported")
		}
		var reply protocol.ExchangeReply
		for range s.Request.Want {
			reply.Leases = append(reply.Leases, testLease(n, 0))
			n++
		}
		c.Heard(now, &reply)
		for i := range reply.Leases {
			c.Ended(now, reply.Leases[i].ID)
		}
	}
	if n != 2*maxEnded {
		t.Errorf("it took %d tasks with two cores, want %d", n, 2*maxEnded)
	}
	for i := range uint32(2) {
		c.Report(testLease(i, 0).ID, &protocol.SignedReport{Body: []byte("report")}, true)
	}
	now.Time = now.Time.Add(company)
	if s := c.Next(now); s.Act != ActSpeak || len(s.Request.Reports) != 2 || s.Request.Want != 0 {
		t.Fatalf("next is %v with %+v, want an exchange with two reports that wants nothing", s.Act, s.Request)
	}
	c.Heard(now, &protocol.ExchangeReply{Answers: []protocol.ReportAnswer{{Lease: testLease(0, 0).ID}, {Lease: testLease(1, 0).ID, Code: protocol.CodeUnknown}}})
	c.Over(testLease(0, 0).ID)
	now.Time = now.Time.Add(time.Minute) // it pauses before it repeats the other
	if s := c.Next(now); s.Act != ActSpeak || s.Request.Want != 1 {
		t.Errorf("with one task less, next is %v with %+v, want one task to be wanted", s.Act, s.Request)
	}
}

// A report that is ready right after an exchange waits for company, but not for long,
// and not where nothing else may come.
func TestReportsOfAMomentShareAnExchange(t *testing.T) {
	begin := Instant{Time: time.Unix(1, 0)}
	reporting := func() *Conversation {
		c := newTestConversation(begin)
		c.Heard(begin, &protocol.ExchangeReply{Leases: []protocol.Lease{testLease(0, 0), testLease(1, 0)}})
		c.Ended(begin, testLease(0, 0).ID)
		if s := c.Next(begin); s.Act != ActSpeak || s.Request.Want != 1 {
			t.Fatalf("next is %v with %+v, want an exchange that wants one task", s.Act, s.Request)
		}
		c.Heard(begin, &protocol.ExchangeReply{Leases: []protocol.Lease{testLease(2, 0)}})
		c.Report(testLease(0, 0).ID, &protocol.SignedReport{Body: []byte("report")}, true)
		return c
	}
	now := begin
	now.Time = now.Time.Add(company / 2)

	c := reporting()
	s := c.Next(now)
	if s.Act != ActRest || s.Within != company/2 {
		t.Fatalf("next is %v for %v with %+v, want a rest of %v", s.Act, s.Within, s.Request, company/2)
	}
	c.Ended(now, testLease(1, 0).ID)
	if s = c.Next(now); s.Act != ActSpeak || len(s.Request.Reports) != 1 || s.Request.Want != 1 {
		t.Errorf("next is %v with %+v, want an exchange that reports one task and wants one", s.Act, s.Request)
	}

	c = reporting()
	c.Next(now) // rests
	now.Time = begin.Time.Add(company)
	if s = c.Next(now); s.Act != ActSpeak || len(s.Request.Reports) != 1 {
		t.Errorf("without company, next is %v with %+v, want an exchange that reports one task", s.Act, s.Request)
	}

	c = reporting()
	c.Drain()
	if s = c.Next(begin); s.Act != ActSpeak || len(s.Request.Reports) != 1 {
		t.Errorf("draining, next is %v with %+v, want an exchange that reports one task", s.Act, s.Request)
	}
}

// What was granted twice for the same cores runs one after the other.
func TestWhatThereIsNoRoomForWaits(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	overfull := func() *Conversation {
		c := newTestConversation(now)
		if s := c.Next(now); s.Request.Want != 2 {
			t.Fatalf("wants %d, want 2", s.Request.Want)
		}
		if got := begun(c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{testLease(0, 0), testLease(1, 0), testLease(2, 0)}})); !slices.Equal(got, []uint32{0, 1}) {
			t.Fatalf("begins %v with two cores, want 0 and 1", got)
		}
		return c
	}
	c := overfull()
	now.Time = now.Time.Add(time.Minute)
	s := c.Next(now)
	if s.Act != ActSpeak || s.Request.Want != 0 || len(s.Request.Held) != 3 || s.Request.Held[2].Phase != protocol.PhaseOffered {
		t.Errorf("next is %v with %+v, want an exchange that lists the third as offered", s.Act, s.Request)
	}
	effects := c.Ended(now, testLease(1, 0).ID)
	if s = c.Next(now); !slices.Equal(begun(effects), []uint32{2}) || s.Request != nil && s.Request.Want != 0 {
		t.Errorf("with a core free, begins %v and asks %+v; want 2, and nothing to be wanted", begun(effects), s.Request)
	}

	c = overfull()
	order := protocol.Order{Kind: protocol.OrderAbandon, Lease: testLease(2, 0).ID}
	if effects := c.Heard(now, &protocol.ExchangeReply{Orders: []protocol.Order{order}}); len(effects) != 0 {
		t.Errorf("what has not begun is stopped: %+v", effects)
	}
	now.Time = now.Time.Add(time.Minute)
	if s = c.Next(now); len(s.Request.Held) != 2 {
		t.Errorf("lists %+v, want what was abandoned to be gone", s.Request.Held)
	}

	c = overfull()
	c.Drain()
	if s = c.Next(now); len(s.Request.Held) != 2 || len(begun(s.Effects)) != 0 {
		t.Errorf("a pilot that drains begins %v and lists %+v", begun(s.Effects), s.Request.Held)
	}
}
