package server

import (
	"net/http"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
)

func TestATokenLeavesItsOwnerAsTheyWere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.person("root", "admin")
	r.person("ada", "operator", "gamma")
	r.mustAsk(root, "POST", "/v1/tokens", protocol.TokenRequest{Role: "viewer", Name: "ada"}, nil)
	var ada state.User
	r.record.Read(func(m *state.Machine) { ada, _ = m.User("ada") })
	if ada.Role != "operator" || len(ada.Groups) != 1 {
		t.Errorf("after a token for looking ada is %q of %v, want an operator of gamma", ada.Role, ada.Groups)
	}
	r.do(&state.PutUser{User: "eve", Role: "viewer", Disabled: true})
	if err := r.ask(root, "POST", "/v1/tokens", protocol.TokenRequest{Role: "viewer", Name: "eve"}, nil); protocol.CodeOf(err) != protocol.CodeConflict {
		t.Errorf("a token for somebody disabled: %v, want conflict", err)
	}
	r.record.Read(func(m *state.Machine) { ada, _ = m.User("eve") })
	if !ada.Disabled {
		t.Error("the token let eve in again")
	}
}

// The first thing somebody does after starting a coordinator is to use the token
// that floe init made.
func TestATokenIsNotRefusedBeforeTheFirstOneIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.cluster.NewToken(protocol.TokenUser)
	header := http.Header{"Authorization": {"Bearer " + token.Credential()}}
	ask := func() protocol.Code { return protocol.CodeOf(r.ask(header, "GET", "/v1/datasets", nil, nil)) }
	if code := ask(); code != protocol.CodeUnknown {
		t.Errorf("before the founder is known: %v, want unknown", code)
	}
	r.do(&state.PutToken{User: "root", Role: "admin", Hash: token.Secret.Digest()})
	if code := ask(); code != protocol.CodeUnknown {
		t.Errorf("between token and founder: %v, want unknown", code)
	}
	r.do(&state.PutUser{User: "root", Role: "admin"})
	if code := ask(); code != protocol.CodeOK {
		t.Errorf("afterwards: %v", code)
	}
}
