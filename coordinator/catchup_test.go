package coordinator

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// A coordinator that joins late gets the record by a snapshot, and with it none of
// what happened before. It must take that from the others, while the log goes on.
func TestAJoiningCoordinatorTakesOverHistory(t *testing.T) {
	t.Parallel()
	// The log is cut so soon that nobody who joins can follow it from its start.
	c := newTrio(t, replica.Limits{SnapshotCommands: 20, RetainBytes: 1, InFlight: 1}, 1)
	act := func(i int) {
		c.propose(&state.PutSite{By: state.Action{Actor: "mia", Reason: "it is new"}, Site: protocol.SiteID(fmt.Sprintf("site%d", i))})
	}
	for i := range 100 {
		act(i)
	}
	founder := c.leader()
	c.await("the log to be cut", func() bool {
		log, err := founder.record.replica.LogFile()
		return err == nil && log.First > 1
	})
	fresh := c.join("c2")
	for i := range 20 {
		act(100 + i)
	}
	c.settle(2)
	c.caughtUp()
	if fresh.record.replica.Stats().Installs == 0 {
		t.Fatal("it followed the log from its start; the test tests nothing")
	}
	c.await("history to be complete", func() bool {
		_, gap := fresh.ledger.Gap()
		return !gap && fresh.ledger.Applied() == fresh.record.Applied() && founder.ledger.Applied() == founder.record.Applied()
	})
	if diff := cmp.Diff(actions(t, founder.ledger), actions(t, fresh.ledger)); diff != "" {
		t.Errorf("histories differ (-founder +joined):\n%s", diff)
	}
	if n := len(actions(t, fresh.ledger)); n < 120 {
		t.Errorf("%d actions are known, want all", n)
	}
}

// actions are all that a ledger has of them.
func actions(t *testing.T, l *history.Ledger) (all []string) {
	t.Helper()
	page, err := l.Actions(t.Context(), history.ActionQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range page.Actions {
		all = append(all, fmt.Sprintf("%+v", a))
	}
	return all
}
