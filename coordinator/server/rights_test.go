package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
	"floe/protocol/transport"
)

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	people := map[string]http.Header{
		"nobody":  nil,
		"viewer":  r.person("eve", "viewer"),
		"owner":   r.person("ada", "producer"),
		"another": r.person("bob", "producer"),
		"fellow":  r.person("cyd", "producer", "muons"),
		"op":      r.person("op", "operator"),
		"admin":   r.person("root", "admin"),
		"forged":  {"Authorization": {"Bearer " + r.cluster.NewToken(protocol.TokenUser).Credential()}},
		"garbage": {"Authorization": {"Bearer x"}},
	}
	var reply protocol.SubmitReply
	submission := func(dry bool) protocol.SubmitRequest {
		return protocol.SubmitRequest{Key: protocol.RandomText(10), Steering: twoTasks, Jobs: 1, Group: "muons", DryRun: dry}
	}
	r.mustAsk(people["owner"], "POST", "/v1/datasets", submission(false), &reply)
	yes, denied, who := protocol.CodeOK, protocol.CodeForbidden, protocol.CodeUnauthorized
	for _, test := range []struct {
		method, target string
		body           any
		want           map[string]protocol.Code
	}{
		{"GET", "/v1/datasets", nil, map[string]protocol.Code{"nobody": who, "forged": who, "garbage": who, "viewer": yes, "owner": yes, "op": yes, "admin": yes}},
		{"GET", "/v1/cluster", nil, map[string]protocol.Code{"nobody": who, "viewer": yes}},
		{"GET", "/v1/openapi.json", nil, map[string]protocol.Code{"nobody": yes}},
		{"POST", "/v1/datasets", submission(true), map[string]protocol.Code{"nobody": who, "viewer": denied, "owner": yes, "op": yes}},
		{"POST", "/v1/datasets/1/actions", protocol.ActionRequest{Action: "reset", Preview: true}, map[string]protocol.Code{
			"nobody": who, "viewer": denied, "owner": yes, "another": denied, "fellow": yes, "op": yes, "admin": yes,
		}},
		{"POST", "/v1/tokens", protocol.TokenRequest{Role: "viewer", Name: "new"}, map[string]protocol.Code{"nobody": who, "owner": denied, "op": denied, "admin": yes}},
	} {
		for name, want := range test.want {
			if err := r.ask(people[name], test.method, test.target, test.body, nil); protocol.CodeOf(err) != want {
				t.Errorf("%s %s by %s: %v, want %v", test.method, test.target, name, err, want)
			}
		}
	}
	for kind, want := range map[transport.Kind]protocol.Code{transport.Anonymous: who, transport.Site: denied, transport.Coordinator: denied} {
		caller := transport.Caller{Kind: kind, Site: "here", Node: "c2", Remote: remote}
		if err := r.callCBOR(caller, "/v1/pilots/exchange", &protocol.ExchangeRequest{}, nil); protocol.CodeOf(err) != want {
			t.Errorf("exchange by %v: %v, want %v", kind, err, want)
		}
	}
	p := r.enrol("here")
	if err := r.callCBOR(p.caller, "/v1/sites/launch", &protocol.LaunchRequest{}, nil); protocol.CodeOf(err) != denied {
		t.Errorf("launch by a pilot: %v, want forbidden", err)
	}
	if err := transport.ResponseError(r.send(p.caller, people["admin"], "POST", "/v1/tokens", protocol.TokenRequest{Role: "admin", Name: "p"})); protocol.CodeOf(err) != denied {
		t.Errorf("a pilot's certificate with an administrator's token: %v, want forbidden", err)
	}
}

func TestTokensEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	r.mustAsk(ada, "GET", "/v1/datasets", nil, nil)
	r.do(&state.PutUser{User: "ada", Role: "producer", Disabled: true})
	if err := r.ask(ada, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a disabled person's token: %v, want unauthorized", err)
	}
	root := r.person("root", "admin")
	var made protocol.TokenReply
	r.mustAsk(root, "POST", "/v1/tokens", protocol.TokenRequest{Role: "producer", Name: "bob"}, &made)
	token, err := protocol.ParseToken(made.Token)
	if err != nil {
		t.Fatal(err)
	}
	bob := http.Header{"Authorization": {"Bearer " + token.Credential()}}
	r.submit(bob, 1, twoTasks)
	r.do(&state.RevokeToken{Hash: token.Secret.Digest()})
	if err := r.ask(bob, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a revoked token: %v, want unauthorized", err)
	}
	for _, bad := range []protocol.TokenRequest{{Role: "viewer", Name: "a/b"}, {Role: "king", Name: "a"}, {Role: "viewer", Name: "a", TTL: -1}, {Role: "viewer", Name: "a", TTL: 1 << 40}} {
		if err := r.ask(root, "POST", "/v1/tokens", bad, nil); protocol.CodeOf(err) != protocol.CodeBadRequest {
			t.Errorf("token %+v: %v, want bad-request", bad, err)
		}
	}
}

