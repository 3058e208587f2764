package coordinator

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/coordinator/auth"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// refused starts a coordinator that must end by itself, with an error.
func (c *trio) refused(id protocol.NodeID) error {
	c.t.Helper()
	config := *c.configs[id]
	cluster, err := auth.LoadCluster(KeysDir(config.Dir))
	if err != nil {
		c.t.Fatal(err)
	}
	n := &node{config: config, cluster: cluster}
	return n.live(c.t.Context())
}

// A coordinator whose record is gone does not come back under its name (I-25):
// neither where a mark says that there was one, nor where only the others know. The
// founder does not found the cluster a second time.
func TestALostRecordIsNotBegunAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three coordinators")
	}
	t.Parallel()
	c := newTrio(t, replica.Limits{}, 3)
	for _, test := range []struct {
		id    protocol.NodeID
		alone bool // its mark is gone, too
	}{{"c1", false}, {"c2", false}, {"c3", true}} {
		c.running[test.id].end()
		delete(c.running, test.id)
		if err := os.Rename(c.dir(test.id, "record"), c.dir(test.id, "away")); err != nil {
			t.Fatal(err)
		}
		if test.alone {
			if err := os.Remove(c.dir(test.id, memberFile)); err != nil {
				t.Fatal(err)
			}
		}
		err := c.refused(test.id)
		if !errors.Is(err, replica.ErrRecordLost) || !strings.Contains(err.Error(), "floe cluster remove "+string(test.id)) {
			t.Errorf("%s without its record: %v, want ErrRecordLost with the repair", test.id, err)
		}
		if replica.ExitCode(err) != 74 {
			t.Errorf("exit code %d, want 74", replica.ExitCode(err))
		}
		if replica.Exists(c.dir(test.id, "record")) {
			t.Errorf("%s began a record", test.id)
		}
		if err := os.Rename(c.dir(test.id, "away"), c.dir(test.id, "record")); err != nil {
			t.Fatal(err)
		}
		c.start(test.id)
		c.settle(3)
	}
	if _, err := os.Stat(filepath.Join(c.configs["c3"].Dir, memberFile)); err != nil {
		t.Errorf("a record without its mark was not marked again: %v", err)
	}
}

// A coordinator that is removed ends by name, is refused from then on, and another
// one takes its place under a new name.
func TestARemovedCoordinatorEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four coordinators")
	}
	t.Parallel()
	c := newTrio(t, replica.Limits{}, 3)
	gone := c.follower()
	id := gone.cluster.Node()
	m := membership{c.leader().record}
	if err := m.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c.propose(&state.RemoveMember{By: state.Action{Actor: "a test"}, Node: id})
	<-gone.ended
	if !errors.Is(gone.err, replica.ErrRemoved) || replica.ExitCode(gone.err) != 70 {
		t.Errorf("the removed coordinator ended with %v, code %d; want ErrRemoved, 70", gone.err, replica.ExitCode(gone.err))
	}
	delete(c.running, id)
	c.settle(2)
	c.start(id) // somebody starts it again
	again := c.running[id]
	<-again.ended
	if !errors.Is(again.err, replica.ErrRemoved) {
		t.Errorf("started again it ended with %v, want ErrRemoved", again.err)
	}
	delete(c.running, id)
	c.join("c4")
	c.settle(3)
}
