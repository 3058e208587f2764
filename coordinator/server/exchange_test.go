package server

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

func TestATaskFromSubmissionToItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	d := r.submit(ada, 1, twoTasks)
	p := r.enrol("here")

	reply := p.mustSpeak(protocol.ExchangeRequest{Want: 4})
	if len(reply.Leases) != 1 {
		t.Fatalf("leases = %d, want only the task without parents", len(reply.Leases))
	}
	first := &reply.Leases[0]
	if first.Task != task(d, 0, 0) || first.TaskName != "make" || first.Attempt != 1 || first.JobCount != 1 || first.Submitter != "ada" || first.Passkey == "" {
		t.Errorf("lease = %+v", first)
	}
	if cmp.Diff(reply.Addresses, []string{"c1.example:443"}) != "" || reply.Leader != "c1.example:443" {
		t.Errorf("addresses %v, leader %s", reply.Addresses, reply.Leader)
	}
	if s := r.taskState(first.Task); s != protocol.TaskProcessing {
		t.Errorf("a leased task is %v", s)
	}
	part := protocol.FileRecord{Type: protocol.FileJobTemp, Name: "part", URL: "http://x/part", Size: 3, Digest: protocol.DigestOf([]byte("abc"))}
	reply = p.mustSpeak(protocol.ExchangeRequest{
		Held: []protocol.HeldLease{held(first, protocol.PhaseCopying)}, Want: 4,
		Reports: []protocol.SignedReport{p.report(first, protocol.VerdictOK, func(r *protocol.Report) {
			r.Outputs = []protocol.FileRecord{part}
			r.Statistics = []protocol.Statistic{{Name: "events", Value: 7}}
		})},
	})
	if len(reply.Orders) != 0 || reply.Answers[0].Code != protocol.CodeOK {
		t.Fatalf("answer to a report of a lease still listed: %v, orders %v", reply.Answers, reply.Orders)
	}
	if len(reply.Leases) != 1 || reply.Leases[0].TaskName != "use" {
		t.Fatalf("the child is not leased in the exchange that released it: %v", reply.Leases)
	}
	if diff := cmp.Diff([]protocol.FileRecord{part}, reply.Leases[0].Inputs); diff != "" {
		t.Errorf("the child's inputs are not its parent's record: %s", diff)
	}
	p.finish(&reply.Leases[0])

	var got protocol.Dataset
	r.mustAsk(ada, "GET", "/v1/datasets/1", nil, &got)
	if got.State != protocol.DatasetComplete || got.TaskCounts["ok"] != 2 || got.Owner != "ada" {
		t.Errorf("dataset = %+v", got)
	}
	var shown protocol.Task
	r.mustAsk(ada, "GET", "/v1/datasets/1/jobs/0/tasks/make", nil, &shown)
	if len(shown.Attempts) != 1 || !shown.Attempts[0].Accepted || shown.Attempts[0].Lease != first.ID.String() || shown.State != protocol.TaskOK {
		t.Errorf("task = %+v", shown)
	}
	var sums protocol.StatisticsReply
	r.mustAsk(ada, "GET", "/v1/datasets/1/statistics", nil, &sums)
	if len(sums.Statistics) != 2 || sums.Statistics[0].Sum != 7 || sums.Statistics[0].Task != "" || sums.Statistics[1].Task != "make" || sums.Used.Attempts != 2 {
		t.Errorf("statistics = %+v", sums)
	}
}

// parked is an exchange under way.
type parked struct {
	reply *protocol.ExchangeReply
	err   error
	done  chan struct{}
}

func (p *worker) park(request protocol.ExchangeRequest) *parked {
	x := &parked{done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.reply, x.err = p.speak(request)
	}()
	return x
}

func (x *parked) isDone() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

func TestParkedExchangesAreWokenByReleasedTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		var waiting []*parked
		for range 5 {
			waiting = append(waiting, r.enrol("here").park(protocol.ExchangeRequest{Want: 1, Wait: 240}))
		}
		synctest.Wait()
		for _, x := range waiting {
			if x.isDone() {
				t.Fatalf("an exchange did not park: %+v, %v", x.reply, x.err)
			}
		}
		var acquires atomic.Int64
		r.record.lead.Lock()
		r.record.before = func(c state.Command) error {
			if _, is := c.(*state.Acquire); is {
				acquires.Add(1)
			}
			return nil
		}
		r.record.lead.Unlock()
		r.submit(ada, 2, twoTasks)
		synctest.Wait()
		woken := 0
		for _, x := range waiting {
			if x.isDone() {
				woken++
				if x.err != nil || len(x.reply.Leases) != 1 {
					t.Errorf("woken exchange = %+v, %v", x.reply, x.err)
				}
			}
		}
		if woken != 2 || acquires.Load() != 2 {
			t.Errorf("two tasks woke %d exchanges, which tried %d times", woken, acquires.Load())
		}
		time.Sleep(240 * time.Second) //nolint:forbidigo // virtual time
		synctest.Wait()
		for _, x := range waiting {
			if !x.isDone() {
				t.Error("an exchange is parked longer than it asked for")
			} else if x.err != nil {
				t.Error(x.err)
			}
		}
	})
}

