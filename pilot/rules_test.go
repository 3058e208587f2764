package pilot

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/sitelog"
)

// A pilot keeps to its site's policy, whatever it is leased.
func TestAPilotRefusesWhatItsSiteForbids(t *testing.T) {
	now := Instant{Time: time.Unix(1_000_000, 0)}
	c := newTestConversation(now)
	c.Rule(&protocol.SitePolicy{Ban: protocol.SiteWho{Users: []protocol.UserID{"eve"}}})
	good, bad := testLease(0, 0), testLease(1, 0)
	good.Submitter, bad.Submitter = "ann", "eve"
	effects := c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{good, bad}})
	if len(effects) != 2 || effects[0].Refusal != "" || effects[1].Kind != EffectBegin || effects[1].Refusal != "user eve is banned" {
		t.Fatalf("effects %+v", effects)
	}
	c.Report(bad.ID, &protocol.SignedReport{Body: []byte("report")}, true)
	now.Time = now.Time.Add(company)
	if s := c.Next(now); s.Act != ActSpeak || s.Request.Want != 0 || len(s.Request.Reports) != 1 {
		t.Errorf("next is %v with %+v, want a report and no wish for more of that", s.Act, s.Request)
	}
	c.Heard(now, &protocol.ExchangeReply{Answers: []protocol.ReportAnswer{{Lease: bad.ID}}})
	c.Over(bad.ID)
	now.Time = now.Time.Add(refusesFor)
	if s := c.Next(now); s.Act != ActSpeak || s.Request.Want != 1 {
		t.Errorf("later, next is %v with %+v, want it to ask again", s.Act, s.Request)
	}
}

// A pilot leaves when its site closes: behind what runs where the hours are over, and
// without it in a downtime. What would run until then it says and keeps to.
func TestAPilotLeavesWhenItsSiteCloses(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name   string
		policy protocol.SitePolicy
		stops  int
	}{
		{"hours", protocol.SitePolicy{Timed: true, Hours: []protocol.Window{{From: 999_000, To: 1_007_200}}}, 0},
		{"downtime", protocol.SitePolicy{Downtimes: []protocol.Downtime{{Number: 1, Window: protocol.Window{From: 1_007_200, To: 1_009_000}}}}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := Instant{Time: begin}
			c := newTestConversation(now)
			c.Rule(&test.policy)
			if s := c.Next(now); s.Request.Free.Remaining != 7200 {
				t.Errorf("two hours before the end, %d s remain", s.Request.Free.Remaining)
			}
			short, long := testLease(0, 0), testLease(1, 0)
			short.Granted.Walltime, long.Granted.Walltime = 7200, 7300
			effects := c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{short, long}})
			if len(effects) != 2 || effects[0].Refusal != "" || !strings.Contains(effects[1].Refusal, "until after the site closes, at 1970-01-12 15:46 UTC") {
				t.Fatalf("effects %+v", effects)
			}
			c.Over(long.ID)
			c.Next(now)
			now.Time = begin.Add(2 * time.Hour)
			s := c.Next(now)
			stops := 0
			for _, e := range s.Effects {
				if e.Kind == EffectStop && errors.Is(e.Cause, payload.ErrDrain) {
					stops++
				}
			}
			if stops != test.stops {
				t.Errorf("%d payloads are ended, want %d", stops, test.stops)
			}
			c.Over(short.ID)
			if s := c.Next(now); s.Act != ActLeave {
				t.Errorf("with nothing left to do, next is %v", s.Act)
			}
		})
	}
}

