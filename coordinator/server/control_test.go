package server

import (
	"strings"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
)

// act asks for an action that must be done.
func (r *rig) act(target string, body any) protocol.DoneReply {
	r.t.Helper()
	var reply protocol.DoneReply
	r.mustAsk(r.person("op", "admin"), "POST", target, body, &reply)
	return reply
}

func TestADrainedPilotFinishesAndGetsNoMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 3, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	target := "/v1/pilots/" + string(p.caller.Pilot) + "/actions"
	if got := r.act(target, protocol.PilotAction{Action: "drain", Reason: "new kernel"}); !got.Changed || got.Pilots != 1 || got.Leases != 0 {
		t.Errorf("drain = %+v", got)
	}
	if got := r.act(target, protocol.PilotAction{Action: "drain"}); got.Changed {
		t.Errorf("drain again = %+v, want no change", got)
	}
	reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}, Want: 1})
	if len(reply.Leases) != 0 || len(reply.Orders) != 1 || reply.Orders[0].Kind != protocol.OrderDrain {
		t.Errorf("a draining pilot was answered %+v", reply)
	}
	p.finish(&l)
	if got := r.act(target, protocol.PilotAction{Action: "undrain"}); !got.Changed {
		t.Errorf("undrain = %+v", got)
	}
	p.take(1)
}

func TestARevokedPilotIsBarredAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p, other := r.enrol("here"), r.enrol("here")
	l := p.take(1)[0]
	target := "/v1/pilots/" + string(p.caller.Pilot) + "/actions"
	if got := r.act(target, protocol.PilotAction{Action: "revoke"}); !got.Changed || got.Leases != 1 {
		t.Errorf("revoke = %+v", got)
	}
	if _, err := p.speak(protocol.ExchangeRequest{Reports: []protocol.SignedReport{p.report(&l, protocol.VerdictOK)}}); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a revoked pilot's exchange: %v, want forbidden", err)
	}
	if again := other.take(1); again[0].Task != l.Task || again[0].Attempt != 2 {
		t.Errorf("another pilot got %+v, want the task that the revoked one held", again[0])
	}
	if err := r.ask(r.person("op", "admin"), "POST", "/v1/pilots/nobody/actions", protocol.PilotAction{Action: "drain"}, nil); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Errorf("drain of nobody: %v, want not found", err)
	}
}

func TestSitesArePausedDrainedAndRevoked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	r.do(&state.SetFormat{Format: state.Format})
	r.submit(op, 3, twoTasks)
	a, b := r.enrol("here"), r.enrol("here")
	away := r.enrol("there")
	const target = "/v1/sites/here/actions"
	if got := r.act(target, protocol.SiteAction{Action: "pause"}); !got.Changed {
		t.Errorf("pause = %+v", got)
	}
	if reply := a.mustSpeak(protocol.ExchangeRequest{Want: 1}); len(reply.Leases) != 0 || len(reply.Orders) != 1 || reply.Orders[0].Kind != protocol.OrderPause {
		t.Errorf("a pilot of a paused site was answered %+v", reply)
	}
	if got := r.act(target, protocol.SiteAction{Action: "resume"}); !got.Changed {
		t.Errorf("resume = %+v", got)
	}
	l := a.take(1)[0]
	if got := r.act(target, protocol.SiteAction{Action: "drain", Reason: "power"}); !got.Changed || got.Pilots != 2 {
		t.Errorf("drain = %+v, want two pilots", got)
	}
	if got := r.act(target, protocol.SiteAction{Action: "drain"}); got.Changed || got.Pilots != 0 {
		t.Errorf("drain again = %+v, want no change", got)
	}
	for _, p := range []*worker{a, b} {
		if reply := p.mustSpeak(protocol.ExchangeRequest{Held: []protocol.HeldLease{held(&l, protocol.PhaseRunning)}}); len(reply.Orders) == 0 || reply.Orders[len(reply.Orders)-1].Kind != protocol.OrderDrain {
			t.Errorf("a pilot of a draining site was answered %+v", reply)
		}
	}
	if reply := away.mustSpeak(protocol.ExchangeRequest{}); len(reply.Orders) != 0 {
		t.Errorf("a pilot of another site was answered %+v", reply)
	}
	if got := r.act(target, protocol.SiteAction{Action: "revoke"}); !got.Changed || got.Pilots != 2 || got.Leases != 1 {
		t.Errorf("revoke = %+v", got)
	}
	if _, err := b.speak(protocol.ExchangeRequest{}); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a pilot of a revoked site: %v, want forbidden", err)
	}
	if err := r.ask(op, "POST", target, protocol.SiteAction{Action: "resume"}, nil); protocol.CodeOf(err) != protocol.CodeConflict {
		t.Errorf("resume of a revoked site: %v, want conflict", err)
	}
	if err := r.ask(op, "POST", "/v1/sites/nowhere/actions", protocol.SiteAction{Action: "pause"}, nil); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Errorf("pause of nowhere: %v, want not found", err)
	}
}