func TestParkedExchangeIsWokenForThePilotsOwnLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		op := r.person("op", "operator")
		r.submit(op, 1, twoTasks)
		p := r.enrol("here")
		l := p.take(1)[0]
		x := p.park(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}, Want: 1, Wait: 240})
		synctest.Wait()
		if x.isDone() {
			t.Fatal("it did not park")
		}
		r.mustAsk(op, "POST", "/v1/datasets/1/actions", protocol.ActionRequest{Action: "suspend", Jobs: "0"}, nil)
		synctest.Wait()
		if !x.isDone() || x.err != nil || len(x.reply.Orders) != 1 || x.reply.Orders[0].Kind != protocol.OrderAbandon || x.reply.Orders[0].Lease != l.ID {
			t.Errorf("parked exchange = %+v, %v; want an order to abandon %v at once", x.reply, x.err, l.ID)
		}
	})
}

func TestParkedExchangeIsAnsweredUnknownWhenLeadershipMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		x := r.enrol("here").park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		r.record.elect("c2")
		synctest.Wait()
		if !x.isDone() || protocol.CodeOf(x.err) != protocol.CodeUnknown {
			t.Errorf("parked exchange = %v, want unknown at once", x.err)
		}
	})
}

func TestALostGrantIsSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	lost := p.take(1)[0]
	reply := p.mustSpeak(protocol.ExchangeRequest{Want: 1})
	if diff := cmp.Diff([]protocol.Lease{lost}, reply.Leases); diff != "" {
		t.Errorf("a lease that the pilot does not list is not sent again (-first +second):\n%s", diff)
	}
	reply = p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&lost, protocol.PhaseStaging)}})
	if len(reply.Leases) != 0 || len(reply.Orders) != 0 {
		t.Errorf("a listed lease was answered with %v and %v", reply.Leases, reply.Orders)
	}
	p.finish(&lost)
	if reply = p.mustSpeak(protocol.ExchangeRequest{}); len(reply.Leases) != 0 {
		t.Errorf("a finished lease was sent again: %v", reply.Leases)
	}
}

func TestAForeignOrEndedLeaseIsAbandoned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 2, twoTasks)
	p, q := r.enrol("here"), r.enrol("here")
	mine, other := p.take(1)[0], q.take(1)[0]
	never := mine
	never.ID.Ordinal = 77
	for name, l := range map[string]protocol.Lease{"of another pilot": other, "never granted": never} {
		reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&mine, protocol.PhaseRunning), held(&l, protocol.PhaseRunning)}})
		want := []protocol.Order{{Kind: protocol.OrderAbandon, Lease: l.ID, Reason: "the lease is no longer current"}}
		if diff := cmp.Diff(want, reply.Orders); diff != "" {
			t.Errorf("%s: orders: %s", name, diff)
		}
	}
	// The pilot of the other one was not harmed by that.
	q.finish(&other)
}