// follower is a coordinator that follows another one.
func follower(t *testing.T) (f, leader *rig, ada, eve http.Header) {
	t.Helper()
	f, leader = newRig(t), newRig(t)
	f.record.node, f.Node, f.peers.self = "c2", "c2", "c2"
	f.record.elect("c1")
	f.peers.nodes["c1"] = leader
	ada = known(f.cluster.NewToken(protocol.TokenUser), "ada", "producer", nil, f, leader)
	eve = known(f.cluster.NewToken(protocol.TokenUser), "eve", "viewer", nil, f, leader)
	return f, leader, ada, eve
}

func TestAFollowerForwardsWithTheVerifiedCaller(t *testing.T) {
	t.Parallel()
	f, leader, ada, eve := follower(t)
	var reply protocol.SubmitReply
	f.mustAsk(ada, "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", Steering: twoTasks, Jobs: 1}, &reply)
	if reply.Dataset != 1 || f.nextDataset() != 1 || leader.nextDataset() != 2 {
		t.Errorf("submit through a follower: dataset %d; next here %d, at the leader %d", reply.Dataset, f.nextDataset(), leader.nextDataset())
	}
	p := leader.enrol("here")
	there := *p
	there.r = f // the same pilot asks the follower
	l := there.take(1)[0]
	there.finish(&l)
	if s := leader.taskState(l.Task); s != protocol.TaskOK {
		t.Errorf("through the follower the task is %v", s)
	}
	if err := f.ask(eve, "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", Steering: twoTasks, Jobs: 1}, nil); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("a viewer submits through a follower: %v", err)
	}
}

func TestAForgedForwardedCallerIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.submit(r.person("ada", "producer"), 1, twoTasks)
	p := r.enrol("here")
	forged, err := json.Marshal(forwarded{Kind: transport.Pilot, Site: p.caller.Site, Pilot: p.caller.Pilot, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := protocol.Marshal(&protocol.ExchangeRequest{Sequence: 1, Want: 1, Free: p.free})
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{headerCaller: {string(forged)}, "Content-Type": {transport.TypeCBOR}}
	for _, caller := range []transport.Caller{
		anonymous, {Kind: transport.Site, Site: "here"}, {Kind: transport.Pilot, Site: "here", Pilot: "p-other"},
	} {
		if err := transport.ResponseError(r.send(caller, header, "POST", "/v1/pilots/exchange", b)); protocol.CodeOf(err) != protocol.CodeForbidden {
			t.Errorf("forwarded by %v: %v, want forbidden", caller.Kind, err)
		}
	}
	peer := transport.Caller{Kind: transport.Coordinator, Node: "c2"}
	if err := transport.ResponseError(r.send(peer, header, "POST", "/v1/pilots/exchange", b)); err != nil {
		t.Errorf("forwarded by a coordinator: %v", err)
	}
	header.Set(headerCaller, "{")
	if err := transport.ResponseError(r.send(peer, header, "POST", "/v1/pilots/exchange", b)); protocol.CodeOf(err) != protocol.CodeBadRequest {
		t.Errorf("an unreadable caller: %v, want bad-request", err)
	}
}

func TestWithoutALeaderPeopleReadWhatIsMarkedStale(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada := r.person("ada", "producer")
	r.submit(ada, 1, twoTasks)
	p := r.enrol("here")
	r.record.elect("")
	resp := r.send(anonymous, ada, "GET", "/v1/datasets", nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Floe-Stale") != "yes" {
		t.Errorf("GET without a leader = %d, Floe-Stale %q", resp.StatusCode, resp.Header.Get("Floe-Stale"))
	}
	for _, target := range []string{"/v1/datasets/99", "/v1/datasets/99/steering"} { // it may be newer than what is here
		if err := r.ask(ada, "GET", target, nil, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
			t.Errorf("GET %s without a leader: %v, want unknown", target, err)
		}
	}
	if err := r.ask(ada, "POST", "/v1/datasets", protocol.SubmitRequest{Key: "12345678", Steering: twoTasks, Jobs: 1}, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("submit without a leader: %v, want unknown", err)
	}
	if _, err := p.speak(protocol.ExchangeRequest{}); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("exchange without a leader: %v, want unknown", err)
	}
	// A token that is not known here yet may be good: that is no "who are you".
	fresh := http.Header{"Authorization": {"Bearer " + r.cluster.NewToken(protocol.TokenUser).Credential()}}
	if err := r.ask(fresh, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("a token that this follower does not know: %v, want unknown", err)
	}
	r.record.elect("c1")
	if resp := r.send(anonymous, ada, "GET", "/v1/datasets", nil); resp.Header.Get("Floe-Stale") != "" {
		t.Error("a leader's answer is marked stale")
	}
}

func TestALeaderThatDoesNotAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	f, _, ada, _ := follower(t)
	f.peers.nodes["c1"] = nil
	if err := f.ask(ada, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("GET through a follower whose leader is gone: %v, want unknown", err)
	}
}

func TestEveryVerbIsDescribed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var api struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	r.mustAsk(nil, "GET", "/v1/openapi.json", nil, &api)
	if !strings.HasPrefix(api.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %q", api.OpenAPI)
	}
	for _, path := range []string{"/v1/datasets", "/v1/datasets/{dataset}/actions", "/v1/tokens"} {
		if api.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	b, err := json.Marshal(api.Paths["/v1/datasets/{dataset}/actions"])
	if err != nil || strings.Contains(string(b), "base64") {
		t.Errorf("states are described as bytes: %s, %v", b, err)
	}
}