func TestNodesAreListedExcludedAndReleased(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	op := r.person("op", "operator")
	r.do(&state.SetFormat{Format: state.Format})
	r.submit(op, 1, twoTasks)
	p := r.enrol("here")
	l := p.take(1)[0]
	p.deliver(p.report(&l, protocol.VerdictNode))
	list := func(query string) (page protocol.NodePage) {
		r.mustAsk(op, "GET", "/v1/nodes"+query, nil, &page)
		return page
	}
	if got := list("").Nodes; len(got) != 0 {
		t.Errorf("a node that failed once is listed: %+v", got)
	}
	if got := list("?all=true").Nodes; len(got) != 1 || got[0].State != "watched" || got[0].Failures != 1 || got[0].Pilots != 1 {
		t.Errorf("all nodes = %+v", got)
	}
	const target = "/v1/sites/here/nodes"
	if got := r.act(target, protocol.NodeAction{Action: "exclude", Host: "node", Reason: "fan"}); !got.Changed {
		t.Errorf("exclude = %+v", got)
	}
	if got := r.act(target, protocol.NodeAction{Action: "exclude", Host: "node2", GPUs: true, Reason: "dust"}); !got.Changed {
		t.Errorf("exclude = %+v", got)
	}
	if reply := p.mustSpeak(protocol.ExchangeRequest{Want: 1}); len(reply.Leases) != 0 {
		t.Error("an excluded node was given a task")
	}
	first := list("?limit=1")
	rest := list("?limit=1&cursor=" + first.Next)
	if got := append(first.Nodes, rest.Nodes...); len(got) != 2 || rest.Next != "" || !got[0].GPUs || got[0].Host != "node2" || got[0].By != "op" ||
		got[1].Host != "node" || got[1].Reason != "fan" || got[1].State != "excluded" {
		t.Errorf("excluded nodes = %+v, then %+v", first, rest)
	}
	if got := list("?site=there").Nodes; len(got) != 0 {
		t.Errorf("nodes of another site = %+v", got)
	}
	if got := r.act(target, protocol.NodeAction{Action: "release", Host: "node"}); !got.Changed {
		t.Errorf("release = %+v", got)
	}
	if got := r.act(target, protocol.NodeAction{Action: "release", Host: "node"}); got.Changed {
		t.Errorf("release again = %+v, want no change", got)
	}
	p.take(1)
}

func TestTokensAreListedAndRevoked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.person("root", "admin")
	var made, invited protocol.TokenReply
	r.mustAsk(root, "POST", "/v1/tokens", protocol.TokenRequest{Role: "producer", Name: "ada"}, &made)
	r.mustAsk(root, "POST", "/v1/tokens", protocol.TokenRequest{Role: "site", Name: "mill"}, &invited)
	ada, err := protocol.ParseToken(made.Token)
	if err != nil {
		t.Fatal(err)
	}
	header := map[string][]string{"Authorization": {"Bearer " + ada.Credential()}}
	r.mustAsk(header, "GET", "/v1/datasets", nil, nil)
	var all protocol.TokenList
	r.mustAsk(root, "GET", "/v1/tokens", nil, &all)
	if len(all.Tokens) != 3 || all.Tokens[0].Name != "ada" || all.Tokens[0].Digest != ada.Secret.Digest() || all.Tokens[0].Left <= 0 ||
		all.Tokens[1].Name != "root" || all.Tokens[2].Kind != "site" || all.Tokens[2].Name != "mill" || all.Tokens[2].Uses != 1 {
		t.Errorf("tokens = %+v", all.Tokens)
	}
	var one, two protocol.TokenList
	r.mustAsk(root, "GET", "/v1/tokens?limit=2", nil, &one)
	r.mustAsk(root, "GET", "/v1/tokens?limit=2&cursor="+one.Next, nil, &two)
	if len(one.Tokens) != 2 || len(two.Tokens) != 1 || two.Next != "" {
		t.Errorf("pages of %d and %d tokens", len(one.Tokens), len(two.Tokens))
	}
	for digest, want := range map[string]protocol.Code{
		"0000000000": protocol.CodeNotFound, "sha256:12": protocol.CodeBadRequest, "nonsense!": protocol.CodeBadRequest,
	} {
		if err := r.ask(root, "POST", "/v1/tokens/revoke", protocol.RevokeRequest{Digest: digest}, nil); protocol.CodeOf(err) != want {
			t.Errorf("revoke %s: %v, want %v", digest, err, want)
		}
	}
	var done protocol.DoneReply
	r.mustAsk(root, "POST", "/v1/tokens/revoke", protocol.RevokeRequest{Digest: ada.Secret.Digest().Hex()[:8]}, &done)
	if err := r.ask(header, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a revoked token: %v, want unauthorized", err)
	}
	r.mustAsk(root, "POST", "/v1/tokens/revoke", protocol.RevokeRequest{Digest: all.Tokens[2].Digest.String()}, &done)
	if !strings.Contains(done.Detail, "site mill") {
		t.Errorf("the invitation's end says %q", done.Detail)
	}
}

