package server

import (
	"testing"
	"testing/synctest"

	"floe/coordinator/state"
	"floe/protocol"
)

// A task that is released must wake a pilot that will be given it: those on a node
// that is barred wait until the node is released.
func TestPilotsOfABarredNodeTakeNobodysTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		r.do(&state.SetFormat{Format: state.Format})
		bad := r.enrol("there")
		r.do(&state.ExcludeNode{Site: "there", Host: "node", By: state.Action{Actor: "op", Reason: "loud"}})
		barred := bad.park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		good := r.enrol("here").park(protocol.ExchangeRequest{Want: 1, Wait: 240})
		synctest.Wait()
		if barred.isDone() || good.isDone() {
			t.Fatal("they do not park")
		}
		r.submit(ada, 1, twoTasks)
		synctest.Wait()
		if barred.isDone() {
			t.Errorf("the pilot of the barred node was answered: %+v", barred.reply)
		}
		if !good.isDone() || len(good.reply.Leases) != 1 {
			t.Fatal("nobody got the task")
		}
		r.submit(ada, 1, twoTasks)
		synctest.Wait()
		if barred.isDone() {
			t.Error("the pilot of the barred node was given a task")
		}
		var e protocol.Explanation
		r.mustAsk(ada, "GET", "/v1/datasets/2/jobs/0/tasks/make/explain", nil, &e)
		if e.Pilots != 2 || e.Fit != 1 || len(e.Lines) != 3 || e.Lines[2] != "1 pilots lack good standing: floe nodes says why" {
			t.Errorf("explanation = %+v", e)
		}
		r.do(&state.ReleaseNode{Site: "there", Host: "node"})
		synctest.Wait()
		if !barred.isDone() || len(barred.reply.Leases) != 1 {
			t.Errorf("released, the node was not given what waits: %+v", barred.reply)
		}
	})
}
