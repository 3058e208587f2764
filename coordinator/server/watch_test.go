package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/state"
	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// quiet lets virtual time pass without a word from any pilot.
func quiet(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual time
	synctest.Wait()
}

func TestSilentLeasesLapse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 2, twoTasks)
		p := r.enrol("here")
		leases := p.take(2)
		running, offered := &leases[0], &leases[1]
		p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(running, protocol.PhaseRunning)}})
		// The second was sent again and may have been lost again.
		quiet(r.Timing.Offer - 2*time.Second)
		if s := r.taskState(offered.Task); s != protocol.TaskProcessing {
			t.Errorf("an offer within its time is %v", s)
		}
		quiet(4 * time.Second)
		if s := r.taskState(offered.Task); s != protocol.TaskQueued {
			t.Errorf("the task of an offer nobody took up is %v, want queued", s)
		}
		if s := r.taskState(running.Task); s != protocol.TaskProcessing {
			t.Errorf("a renewed lease is %v before its term", s)
		}
		quiet(r.Timing.Lease - r.Timing.Offer)
		if s := r.taskState(running.Task); s != protocol.TaskQueued {
			t.Errorf("the task of a silent lease is %v, want queued", s)
		}
		// Its pilot comes back before anybody has claimed it.
		reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(running, protocol.PhaseRunning)}})
		if len(reply.Orders) != 0 || r.taskState(running.Task) != protocol.TaskProcessing {
			t.Errorf("a lapsed lease whose pilot is back: orders %v, task %v", reply.Orders, r.taskState(running.Task))
		}
		p.finish(running)
	})
}

func TestALapsedLeaseThatWasClaimedIsAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 1, twoTasks)
		p := r.enrol("here")
		l := p.take(1)[0]
		quiet(r.Timing.Offer + 2*time.Second)
		q := r.enrol("there")
		claimed := q.take(1)[0]
		reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}})
		if len(reply.Orders) != 1 || reply.Orders[0].Kind != protocol.OrderAbandon {
			t.Errorf("orders = %v, want abandon", reply.Orders)
		}
		if codes := p.deliver(p.report(&l, protocol.VerdictOK)); codes[0] != protocol.CodeStale {
			t.Errorf("its report = %v, want stale", codes[0])
		}
		q.finish(&claimed)
	})
}

// A pilot that was silent reports while another asks for work: either its report
// counts, or the other has the task, never both and never neither.
func TestAReportAndAClaimAtOnce(t *testing.T) {
	t.Parallel()
	counted := 0
	for range 40 {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.submit(r.person("ada", "producer"), 1, strings.Split(twoTasks, "  - name: use")[0])
			p, q := r.enrol("here"), r.enrol("there")
			l := p.take(1)[0]
			quiet(r.Timing.Offer + 2*time.Second)
			var codes []protocol.Code
			var reply *protocol.ExchangeReply
			var both sync.WaitGroup
			both.Go(func() { codes = p.deliver(p.report(&l, protocol.VerdictOK)) })
			both.Go(func() { reply = q.mustSpeak(protocol.ExchangeRequest{Want: 1}) })
			both.Wait()
			accepted := codes[0] == protocol.CodeOK
			if accepted == (len(reply.Leases) == 1) || !accepted && codes[0] != protocol.CodeStale {
				t.Errorf("the report is answered %v, and the claim with %d leases", codes[0], len(reply.Leases))
			}
			if accepted {
				counted++
			} else {
				q.finish(&reply.Leases[0])
			}
			if s := r.taskState(l.Task); s != protocol.TaskOK {
				t.Errorf("in the end the task is %v", s)
			}
		})
	}
	t.Logf("in %d of 40 rounds the report was first", counted)
}

func TestRenewedLeasesStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 1, twoTasks)
		p := r.enrol("here")
		l := p.take(1)[0]
		for range 30 {
			quiet(time.Minute)
			p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}})
		}
		if s := r.taskState(l.Task); s != protocol.TaskProcessing {
			t.Errorf("after half an hour of renewals the task is %v", s)
		}
	})
}

func TestSilentPilotsAreGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		eve := r.person("eve", "viewer")
		p := r.enrol("here")
		count := func() int {
			var page protocol.PilotPage
			r.mustAsk(eve, "GET", "/v1/pilots", nil, &page)
			return len(page.Pilots)
		}
		quiet(r.Timing.Pilot - 2*time.Second)
		if n := count(); n != 1 {
			t.Errorf("%d pilots before the time", n)
		}
		quiet(4 * time.Second)
		if n := count(); n != 0 {
			t.Errorf("%d pilots after the time", n)
		}
		if _, err := p.speak(protocol.ExchangeRequest{}); protocol.CodeOf(err) != protocol.CodeUnauthorized {
			t.Errorf("it speaks: %v, want to be told to enrol again", err)
		}
	})
}