func TestPeopleAreListedAndDisabled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.person("root", "admin")
	ada := r.person("ada", "producer", "muons")
	var users protocol.UserPage
	r.mustAsk(root, "GET", "/v1/users?limit=1", nil, &users)
	if len(users.Users) != 1 || users.Users[0].User != "ada" || users.Users[0].Tokens != 1 || users.Next != "ada" {
		t.Errorf("users = %+v", users)
	}
	var done protocol.DoneReply
	r.mustAsk(root, "POST", "/v1/users/ada/actions", protocol.UserAction{Action: "disable", Reason: "left"}, &done)
	if err := r.ask(ada, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnauthorized || !done.Changed {
		t.Errorf("after %+v a disabled person: %v, want unauthorized", done, err)
	}
	r.mustAsk(root, "POST", "/v1/users/ada/actions", protocol.UserAction{Action: "enable"}, &done)
	r.mustAsk(ada, "GET", "/v1/datasets", nil, nil)
	var user state.User
	r.record.Read(func(m *state.Machine) { user, _ = m.User("ada") })
	if user.Role != "producer" || len(user.Groups) != 1 {
		t.Errorf("disabling and enabling made ada %+v", user)
	}
	if err := r.ask(root, "POST", "/v1/users/root/actions", protocol.UserAction{Action: "disable"}, nil); protocol.CodeOf(err) != protocol.CodeConflict {
		t.Errorf("somebody disables themselves: %v, want conflict", err)
	}
	if err := r.ask(root, "POST", "/v1/users/nobody/actions", protocol.UserAction{Action: "disable"}, nil); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Errorf("disabling nobody: %v, want not found", err)
	}
}

func TestActionsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.person("root", "admin")
	ada := r.person("ada", "producer")
	r.submit(ada, 2, twoTasks)
	r.submit(ada, 2, twoTasks)
	r.mustAsk(ada, "POST", "/v1/datasets/1/actions", protocol.ActionRequest{Action: "suspend", Jobs: "0", Reason: "wrong seed"}, nil)
	r.do(&state.SetFormat{Format: state.Format})
	r.do(&state.PutSite{Site: "here"})
	r.mustAsk(root, "POST", "/v1/sites/here/actions", protocol.SiteAction{Action: "pause", Reason: "power"}, nil)
	list := func(query string) []protocol.ActionRecord {
		t.Helper()
		var page protocol.ActionPage
		r.mustAsk(root, "GET", "/v1/actions"+query, nil, &page)
		return page.Actions
	}
	all := list("")
	if len(all) < 5 || all[0].Action != "pause site" || all[0].Actor != "root" || all[0].Reason != "power" || all[0].Object != "here" || all[0].From != remote.String() {
		t.Fatalf("actions = %+v", all)
	}
	for i := range all[1:] {
		if all[i].Index <= all[i+1].Index {
			t.Errorf("action %d at %d stands before one at %d", i, all[i].Index, all[i+1].Index)
		}
	}
	if got := list("?dataset=1"); len(got) != 2 || got[0].Action != "suspend tasks" || got[0].Tasks != 2 || got[0].Reason != "wrong seed" || got[1].Action != "submit" {
		t.Errorf("actions on dataset 1 = %+v", got)
	}
	if got := list("?actor=ada"); len(got) != 3 {
		t.Errorf("ada's actions = %+v, want two submissions and a suspension", got)
	}
	if got := list("?object=here"); len(got) != 2 {
		t.Errorf("actions on the site = %+v, want two", got)
	}
	var page protocol.ActionPage
	r.mustAsk(root, "GET", "/v1/actions?limit=1", nil, &page)
	next := page.Next
	r.mustAsk(root, "GET", "/v1/actions?limit=1&cursor="+next, nil, &page)
	if len(page.Actions) != 1 || page.Actions[0].Index != all[1].Index {
		t.Errorf("the second page = %+v, want the action at %d", page, all[1].Index)
	}
	if err := r.ask(root, "GET", "/v1/actions?cursor=x", nil, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("a bad cursor: %v, want bad request", err)
	}
}
