package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/coordinator"
	"floe/protocol"
)

// restarted is the world as seen by a person of a coordinator that carries a record
// on, in a directory that a command of ours made.
func (w *world) restarted(name, dir string) *world {
	w.t.Helper()
	n := w.nodes[name]
	n.dir = dir
	n.args[1] = dir
	w.startNode(name)
	return w
}

// A backup is taken of a cluster that has worked, and restored into a scratch one:
// hashes are equal, everything is there, and nothing is mixed up with the old one.
func TestSystemBackupAndRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.submitDiamond(3, "")
	w.joinSite(1, 2)
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d, want 0", code)
	}
	file, dir := filepath.Join(w.dir, "backup.tar"), filepath.Join(w.dir, "restored")
	manifest := ask[coordinator.Manifest](w, "cluster", "backup", file)
	w.nodes["c1"].process.kill()

	scratch := w.place("r1", nil)
	text := w.ok("cluster", "restore", file, dir, "--name", "scratch", "--node", "r1", "--address", scratch.address, "-o", "json")
	var restored coordinator.Afresh
	if err := json.Unmarshal([]byte(text), &restored); err != nil {
		t.Fatal(err)
	}
	if restored.Record != manifest.Record || restored.History != manifest.History || restored.Record.IsZero() {
		t.Errorf("restored %+v, backed up record %v, history %v", restored, manifest.Record, manifest.History)
	}
	if r := w.floe("cluster", "restore", file, dir); r.code != exitFailure || !strings.Contains(r.err, "not empty") {
		t.Errorf("restoring over it: exit %d, %s", r.code, r.err)
	}
	w.env[0] = "FLOE_TOKEN_FILE=" + filepath.Join(dir, founderTokenFile)
	w.restarted("r1", dir)
	w.checkDiamond(id, 3)
	if next := w.submit(diamond, 1); next != restored.NextDataset || next <= id+999 {
		t.Errorf("the next dataset is %d, want %d", next, restored.NextDataset)
	}
	if s := ask[protocol.ClusterReply](w, "cluster", "status"); s.Cluster != "scratch" || len(s.Members) != 1 {
		t.Errorf("status %+v, want cluster scratch of one", s)
	}

	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.floe("cluster", "restore", file, dir+"2"); r.code != exitCorrupt {
		t.Errorf("restoring a damaged backup: exit %d, want %d: %s", r.code, exitCorrupt, r.err)
	}
}

// Two of three coordinators are lost with their disks. The third goes on alone with
// all that was acknowledged, and says no before it is told that they are gone.
func TestSystemMajorityLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"c2", "c3"} {
		w.join(name)
	}
	w.until("all three vote", func() bool {
		n := 0
		for _, m := range ask[protocol.ClusterReply](w, "cluster", "status").Members {
			if m.Voter {
				n++
			}
		}
		return n == 3
	})
	id := w.submitDiamond(2, "")
	w.joinSite(1, 2)
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d, want 0", code)
	}
	admin := strings.TrimSpace(w.ok("token", "create", "admin", "ann"))
	alone := w.nodes["c3"]
	w.until("c3 has all of it", func() bool {
		leader := ask[protocol.ClusterReply](w, "cluster", "status")
		for _, m := range leader.Members {
			if m.ID == "c3" && m.Status != nil && m.Status.Applied == leader.Applied {
				return true
			}
		}
		return false
	})
	for _, name := range []string{"c1", "c2", "c3"} {
		w.nodes[name].process.kill()
	}
	for _, name := range []string{"c1", "c2"} {
		if err := os.RemoveAll(w.nodes[name].dir); err != nil {
			t.Fatal(err)
		}
	}
	if r := w.floe("cluster", "recover", alone.dir, "--address", alone.address); r.code != exitUsage || !strings.Contains(r.err, "--others-are-gone") {
		t.Errorf("recover without being told: exit %d, %s", r.code, r.err)
	}
	w.ok("cluster", "recover", alone.dir, "--address", alone.address, "--others-are-gone")
	w.env = append(w.env, "FLOE_TOKEN="+admin)
	only := w.onlyNode("c3").restarted("c3", alone.dir)
	only.until("it leads", func() bool { return ask[protocol.ClusterReply](only, "cluster", "status").Leader == "c3" })
	only.checkDiamond(id, 2)
	if s := ask[protocol.ClusterReply](only, "cluster", "status"); len(s.Members) != 1 {
		t.Errorf("status %+v, want c3 alone", s)
	}
	if next := only.submit(diamond, 1); next <= id+999 {
		t.Errorf("the next dataset is %d, want a number beyond what may have been given out", next)
	}
}
