package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"floe/protocol"
)

// add has a coordinator join by the command that floe cluster add prints.
func (w *world) add(name string) {
	w.t.Helper()
	n := w.place(name, nil)
	command := strings.Fields(w.ok("cluster", "add", name, n.address))
	want := []string{"floe", "coordinator", name, "--address", n.address, "--join"}
	if len(command) != len(want)+1 || !slices.Equal(command[:len(want)], want) {
		w.t.Fatalf("floe cluster add printed %q, want %q and a token", command, want)
	}
	w.startNode(name, "--join", command[len(want)]) // in the directory that place chose
}

// ended waits for a coordinator to end by itself, with a code and a word.
func (w *world) ended(name string, code int, word string) {
	w.t.Helper()
	p := w.nodes[name].process
	w.until(name+" ends", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	})
	if got := p.state.ExitCode(); got != code || !strings.Contains(w.log(name), word) {
		w.t.Errorf("%s ended with code %d, want %d and %q: %s", name, got, code, word, w.log(name))
	}
}

// TestSystemMembership lives through what happens to coordinators in their years: they
// are added, asked for a snapshot, hand over, are stopped, lose their disk, are
// removed, and come back under another name only.
func TestSystemMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	status := func() protocol.ClusterReply { return ask[protocol.ClusterReply](w, "cluster", "status") }
	voting := func(want ...string) func() bool {
		return func() bool {
			var names []string
			for _, m := range status().Members {
				if m.Voter && m.Healthy && m.Status != nil {
					names = append(names, string(m.ID))
				}
			}
			slices.Sort(names)
			return slices.Equal(names, want)
		}
	}
	w.add("c2")
	w.add("c3")
	w.until("all three vote", voting("c1", "c2", "c3"))
	for _, m := range status().Members {
		if m.Status.Supports < 2 || m.Status.DiskTotal == 0 || m.Status.Version != protocol.Version {
			t.Errorf("member %s stands %+v", m.ID, m.Status)
		}
	}
	newToken := func() { // names those who are there now
		w.env = append(w.env, "FLOE_TOKEN="+strings.TrimSpace(w.ok("token", "create", "admin", "all")))
	}
	newToken()
	if s := ask[protocol.SnapshotReply](w, "cluster", "snapshot"); !s.Taken || s.Index == 0 || s.Bytes == 0 {
		t.Errorf("snapshot: %+v", s)
	}
	// A new cluster has the newest format.
	if u := ask[protocol.UpgradeReply](w, "cluster", "upgrade"); u.From != 2 || u.To != 2 {
		t.Errorf("upgrade: %+v, want 2 and 2", u)
	}
	if moved := ask[protocol.TransferReply](w, "cluster", "transfer-leader", "--to", "c2"); moved.Leader != "c2" {
		t.Errorf("transfer: %+v, want c2 to lead", moved)
	}

	// A planned stop of the leader.
	if err := w.nodes["c2"].process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	id := w.submit(diamond, 1)
	w.ended("c2", exitOK, "")
	if d := w.dataset(id); d.ID != id {
		t.Errorf("the dataset that was submitted meanwhile: %+v", d)
	}
	w.startNode("c2")
	w.until("c2 is back", voting("c1", "c2", "c3"))

	// c3 loses its record, and does not come back under its name.
	w.nodes["c3"].process.end(patience)
	record := filepath.Join(w.nodes["c3"].dir, "record")
	if err := os.Rename(record, record+".lost"); err != nil {
		t.Fatal(err)
	}
	c3 := w.nodes["c3"]
	c3.process = w.start("c3", c3.args...)
	w.ended("c3", exitCorrupt, "floe cluster remove c3")
	if r := w.floe("cluster", "add", "c3", c3.address); r.code != exitFailure || !strings.Contains(r.err, "floe cluster remove c3") {
		t.Errorf("adding c3 again: code %d, %q", r.code, r.err)
	}
	if r := ask[protocol.RemoveMemberReply](w, "cluster", "remove", "c3", "--reason", "its disk died"); r.Voters != 2 || r.Note == "" {
		t.Errorf("remove: %+v, want 2 voters and a note", r)
	}
	w.add("c4")
	w.until("c4 votes", voting("c1", "c2", "c4"))

	// One that runs is removed: it ends, also when it is started again.
	leader := string(status().Leader)
	gone := "c1"
	if leader == gone {
		gone = "c2"
	}
	w.ok("cluster", "remove", gone)
	w.ended(gone, 70, "removed from the cluster")
	n := w.nodes[gone]
	n.process = w.start(gone, n.args...)
	w.ended(gone, 70, "removed from the cluster")
	if r := w.floe("cluster", "add", gone, n.address); r.code != exitFailure {
		t.Errorf("adding %s again: code %d, %q", gone, r.code, r.err)
	}
	// The leader is removed as well: it hands over and goes.
	w.add("c5")
	left := slices.DeleteFunc([]string{"c1", "c2", "c4", "c5"}, func(s string) bool { return s == gone })
	w.until("c5 votes", voting(left...))
	newToken()
	leader = string(status().Leader)
	w.ok("cluster", "remove", leader)
	w.ended(leader, 70, "removed from the cluster")
	w.until("the others go on", voting(slices.DeleteFunc(left, func(s string) bool { return s == leader })...))
	w.submit(diamond, 1)
}
