package server

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

// owner is a site that speaks of itself.
func (r *rig) owner(site protocol.SiteID) func(protocol.SiteRequest) *protocol.SiteReply {
	r.t.Helper()
	r.do(&state.SetFormat{Format: state.Format})
	caller := transport.Caller{Kind: transport.Site, Site: site, Remote: remote}
	return func(request protocol.SiteRequest) *protocol.SiteReply {
		r.t.Helper()
		reply := new(protocol.SiteReply)
		if err := r.callCBOR(caller, "/v1/sites/own", &request, reply); err != nil {
			r.t.Fatal(err)
		}
		return reply
	}
}

func banning(users ...protocol.UserID) *protocol.SitePolicy {
	return &protocol.SitePolicy{Ban: protocol.SiteWho{Users: users}}
}

func TestASitesOwnPolicyIsObeyed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testASitesOwnPolicyIsObeyed)
}

func testASitesOwnPolicyIsObeyed(t *testing.T) {
	r := newRig(t)
	ada := r.person("ada", "producer")
	p := r.enrol("here")
	own := r.owner("here")
	if reply := own(protocol.SiteRequest{Policy: banning("ada")}); !reply.Changed || reply.Orders.Policy == nil {
		t.Fatalf("a policy: %+v", reply)
	}
	if reply := own(protocol.SiteRequest{Policy: banning("ada")}); reply.Changed {
		t.Errorf("the same policy again: %+v", reply)
	}
	id := r.submit(ada, 1, twoTasks)
	if reply := p.mustSpeak(protocol.ExchangeRequest{Want: 1}); len(reply.Leases) != 0 {
		t.Errorf("a banned user's task was leased: %+v", reply.Leases)
	}
	explained := func() string {
		var e protocol.Explanation
		r.mustAsk(ada, "GET", "/v1/datasets/1/jobs/0/tasks/make/explain", nil, &e)
		return strings.Join(e.Lines, "\n")
	}
	if got := explained(); !strings.Contains(got, "the policy of site here: user ada is banned") {
		t.Errorf("explain does not name the policy: %s", got)
	}
	pass := &protocol.LaunchRequest{Shapes: []protocol.LaunchShape{{Name: "small", Offer: protocol.Resources{Cores: 1}, Room: 5}}}
	var launch protocol.LaunchReply
	if err := r.callCBOR(transport.Caller{Kind: transport.Site, Site: "here", Remote: remote}, "/v1/sites/launch", pass, &launch); err != nil || len(launch.Grants) != 0 {
		t.Errorf("launched for a banned user: %+v, %v", launch, err)
	}
	// A pilot that waits hears of it when the site changes its mind.
	waiting := p.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
	synctest.Wait()
	pass.Policy = new(protocol.SitePolicy)
	if err := r.callCBOR(transport.Caller{Kind: transport.Site, Site: "here", Remote: remote}, "/v1/sites/launch", pass, &launch); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if !waiting.isDone() || len(waiting.reply.Leases) != 1 || waiting.reply.Leases[0].Task.Dataset != id {
		t.Errorf("after the ban: %+v", waiting.reply)
	}
	err := r.callCBOR(transport.Caller{Kind: transport.Site, Site: "here", Remote: remote}, "/v1/sites/own", &protocol.SiteRequest{Policy: &protocol.SitePolicy{Share: 101}}, nil)
	if protocol.CodeOf(err) != protocol.CodeBadRequest || !strings.Contains(err.Error(), "share 101") {
		t.Errorf("a policy with a mistake: %v", err)
	}
	if err := r.callCBOR(p.caller, "/v1/sites/own", &protocol.SiteRequest{}, nil); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a pilot that speaks for its site: %v, want forbidden", err)
	}
}

func TestACapLetsTheNextOneInWhenALeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testACapLetsTheNextOneInWhenALeaseEnds)
}

func testACapLetsTheNextOneInWhenALeaseEnds(t *testing.T) {
	r := newRig(t)
	a, b := r.enrol("here"), r.enrol("here")
	own := r.owner("here")
	own(protocol.SiteRequest{Policy: &protocol.SitePolicy{Caps: protocol.SiteCaps{Cores: 1}}})
	r.submit(r.person("ada", "producer"), 4, twoTasks)
	reply := a.mustSpeak(protocol.ExchangeRequest{Want: 4})
	if len(reply.Leases) != 1 {
		t.Fatalf("%d leases under a cap of one core", len(reply.Leases))
	}
	waiting := b.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
	synctest.Wait()
	a.finish(&reply.Leases[0])
	synctest.Wait()
	if !waiting.isDone() || len(waiting.reply.Leases) != 1 {
		t.Errorf("when the lease had ended: %+v", waiting.reply)
	}
}

