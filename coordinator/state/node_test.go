package state

import (
	"fmt"
	"testing"

	"floe/protocol"
)

// What is kept of nodes is bounded: the one that was longest unchanged makes room
// for another, but none that a person excluded.
func TestStandingsAreBounded(t *testing.T) {
	r := newRig(t)
	r.quick = true
	r.do(protocol.CodeOK, &SetFormat{Format: Format})
	r.do(protocol.CodeOK, submission(1, 9, chain(1)))
	for _, p := range []protocol.PilotID{"a", "b", "c"} {
		r.enrol(p, "mill", big)
	}
	exclude := func(n int) *ExcludeNode { return &ExcludeNode{Site: "mill", Host: fmt.Sprintf("out%d", n)} }
	var commands []Command
	for n := range MaxNodes - 1 {
		commands = append(commands, exclude(n))
	}
	r.apply(Second, commands...)
	fail := func(p protocol.PilotID) {
		t.Helper()
		r.apply(Minute, &Tick{})
		r.do(protocol.CodeOK, failure(&r.acquire(p, 1)[0].Lease, protocol.VerdictPayload))
	}
	kept := func(want ...bool) {
		t.Helper()
		for i, host := range []string{"node-a", "node-b", "node-c"} {
			if _, known := r.m.Node("mill", host, WholeNode); known != want[i] {
				t.Errorf("of %s a standing is kept: %v", host, known)
			}
		}
		if n := r.m.nodes.Len(); n > MaxNodes {
			t.Errorf("%d standings are kept, limit %d", n, MaxNodes)
		}
	}
	fail("a")
	kept(true, false, false)
	fail("b")
	kept(false, true, false)
	r.do(protocol.CodeOK, exclude(MaxNodes))
	kept(false, false, false)
	fail("c")
	kept(false, false, false)
	r.do(protocol.CodeConflict, exclude(MaxNodes+1))
	r.do(protocol.CodeOK, &ReleaseNode{Site: "mill", Host: "out0"})
	fail("a")
	kept(true, false, false)
	checkInvariants(t, r.m)
}