// The file is then at one of two names: the pilot may have died before or after it
// gave the final one. People are told both.
func TestACopiedTaskIsOKWithoutAWordFromItsPilot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		id := r.submit(ada, 1, twoTasks)
		p := r.enrol("here")
		l := p.take(1)[0]
		file := protocol.FileRecord{Type: protocol.FilePermanent, Name: "out", URL: "http://x/out.floe-1", Published: "http://x/out", Digest: protocol.DigestOf([]byte("x")), Size: 1}
		copied := func(r *protocol.Report) { r.Cleaned, r.Outputs = false, []protocol.FileRecord{file} }
		if codes := p.deliver(p.report(&l, protocol.VerdictOK, copied)); codes[0] != protocol.CodeOK || r.taskState(l.Task) != protocol.TaskCopied {
			t.Fatalf("report = %v, task %v", codes, r.taskState(l.Task))
		}
		quiet(r.Timing.Lease + 2*time.Second)
		if s := r.taskState(l.Task); s != protocol.TaskOK {
			t.Errorf("it is %v, want ok", s)
		}
		var page protocol.OutputPage
		r.mustAsk(ada, "GET", fmt.Sprintf("/v1/datasets/%d/outputs", id), nil, &page)
		want := []protocol.Output{{Task: l.TaskName, Name: "out", URL: file.URL, Intended: file.Published, Size: 1, Digest: file.Digest}}
		if diff := cmp.Diff(want, page.Outputs); diff != "" {
			t.Errorf("outputs (-want +got):\n%s", diff)
		}
	})
}

func TestANewLeaderGivesEveryLeaseAFullTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 1, twoTasks)
		l := r.enrol("here").take(1)[0]
		quiet(r.Timing.Offer - 5*time.Second)
		r.record.elect("c2")
		quiet(time.Hour) // what it hears meanwhile, this node does not know
		if s := r.taskState(l.Task); s != protocol.TaskProcessing {
			t.Errorf("a follower let a lease lapse: %v", s)
		}
		r.record.elect("c1")
		quiet(r.Timing.Lease - 5*time.Second)
		if s := r.taskState(l.Task); s != protocol.TaskProcessing {
			t.Errorf("a new leader let a lease lapse before a full term: %v", s)
		}
		quiet(10 * time.Second)
		if s := r.taskState(l.Task); s != protocol.TaskQueued {
			t.Errorf("after a full term it is %v, want queued", s)
		}
	})
}

// A stalled process has heard nothing, whatever was said. The stall is made by
// holding up the leader's goroutine in a proposal.
func TestAStalledLeaderGivesEveryLeaseAFullTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 2, twoTasks)
		p := r.enrol("here")
		leases := p.take(2)
		p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&leases[1], protocol.PhaseRunning)}})
		r.record.lead.Lock()
		r.record.before = func(c state.Command) error {
			if _, is := c.(*state.Expire); is {
				time.Sleep(r.Timing.Lease) //nolint:forbidigo // virtual time: the disk hangs
			}
			return nil
		}
		r.record.lead.Unlock()
		quiet(r.Timing.Offer + r.Timing.Lease + 10*time.Second)
		if s := r.taskState(leases[0].Task); s != protocol.TaskQueued {
			t.Errorf("the silent offer is %v, want queued", s)
		}
		if s := r.taskState(leases[1].Task); s != protocol.TaskProcessing {
			t.Errorf("a lease whose renewals may have been missed is %v", s)
		}
		quiet(r.Timing.Lease + r.Timing.Lease)
		if s := r.taskState(leases[1].Task); s != protocol.TaskQueued {
			t.Errorf("after a full term it is %v, want queued", s)
		}
	})
}

func TestAnExpiryThatWasNotCommittedIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 1, twoTasks)
		l := r.enrol("here").take(1)[0]
		failures := 3
		r.record.lead.Lock()
		r.record.before = func(c state.Command) error {
			if _, is := c.(*state.Expire); is && failures > 0 {
				failures--
				return protocol.Errorf(protocol.CodeBusy, "too many proposals")
			}
			return nil
		}
		r.record.lead.Unlock()
		quiet(r.Timing.Offer + 10*time.Second)
		if s := r.taskState(l.Task); s != protocol.TaskQueued || failures != 0 {
			t.Errorf("it is %v with %d failures left, want queued", s, failures)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		s, err := New(r.Config)
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// TestCachesAreSummedUp: what pilots have done under this leader, once; each pilot's
// figures are shown as it says them.
func TestCachesAreSummedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		synctest.Wait() // its term has begun: these pilots come after
		p, q := r.enrol("here"), r.enrol("there")
		say := func(x *worker, hits uint64, saved protocol.ByteSize) {
			t.Helper()
			x.mustSpeak(protocol.ExchangeRequest{Cache: &protocol.CacheFigures{Hits: hits, Misses: 1, Saved: saved}})
		}
		say(p, 1, 10)
		say(p, 3, 30)
		say(p, 3, 30)
		say(q, 5, 50)
		p.mustSpeak(protocol.ExchangeRequest{}) // nothing new
		if all := r.Caches(); all.Hits != 8 || all.Misses != 2 || all.Saved != 80 {
			t.Errorf("all caches: %+v", all)
		}
		// A leader that has just begun has not seen what came before.
		r.core.watch.reset(time.Now(), nil, []*state.Pilot{{ID: p.caller.Pilot}})
		say(p, 10, 100)
		if all := r.Caches(); all.Hits != 8 {
			t.Errorf("what was done before counts again: %+v", all)
		}
		say(p, 12, 120)
		if all := r.Caches(); all.Hits != 10 || all.Saved != 100 {
			t.Errorf("after that: %+v", all)
		}
		if of, _ := r.core.watch.caches(p.caller.Pilot); of == nil || of.Hits != 12 {
			t.Errorf("the pilot's own figures: %+v", of)
		}
		if _, err := p.speak(protocol.ExchangeRequest{Cache: &protocol.CacheFigures{Hits: 1 << 60}}); protocol.CodeOf(err) != protocol.CodeBadRequest {
			t.Errorf("figures that cannot be: %v", err)
		}
	})
}