func TestALeaderThatWasDeposedEndsNobodysWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	r.submit(ada, 2, twoTasks)
	p := r.enrol("here")
	granted := p.take(1)[0]
	elsewhere := granted // what a new leader has granted, and this one has not heard of
	elsewhere.ID.Index += 1000
	stranger := *p
	stranger.caller.Pilot = protocol.NewPilotID()
	lost := p.report(&elsewhere, protocol.VerdictOK)
	unknown := stranger.report(&elsewhere, protocol.VerdictOK)
	for _, test := range []struct {
		what  string
		speak func() error
	}{
		{"an exchange with a lease from elsewhere", func() error {
			_, err := p.speak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&granted, protocol.PhaseRunning), held(&elsewhere, protocol.PhaseRunning)}})
			return err
		}},
		{"a pilot that has enrolled elsewhere", func() error {
			_, err := stranger.speak(protocol.ExchangeRequest{})
			return err
		}},
		{"a report on a lease from elsewhere", func() error {
			_, err := p.speak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&granted, protocol.PhaseRunning)}, Reports: []protocol.SignedReport{lost}})
			return err
		}},
		{"a report on a lease from elsewhere, by a pass", func() error {
			site := transport.Caller{Kind: transport.Site, Site: p.caller.Site, Remote: remote}
			var reply protocol.LaunchReply
			// Its pilot is known elsewhere only; a spool forgets what is refused.
			err := r.callCBOR(site, "/v1/sites/launch", &protocol.LaunchRequest{Reports: []protocol.SignedReport{unknown}}, &reply)
			if err == nil && reply.Answers[0].Code == protocol.CodeUnknown {
				err = protocol.Errorf(protocol.CodeUnknown, "%s", reply.Answers[0].Reason)
			}
			return err
		}},
		{"a dataset that was submitted elsewhere", func() error {
			return r.ask(ada, "POST", "/v1/datasets/77/jobs", protocol.GrowRequest{Key: "12345678", Jobs: 1}, nil)
		}},
		{"a token that was made elsewhere", func() error {
			return r.ask(http.Header{"Authorization": {"Bearer " + r.cluster.NewToken(protocol.TokenUser).Credential()}}, "GET", "/v1/datasets", nil, nil)
		}},
	} {
		r.record.deposed.Store(true)
		if err := test.speak(); protocol.CodeOf(err) != protocol.CodeUnknown {
			t.Errorf("%s: %v, want unknown", test.what, err)
		}
		r.record.deposed.Store(false)
		if err := test.speak(); protocol.CodeOf(err) == protocol.CodeUnknown {
			t.Errorf("%s, at a leader: %v", test.what, err)
		}
	}
	r.record.deposed.Store(true)
	if resp := r.send(anonymous, ada, "GET", "/v1/datasets", nil); resp.Header.Get("Floe-Stale") != "yes" {
		t.Errorf("GET at a deposed leader = %d, not marked stale", resp.StatusCode)
	}
}

func TestAResetDuringTheRunMakesTheReportStale(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	d := r.submit(op, 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	var moved protocol.ActionReply
	r.mustAsk(op, "POST", "/v1/datasets/1/actions", protocol.ActionRequest{Action: "reset", States: []protocol.TaskState{protocol.TaskProcessing}}, &moved)
	if moved.Tasks != 1 || moved.Leases != 1 {
		t.Errorf("reset = %+v", moved)
	}
	reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}})
	if len(reply.Orders) != 1 || reply.Orders[0].Kind != protocol.OrderAbandon {
		t.Errorf("orders = %v, want abandon", reply.Orders)
	}
	again := p.take(1)[0]
	if again.Task != task(d, 0, 0) || again.ID == l.ID || again.Attempt != 2 {
		t.Errorf("after the reset: %+v", again)
	}
	if codes := p.deliver(p.report(&l, protocol.VerdictOK)); codes[0] != protocol.CodeStale {
		t.Errorf("report of the withdrawn attempt = %v, want stale", codes[0])
	}
	if s := r.taskState(again.Task); s != protocol.TaskProcessing {
		t.Errorf("the new attempt's task is %v", s)
	}
}

func TestReportsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p, other, elsewhere := r.enrol("here"), r.enrol("here"), r.enrol("elsewhere")
	l := p.take(1)[0]
	good := p.report(&l, protocol.VerdictOK)
	forged := other.report(&l, protocol.VerdictOK, func(r *protocol.Report) { r.Pilot = p.caller.Pilot })
	// A connection under another key than the record's proves nothing of the pilot.
	stranger := *p
	stranger.caller.KeyFingerprint = other.caller.KeyFingerprint
	unsigned := protocol.SignedReport{Body: good.Body}
	for _, test := range []struct {
		name   string
		sender *worker
		report protocol.SignedReport
		code   protocol.Code
	}{
		{"unsigned, through another pilot", other, unsigned, protocol.CodeBadRequest},
		{"unsigned, over a connection under another key", &stranger, unsigned, protocol.CodeBadRequest},
		{"no report at all", p, protocol.SignedReport{Body: []byte("nonsense")}, protocol.CodeBadRequest},
		{"another's passkey", p, p.report(&l, protocol.VerdictOK, func(r *protocol.Report) { r.Passkey = "guessed" }), protocol.CodeStale},
		{"no passkey", p, p.report(&l, protocol.VerdictOK, func(r *protocol.Report) { r.Passkey = "" }), protocol.CodeStale},
		{"signed by another pilot's key", other, forged, protocol.CodeBadRequest},
		{"changed after it was signed", other, protocol.SignedReport{Body: p.report(&l, protocol.VerdictNode).Body, Signature: good.Signature}, protocol.CodeBadRequest},
		{"of a pilot that does not hold the lease", other, other.report(&l, protocol.VerdictOK), protocol.CodeStale},
		{"through another site", elsewhere, good, protocol.CodeStale},
		{"of an unknown pilot", p, p.report(&l, protocol.VerdictOK, func(r *protocol.Report) { r.Pilot = "p-unknown" }), protocol.CodeStale},
		{"a verdict only coordinators give", p, p.report(&l, protocol.VerdictLost), protocol.CodeBadRequest},
	} {
		answer := test.sender.mustSpeak(protocol.ExchangeRequest{Reports: []protocol.SignedReport{test.report}}).Answers[0]
		if answer.Code != test.code {
			t.Errorf("report %s = %v, want %v", test.name, answer.Code, test.code)
		}
		// By the lease, a spool knows what was refused.
		if test.name != "no report at all" && answer.Lease != l.ID {
			t.Errorf("report %s is answered for lease %v", test.name, answer.Lease)
		}
		if s := r.taskState(l.Task); s != protocol.TaskProcessing {
			t.Fatalf("report %s moved the task to %v", test.name, s)
		}
	}
	// Any pilot of the same site may deliver it, and twice is once.
	if codes := other.deliver(good, good); cmp.Diff([]protocol.Code{protocol.CodeOK, protocol.CodeOK}, codes) != "" {
		t.Errorf("a good report through another pilot, twice = %v", codes)
	}
	var sums protocol.StatisticsReply
	r.mustAsk(r.person("eve", "viewer"), "GET", "/v1/datasets/1/statistics", nil, &sums)
	if sums.Used.Attempts != 1 || sums.Wasted.Attempts != 0 {
		t.Errorf("a report sent twice counts as %+v", sums)
	}
}

// The pilot's own connection was made with the key that would have signed: verifying
// the signature again would be most of what a report costs.
func TestAPilotsOwnConnectionProvesItsReports(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	if codes := p.deliver(protocol.SignedReport{Body: p.report(&l, protocol.VerdictOK).Body}); codes[0] != protocol.CodeOK {
		t.Errorf("a pilot's own report = %v, want ok", codes[0])
	}
}

func TestAnUnknownFateIsAnsweredUnknownAndRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	lost := errors.New("the entry may or may not be committed")
	r.record.after = func(c state.Command) error {
		if _, is := c.(*state.Report); is {
			return protocol.Errorf(protocol.CodeUnknown, "%v", lost)
		}
		return nil
	}
	report := p.report(&l, protocol.VerdictOK)
	reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseCopying)}, Reports: []protocol.SignedReport{report}})
	if reply.Answers[0].Code != protocol.CodeUnknown {
		t.Errorf("answer = %v, want unknown", reply.Answers[0])
	}
	r.record.after = nil
	if codes := p.deliver(report); codes[0] != protocol.CodeOK {
		t.Errorf("the repeated report = %v, want ok", codes[0])
	}
}

func TestLimitsOfAnExchange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.enrol("here")
	for _, test := range []struct {
		name    string
		request protocol.ExchangeRequest
		code    protocol.Code
		says    string
	}{
		{"too many held", protocol.ExchangeRequest{Held: make([]protocol.HeldLease, protocol.MaxHeld+1)}, protocol.CodeTooLarge, "limit 1024"},
		{"too many reports", protocol.ExchangeRequest{Reports: make([]protocol.SignedReport, protocol.MaxReports+1)}, protocol.CodeTooLarge, "limit 256"},
		{"too many digests", protocol.ExchangeRequest{Cached: make([]protocol.Digest, protocol.MaxCached+1)}, protocol.CodeTooLarge, "limit 64"},
		{"too long a wait", protocol.ExchangeRequest{Want: 1, Wait: protocol.MaxWait + 1}, protocol.CodeBadRequest, "limit 300"},
		{"a negative wait", protocol.ExchangeRequest{Want: 1, Wait: -1}, protocol.CodeBadRequest, "limit 300"},
		{"too large a log tail", protocol.ExchangeRequest{Logs: []protocol.LogTail{{Data: make([]byte, protocol.MaxLogTail+1)}}}, protocol.CodeTooLarge, "limit 65536"},
		{"a log from before its beginning", protocol.ExchangeRequest{Logs: []protocol.LogTail{{Offset: -1}}}, protocol.CodeTooLarge, ""},
		{"too large a message", protocol.ExchangeRequest{Reason: strings.Repeat("x", protocol.MaxExchangeBytes)}, protocol.CodeTooLarge, ""},
	} {
		_, err := p.speak(test.request)
		if protocol.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v %q", test.name, err, test.code, test.says)
		}
	}
}

func TestAPilotThatHasEndedMustEnrolAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	if _, err := p.speak(protocol.ExchangeRequest{Leaving: true, Reason: "idle"}); err != nil {
		t.Fatal(err)
	}
	if s := r.taskState(l.Task); s != protocol.TaskQueued {
		t.Errorf("the task of a pilot that left is %v, want queued", s)
	}
	if _, err := p.speak(protocol.ExchangeRequest{}); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a pilot that left speaks: %v, want unauthorized", err)
	}
	q := r.enrol("here")
	r.do(&state.RevokePilot{Pilot: q.caller.Pilot})
	if _, err := q.speak(protocol.ExchangeRequest{}); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a revoked pilot speaks: %v, want forbidden", err)
	}
	stranger := *q
	stranger.caller.Pilot = "p-stranger"
	if _, err := stranger.speak(protocol.ExchangeRequest{}); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a pilot that was never enrolled speaks: %v, want unauthorized", err)
	}
}

func TestADrainingPilotIsToldAndGivenNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	r.do(&state.DrainPilot{Pilot: p.caller.Pilot})
	reply := p.mustSpeak(protocol.ExchangeRequest{Want: 1, Wait: 60})
	if len(reply.Leases) != 0 || len(reply.Orders) != 1 || reply.Orders[0].Kind != protocol.OrderDrain {
		t.Errorf("leases %v, orders %v; want drain alone, at once", reply.Leases, reply.Orders)
	}
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.do(&state.PutSite{Site: "here"})
	ticket := r.cluster.NewToken(protocol.TokenPilot)
	if _, err := r.tryEnrol(ticket); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("enrol with a ticket nobody made: %v, want unauthorized", err)
	}
	r.do(&state.PutTicket{Site: "here", Hash: ticket.Secret.Digest(), Uses: 1, Expires: state.Hour})
	p, err := r.tryEnrol(ticket)
	if err != nil || p.caller.Site != "here" {
		t.Fatalf("enrol = %+v, %v", p, err)
	}
	if _, err := r.tryEnrol(ticket); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("enrol with a used ticket: %v, want unauthorized", err)
	}
}

// Reports and the wish for more work enter the log together: half of what one after
// the other costs.
func TestReportsAndTheWishForWorkAreProposedTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 8, twoTasks)
	p := r.enrol("here")
	leases := p.take(2)
	before := r.record.proposals.Load()
	reply := p.mustSpeak(protocol.ExchangeRequest{
		Want: 2, Held: []protocol.HeldLease{held(&leases[0], protocol.PhaseCopying), held(&leases[1], protocol.PhaseCopying)},
		Reports: []protocol.SignedReport{p.report(&leases[0], protocol.VerdictOK), p.report(&leases[1], protocol.VerdictOK)},
	})
	if len(reply.Answers) != 2 || len(reply.Leases) != 2 || len(reply.Orders) != 0 {
		t.Fatalf("reply = %+v, want two answers and two leases", reply)
	}
	for _, l := range reply.Leases {
		if l.TaskName != "use" {
			t.Errorf("lease of %s; the reports released the children, which come first", l.TaskName)
		}
	}
	if n := r.record.proposals.Load() - before; n != 1 {
		t.Errorf("%d proposals, want 1", n)
	}
}

// A pilot that has not heard of a lease of its own is sent that one, and no more than
// it has room for.
func TestALostGrantIsSentBeforeNewWork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 8, twoTasks)
	p := r.enrol("here")
	leases := p.take(2)
	reply := p.mustSpeak(protocol.ExchangeRequest{
		Want: 2, Held: []protocol.HeldLease{held(&leases[0], protocol.PhaseCopying)},
		Reports: []protocol.SignedReport{p.report(&leases[0], protocol.VerdictOK)},
	})
	if len(reply.Leases) != 1 || reply.Leases[0].ID != leases[1].ID {
		t.Errorf("leases = %+v, want the one that the pilot does not list", reply.Leases)
	}
}
