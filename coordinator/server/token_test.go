package server

import (
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