// An order to the site is followed once, and the coordinators are told that it was.
func TestAPilotFollowsOrdersToItsSite(t *testing.T) {
	now := Instant{Time: time.Unix(1_000_000, 0)}
	c := newTestConversation(now)
	running, done := testLease(0, 0), testLease(1, 0)
	c.Heard(now, &protocol.ExchangeReply{Leases: []protocol.Lease{running, done}})
	c.Ended(now, done.ID)
	pause := protocol.Order{Kind: protocol.OrderPause, Number: 4}
	if effects := c.Heard(now, &protocol.ExchangeReply{Orders: []protocol.Order{pause}}); len(effects) != 0 {
		t.Errorf("a pause does %+v", effects)
	}
	if s := c.Next(now); s.Act != ActSpeak || s.Request.Obeyed != 4 || s.Request.Want != 1 {
		t.Errorf("next is %v with %+v, want order 4 to be taken", s.Act, s.Request)
	}
	reclaim := protocol.Order{Kind: protocol.OrderStop, Number: 7, Within: 600, Reason: "exams"}
	effects := c.Heard(now, &protocol.ExchangeReply{Orders: []protocol.Order{reclaim}})
	var within *payload.DrainWithin
	if len(effects) != 1 || effects[0].Lease != running.ID || !errors.Is(effects[0].Cause, payload.ErrDrain) || !errors.As(effects[0].Cause, &within) || within.Error() != "the pilot leaves within 9m0s" {
		t.Fatalf("a reclaim within 10 min does %+v, want what runs to have 9 of them, and what has ended to be stored", effects)
	}
	if effects := c.Heard(now, &protocol.ExchangeReply{Orders: []protocol.Order{reclaim}}); len(effects) != 0 {
		t.Errorf("the same order again does %+v", effects)
	}
	if s := c.Next(now); s.Act != ActSpeak || s.Request.Obeyed != 7 || s.Request.Want != 0 {
		t.Errorf("next is %v with %+v", s.Act, s.Request)
	}
}

// What is refused costs the task nothing; what runs is in the site's log.
func TestWhatASiteForbidsIsGivenBackAndWhatRunsIsLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := json.Marshal(&protocol.SitePolicy{Ban: protocol.SiteWho{Groups: []protocol.GroupID{"fire"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFakeCoordinators(t)
	ran := f.lease(document("true", ""), func(l *protocol.Lease) { l.Submitter, l.Group = "ann", "ice" })
	refused := f.lease(document("touch "+dir+"/ran", ""), func(l *protocol.Lease) { l.Submitter, l.Group = "eve", "fire" })
	p := f.newPilot(func(c *Config) {
		c.Policies, c.SiteLog = []string{filepath.Join(dir, "absent.json"), filepath.Join(dir, "policy.json")}, filepath.Join(dir, "who")
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	f.answer = func(*protocol.Report, int) protocol.Code {
		if len(f.ended) == 1 { // the other one was settled before
			stop()
		}
		return protocol.CodeOK
	}
	if err := p.live(ctx); err != nil {
		t.Fatal(err)
	}
	got := map[protocol.LeaseID]*protocol.Report{}
	for _, r := range f.reports() {
		got[r.Lease] = r
	}
	if r := got[ran.ID]; r == nil || r.Verdict != protocol.VerdictOK {
		t.Errorf("what the site allows: %+v", r)
	}
	if r := got[refused.ID]; r == nil || r.Verdict != protocol.VerdictPreempted || r.Evidence != "the site's policy forbids it: group fire is banned" {
		t.Errorf("what it forbids: %+v", r)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("what the site forbids has run")
	}
	files, err := filepath.Glob(filepath.Join(dir, "who", "open", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the site's log: %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil || strings.Count(string(text), "\n") != 2 {
		t.Fatalf("the site's log: %q, %v; want a line for the begin and one for the end", text, err)
	}
	var end sitelog.Entry
	if err := json.Unmarshal([]byte(strings.Split(string(text), "\n")[1]), &end); err != nil {
		t.Fatal(err)
	}
	all, damaged, err := sitelog.Read(filepath.Join(dir, "who"), sitelog.Query{At: time.UnixMilli(end.Begin)})
	if err != nil || damaged != 0 || len(all) != 1 || all[0].User != "ann" || all[0].Lease != ran.ID || all[0].Verdict != "ok" || all[0].Pilot != f.id || all[0].Task != "make" {
		t.Errorf("who ran then: %+v, %d damaged, %v", all, damaged, err)
	}
}

func TestAPilotWithoutItsPolicyDoesNotBegin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"damaged": "{", "wrong": `{"share": 101}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"absent", "damaged", "wrong"} {
		f := newFakeCoordinators(t)
		p := f.newPilot(func(c *Config) { c.Policies = []string{filepath.Join(dir, name)} })
		if err := p.live(t.Context()); err == nil || !strings.Contains(err.Error(), "the site's policy, without which nothing runs here") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
