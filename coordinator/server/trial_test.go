package server

import (
	"strings"
	"testing"

	"floe/coordinator/state"
	"floe/protocol"
)

func TestAPreviewChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.glider("north")
	r.submit(r.person("ada", "producer"), 20, twoTasks)
	offer := shapeOf("q", 8, 10)
	first := g.pass(protocol.LaunchRequest{}, offer)
	g.known = nil // a pass that knew of nothing would end them all
	seen := r.Server.passes.of("north")
	reply := g.pass(protocol.LaunchRequest{Preview: true}, offer)
	if len(reply.Grants) != 0 || reply.Now == 0 || !strings.Contains(strings.Join(reply.Reasons, "\n"), "a pass would be granted ") {
		t.Errorf("preview = %+v", reply)
	}
	if r.Server.passes.of("north") != seen {
		t.Error("a preview was taken for a pass")
	}
	launches := 0
	r.Record.Read(func(m *state.Machine) {
		for range m.Launches() {
			launches++
		}
	})
	if launches != len(first.Grants) || launches == 0 {
		t.Errorf("%d launch leases after the preview, want the %d of before", launches, len(first.Grants))
	}
}

func TestATrialIsGrantedWithoutDemand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.glider("north")
	reply := g.pass(protocol.LaunchRequest{Trial: true})
	if len(reply.Grants) != 1 || reply.Grants[0].Shape != protocol.TrialShape || reply.Grants[0].Ticket == "" {
		t.Fatalf("trial = %+v, want one launch lease", reply)
	}
	// The next pass lists it, as the ledger has it.
	if next := g.pass(protocol.LaunchRequest{}); len(next.Remove) != 0 {
		t.Errorf("the next pass removes %v", next.Remove)
	}
	r.do(&state.PutSite{Site: "north", Suspended: true})
	var refused protocol.LaunchReply
	if err := g.callCBOR(g.caller, "/v1/sites/launch", &protocol.LaunchRequest{Version: "1.0", Trial: true}, &refused); protocol.CodeOf(err) != protocol.CodeForbidden {
		t.Errorf("trial at a suspended site = %v, want it refused", err)
	}
}
