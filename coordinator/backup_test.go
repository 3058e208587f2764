package coordinator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/coordinator/auth"
	"floe/coordinator/blob"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// inUse is a cluster with a dataset, a pilot that holds a lease, and stored files.
func inUse(t *testing.T, members int) (c *trio, lease state.Lease, file protocol.Digest) {
	t.Helper()
	c = newTrio(t, replica.Limits{}, members)
	by := state.Action{Actor: "mia"}
	c.propose(&state.PutSite{By: by, Site: "mill"})
	c.propose(&state.SubmitDataset{
		By: by, Dataset: 1, Jobs: 5, Facts: state.Facts{Owner: "mia", Steering: protocol.DigestOf(nil), LanguageVersion: 1},
		Tasks: []state.TaskSpec{{Name: "a", Classes: []state.Class{{Requirements: protocol.Requirements{Cores: 1, Memory: protocol.GB}}}}},
	})
	c.enrolAndAcquire("p1")
	c.leader().record.Read(func(m *state.Machine) {
		for l := range m.Leases() {
			lease = l
		}
	})
	text := "a module"
	file = protocol.DigestOf([]byte(text))
	for _, r := range c.running {
		if _, err := r.blobs.Put(t.Context(), blob.Info{Digest: file, Size: protocol.ByteSize(len(text)), Class: blob.Durable, Owner: "user mia"}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	return c, lease, file
}

// enrolAndAcquire has a pilot come to the mill and lease one task.
func (c *trio) enrolAndAcquire(pilot protocol.PilotID) {
	c.t.Helper()
	has := protocol.Resources{Cores: 1, Memory: 2 * protocol.GB, Disk: protocol.GB}
	ticket := protocol.DigestOf([]byte(pilot))
	var now state.RecordTime
	c.leader().record.Read(func(m *state.Machine) { now = m.Time() })
	c.propose(&state.PutTicket{Site: "mill", Hash: ticket, Uses: 1, Expires: now + state.Hour})
	c.propose(&state.EnrolPilot{Pilot: pilot, Site: "mill", TicketHash: ticket, PublicKey: make([]byte, 32), Host: "node", Resources: has})
	c.propose(&state.Acquire{Pilot: pilot, Free: has, Want: 1, Sequence: 1})
}

// startAfresh starts the coordinator of a new cluster and returns it as a trio of one.
func startAfresh(t *testing.T, dir string, config Config) *trio {
	t.Helper()
	founder, err := auth.LoadCluster(KeysDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	id := founder.Node()
	config.Dir, config.Found, config.Others, config.Network = dir, false, nil, Network{}
	c := &trio{t: t, founder: founder, names: []protocol.NodeID{id}, configs: map[protocol.NodeID]*Config{id: &config}, running: map[protocol.NodeID]*running{}}
	r := c.start(id)
	t.Cleanup(r.end)
	c.settle(1)
	return c
}

// A backup must come out of a scratch cluster as it went in, and that cluster must
// be apart from the old one: nothing of it is accepted, no number comes twice.
func TestABackupIsRestoredIntoAScratchCluster(t *testing.T) {
	t.Parallel()
	c, lease, file := inUse(t, 1)
	old := c.leader()
	var backup bytes.Buffer
	if err := old.backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	manifest, err := ReadBackup(bytes.NewReader(backup.Bytes()), func(string, io.Reader) error { return nil })
	if err != nil || manifest.Record != old.machine.freeze().Digest() {
		t.Fatalf("ReadBackup = %+v, %v; want the record %v", manifest, err, old.machine.freeze().Digest())
	}
	before := actions(t, old.ledger)
	config := *c.configs["c1"]
	old.end()

	dir := filepath.Join(t.TempDir(), "restored")
	a, err := Restore(t.Context(), AfreshConfig{Dir: dir, Node: "c1", Address: config.Address, RaftAddress: config.RaftAddress, Logger: config.Logger}, bytes.NewReader(backup.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if a.Record != manifest.Record || a.History != manifest.History || a.Index != manifest.Index {
		t.Errorf("restored %+v, want the hashes of %+v", a, manifest)
	}
	if a.Pilots != 1 || a.Leases != 1 || a.Blobs != 1 || a.NextDataset != 2+afreshDatasets {
		t.Errorf("restored %+v; want 1 pilot revoked, 1 lease ended, 1 file, next dataset %d", a, 2+afreshDatasets)
	}
	fresh := startAfresh(t, dir, config)
	if fresh.founder.Pin() == c.founder.Pin() {
		t.Error("the new cluster has the old one's authority")
	}
	r := fresh.leader()
	checkAfresh(t, fresh, lease)
	if got := actions(t, r.ledger); len(got) <= len(before) {
		t.Errorf("%d actions, want more than the %d before", len(got), len(before))
	} else if diff := cmp.Diff(before, got[len(got)-len(before):]); diff != "" {
		t.Errorf("history of before (-old +restored):\n%s", diff)
	}
	if f, i, err := r.blobs.Open(file); err != nil || i.Owner != "user mia" {
		t.Errorf("the stored file: %+v, %v", i, err)
	} else {
		_ = f.Close()
	}
	if status, _ := fresh.metricsOf(r, a.Token); status != 200 {
		t.Errorf("the administrator's token is answered %d", status)
	}
}

// checkAfresh checks that the old lease is over and that the cluster works on, with
// numbers beyond all of before.
func checkAfresh(t *testing.T, c *trio, old state.Lease) {
	t.Helper()
	r := c.leader()
	r.record.Read(func(m *state.Machine) {
		if l, current := m.Lease(old.Task); current {
			t.Errorf("lease %v of before is current", l.ID)
		}
		if p, _ := m.Pilot(old.Pilot); !p.Revoked {
			t.Errorf("pilot %s is not revoked", old.Pilot)
		}
		if found := append(m.Audit(), m.AuditIndex()...); len(found) > 0 {
			t.Errorf("the record breaks invariants: %v", found)
		}
	})
	a, err := r.record.Propose(t.Context(), &state.Report{Lease: old.ID, Task: old.Task, Pilot: old.Pilot, Verdict: protocol.VerdictOK})
	if err != nil || a.Code != protocol.CodeStale {
		t.Errorf("a report of before is answered %v, %v; want stale", a.Code, err)
	}
	c.enrolAndAcquire("p2")
	r.record.Read(func(m *state.Machine) {
		for l := range m.Leases() {
			if l.ID.Index <= old.ID.Index+afreshIndexes/2 {
				t.Errorf("new lease %v is near the old one %v", l.ID, old.ID)
			}
		}
		if n := m.Totals().Leases; n != 1 {
			t.Errorf("%d leases, want the new one", n)
		}
	})
}

func TestADamagedBackupIsRefused(t *testing.T) {
	t.Parallel()
	c, _, _ := inUse(t, 1)
	var backup bytes.Buffer
	if err := c.leader().backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	whole := backup.Bytes()
	flip := func(what string) []byte {
		b := bytes.Clone(whole)
		b[bytes.Index(b, []byte(what))+len(what)/2] ^= 1
		return b
	}
	for name, b := range map[string][]byte{
		"cut before the manifest":  whole[:len(whole)*3/4],
		"empty":                    nil,
		"a stored file is damaged": flip("a module"),
		"the record is damaged":    flip("floe state 1"),
		"the manifest is damaged":  flip(`"record": "sha256:`),
		"no backup":                []byte(strings.Repeat("floe", 1000)),
	} {
		dir := filepath.Join(t.TempDir(), "restored")
		_, err := Restore(t.Context(), AfreshConfig{Dir: dir, Node: "c1", Address: "h:1", RaftAddress: "h:2", Logger: c.configs["c1"].Logger}, bytes.NewReader(b))
		if !errors.Is(err, ErrBackup) {
			t.Errorf("%s: Restore = %v, want ErrBackup", name, err)
		}
		if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
			t.Errorf("%s: it leaves %v", name, left)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), AfreshConfig{Dir: full, Node: "c1"}, bytes.NewReader(whole)); err == nil {
		t.Error("a backup was restored over what was there")
	}
}

// The majority is lost for good. The only coordinator that is left goes on with all
// it has, as a cluster of one, without the others.
func TestTheLastCoordinatorRecovers(t *testing.T) {
	t.Parallel()
	c, lease, file := inUse(t, 3)
	c.caughtUp()
	last := c.follower()
	id := last.cluster.Node()
	for _, r := range c.running {
		r.end()
	}
	config := *c.configs[id]
	a, err := Recover(t.Context(), AfreshConfig{Dir: config.Dir, Address: config.Address, RaftAddress: config.RaftAddress, Logger: config.Logger})
	if err != nil {
		t.Fatal(err)
	}
	if a.Pilots != 1 || a.Leases != 1 || a.Node != id {
		t.Errorf("recovered %+v; want %s, 1 pilot revoked, 1 lease ended", a, id)
	}
	fresh := startAfresh(t, config.Dir, config)
	if fresh.founder.Pin() != c.founder.Pin() {
		t.Error("tokens of before are good no more")
	}
	checkAfresh(t, fresh, lease)
	r := fresh.leader()
	if f, _, err := r.blobs.Open(file); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
	if all := r.record.Members(); len(all) != 1 {
		t.Errorf("members %v, want one", all)
	}
	r.record.Read(func(m *state.Machine) {
		for _, other := range c.names {
			if _, known := m.Member(other); known != (other == id) {
				t.Errorf("coordinator %s is a member: %v", other, known)
			}
		}
	})
	if left, _ := filepath.Glob(filepath.Join(config.Dir, "record.before-*")); len(left) != 1 {
		t.Errorf("the old record is at %v", left)
	}
	if _, err := Recover(context.Background(), AfreshConfig{Dir: config.Dir}); err == nil {
		t.Error("a running coordinator was recovered")
	}
}
