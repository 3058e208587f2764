package pilot

import (
	"testing"
	"time"

	"floe/protocol"
)

// A task that has ended is reported and its cores are offered in one exchange; its
// disk is offered once it is cleaned up.
func TestAnExchangeThatReportsAsksForMore(t *testing.T) {
	now := Instant{Time: time.Unix(1, 0)}
	c := NewConversation(now, ConversationConfig{
		Offer: protocol.Resources{Cores: 2, Memory: 4 * protocol.GB, Disk: 10 * protocol.GB}, Idle: time.Hour,
		Jitter: func(time.Duration) time.Duration { return 0 },
	})
	lease := func(n uint32) protocol.Lease {
		return protocol.Lease{ID: protocol.LeaseID{Index: 7, Ordinal: n}, Granted: protocol.Requirements{Cores: 1, Memory: protocol.GB, Disk: 4 * protocol.GB}}
	}
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
	if s = c.Next(now); s.Request == nil || s.Request.Want != 0 || s.Request.Free.Disk != 2*protocol.GB {
		t.Fatalf("with both cores busy, next is %v with %+v", s.Act, s.Request)
	}
	c.Report(lease(2).ID, &protocol.SignedReport{Body: []byte("report")}, true)
	if s = c.Next(now); s.Act != ActSpeak || s.Request.Free.Disk != 2*protocol.GB || s.Request.Free.Cores != 1 {
		t.Errorf("next is %v with %+v, want the disk of the task that is over to be free again", s.Act, s.Request)
	}
}