func TestOrdersAreTakenByPilotsAndPasses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	r.submit(op, 3, twoTasks)
	a, b := r.enrol("here"), r.enrol("here")
	own := r.owner("here")
	orders := func() (page protocol.SiteOrders) {
		r.mustAsk(op, "GET", "/v1/sites/here/orders", nil, &page)
		return page
	}
	if got := orders(); len(got.Orders) != 0 {
		t.Errorf("orders of a site without any: %+v", got)
	}
	reply := own(protocol.SiteRequest{Order: protocol.SiteReclaim, Within: 600, Reason: "exam week"})
	if !reply.Changed || len(reply.Orders.Orders) != 1 {
		t.Fatalf("reclaim: %+v", reply)
	}
	spoken := a.mustSpeak(protocol.ExchangeRequest{Want: 1})
	if len(spoken.Leases) != 0 || len(spoken.Orders) != 1 {
		t.Fatalf("a pilot of a reclaimed site was answered %+v", spoken)
	}
	o := spoken.Orders[0]
	if o.Kind != protocol.OrderStop || o.Within < 590 || o.Within > 600 || !strings.Contains(o.Reason, "exam week") {
		t.Errorf("order %+v, want to stop within 600 s", o)
	}
	if again := a.mustSpeak(protocol.ExchangeRequest{Obeyed: o.Number}); len(again.Orders) != 0 {
		t.Errorf("an order that was taken is given again: %+v", again.Orders)
	}
	got := orders().Orders[0]
	if got.Kind != protocol.SiteReclaim || got.By != "<site here>" || got.Taken != 1 || len(got.Waiting) != 1 || got.Waiting[0] != b.caller.Pilot || got.Pass != 0 {
		t.Errorf("who has taken it: %+v, want one of two pilots and no pass", got)
	}
	own(protocol.SiteRequest{Taken: o.Number})
	if got := orders().Orders[0]; got.Pass == 0 {
		t.Errorf("a pass took it, and nobody says so: %+v", got)
	}
	// An operator's resume does not take back what the site wants.
	if reply := r.act("/v1/sites/here/actions", protocol.SiteAction{Action: "pause"}); !reply.Changed {
		t.Errorf("pause = %+v", reply)
	}
	if reply := r.act("/v1/sites/here/actions", protocol.SiteAction{Action: "resume"}); !strings.Contains(reply.Detail, "still the order to reclaim from its own people") {
		t.Errorf("resume = %+v", reply)
	}
	if spoken := b.mustSpeak(protocol.ExchangeRequest{Want: 1}); len(spoken.Leases) != 0 {
		t.Errorf("a pilot of a reclaimed site got %+v", spoken.Leases)
	}
	own(protocol.SiteRequest{Order: protocol.SiteResume})
	if spoken := b.mustSpeak(protocol.ExchangeRequest{Want: 1}); len(spoken.Leases) != 1 {
		t.Errorf("after the site's own resume: %+v", spoken)
	}
	if err := r.ask(op, "POST", "/v1/sites/here/actions", protocol.SiteAction{Action: "reclaim", Within: 5}, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("reclaim within 5 s: %v, want bad request", err)
	}
}

// A leader opens and closes sites by its clock; record time closes them without one.
func TestHoursOpenAndCloseASite(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("here")
	own := r.owner("here")
	now := time.Now()
	opens, closes := now.Add(time.Hour).Unix(), now.Add(3*time.Hour).Unix()
	policy := &protocol.SitePolicy{Timed: true, Hours: []protocol.Window{{From: opens, To: closes}}}
	policy.Downtimes = []protocol.Downtime{{Number: 1, Window: protocol.Window{From: closes - 600, To: closes}, Reason: "power"}}
	own(protocol.SiteRequest{Policy: policy})
	site := func() (s state.Site) {
		r.record.Read(func(m *state.Machine) { s, _ = m.Site("here") })
		return s
	}
	if s := site(); !strings.HasPrefix(s.Opening.Closed, "outside of its hours until ") {
		t.Errorf("an hour before it opens: %+v", s.Opening)
	}
	term := &Term{core: r.core}
	look := func(at int64) {
		t.Helper()
		for _, c := range term.openings(time.Unix(at, 0), nil) {
			r.do(c)
		}
	}
	look(opens)
	s := site()
	if left := s.Opening.Ends - s.Opening.NextDown; s.Opening.Closed != "" || left < -state.Second || left > state.Second || s.Opening.Ends == 0 {
		t.Errorf("when it opens: %+v", s.Opening)
	}
	if again := term.openings(time.Unix(opens+1, 0), nil); len(again) != 0 {
		t.Errorf("a second later, the leader proposes %+v", again[0])
	}
	look(closes - 600)
	if s := site(); !s.Opening.Down || !strings.Contains(s.Opening.Closed, "downtime 1 until ") || !strings.HasSuffix(s.Opening.Closed, ": power") {
		t.Errorf("in the downtime: %+v", s.Opening)
	}
	look(closes)
	if s := site(); s.Opening.Down || !strings.Contains(s.Opening.Closed, "has not said when they begin again") {
		t.Errorf("behind the last hours that are known: %+v", s.Opening)
	}
}

func TestWhoRanOnANode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer", "ice")
		p := r.enrol("here")
		r.enrol("there") // of the same name, with nothing
		before := time.Now().UnixMilli()
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		id := r.submit(ada, 1, twoTasks)
		l := p.take(1)[0]
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		at := time.Now().UnixMilli()
		who := func(host string, at int64, more string) []protocol.Ran {
			var page protocol.RanPage
			r.mustAsk(ada, "GET", fmt.Sprintf("/v1/attempts?host=%s&at=%d%s", host, at, more), nil, &page)
			return page.Attempts
		}
		if got := who("node", at, ""); len(got) != 1 || got[0].User != "ada" || got[0].Task.Dataset != id || got[0].Name != "make" || got[0].Pilot != p.caller.Pilot || got[0].End != 0 {
			t.Errorf("while it runs: %+v", got)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		p.finish(&l)
		if got := who("node.example.org", at, "&site=here"); len(got) != 1 || got[0].End <= at || got[0].Verdict != "ok" || got[0].User != "ada" {
			t.Errorf("when it has ended: %+v", got)
		}
		for name, got := range map[string][]protocol.Ran{
			"before it began": who("node", before, ""), "behind its end": who("node", time.Now().Add(time.Second).UnixMilli(), ""),
			"on another node": who("other", at, ""), "at another site": who("node", at, "&site=there"),
		} {
			if len(got) != 0 {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}
