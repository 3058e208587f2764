package server

import (
	"net/http"
	"testing"

	"floe/protocol"
	"floe/protocol/transport"
)

// A follower may be behind: whether a token is good, the leader says. A wrong one
// must not be answered "repeat" for ever.
func TestAFollowerLeavesTokensItDoesNotKnowToTheLeader(t *testing.T) {
	t.Parallel()
	f, leader, _, _ := follower(t)
	fresh := leader.person("fay", "producer")
	if err := f.ask(fresh, "GET", "/v1/datasets", nil, nil); err != nil {
		t.Errorf("a token that only the leader knows: %v", err)
	}
	wrong := http.Header{"Authorization": {"Bearer " + f.cluster.NewToken(protocol.TokenUser).Credential()}}
	if err := f.ask(wrong, "GET", "/v1/datasets", nil, nil); protocol.CodeOf(err) != protocol.CodeUnauthorized {
		t.Errorf("a token that nobody knows: %v, want unauthorized", err)
	}
}

// A leader that loses its power says nothing more, and TCP hopes for long. Whoever
// waits for it through a follower is sent away once the follower has left it.
func TestARequestForwardedToALeaderThatIsLeftIsUnknown(t *testing.T) {
	t.Parallel()
	f, _, ada, _ := follower(t)
	arrived := make(chan struct{})
	f.peers.nodes["c1"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	go f.follow(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- f.ask(ada, "GET", "/v1/datasets", nil, nil) }()
	<-arrived
	f.record.elect("c3")
	if err := <-answered; protocol.CodeOf(err) != protocol.CodeUnknown {
		t.Errorf("%v, want unknown", err)
	}
}

func TestFieldsOfAConnectionAreNotForwarded(t *testing.T) {
	t.Parallel()
	f, leader, ada, _ := follower(t)
	var got http.Header
	f.peers.nodes["c1"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		leader.ServeHTTP(w, r)
	})
	ada = ada.Clone()
	for _, name := range []string{"Connection", "Upgrade", "Te", "Transfer-Encoding"} {
		ada.Set(name, "h2c")
	}
	if err := transport.ResponseError(f.send(anonymous, ada, "GET", "/v1/datasets", nil)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Connection", "Upgrade", "Te", "Transfer-Encoding"} {
		if got.Get(name) != "" {
			t.Errorf("%s was forwarded", name)
		}
	}
	if got.Get("Authorization") == "" || got.Get(headerCaller) == "" {
		t.Errorf("token or caller was not forwarded: %v", got)
	}
}
