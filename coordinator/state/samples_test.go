package state

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"floe/protocol"
)

var update = flag.Bool("update", false, "write golden files anew; only for commands that no release has written")

// samples has one command of every kind with every field set, in an order in
// which all of them can be done.
func samples() []Command {
	by := Action{Actor: "ann", Reason: "because", From: "192.0.2.7", Key: "k"}
	act := func(key string) Action {
		a := by
		a.Key = key
		return a
	}
	password, priority := "argon2id$x", -3
	card := protocol.GPU{ID: "0", Model: "H200", Memory: 8 * protocol.GB, Capability: 90, Tested: true}
	has := protocol.Resources{Cores: 4, Memory: 8 * protocol.GB, Disk: 9 * protocol.GB, Remaining: 7200, GPUs: []protocol.GPU{card}, OS: "debian_12", Tags: []string{"cvmfs"}}
	asks := protocol.Requirements{
		Cores: 1, Memory: protocol.GB, Disk: protocol.GB, Walltime: 60, GPUs: 1, GPUMemory: protocol.GB, GPUCapability: 75,
		OS: []string{"debian_12"}, Sites: []protocol.SiteID{"mill"}, Tags: []string{"cvmfs"}, Alternatives: []protocol.Requirements{{Cores: 2}},
	}
	gpu, onCard := int64(9), protocol.ByteSize(10)
	usage := protocol.Usage{WallMillis: 1, CPUMillis: 2, PeakMemory: 3, ReadBytes: 4, WriteBytes: 5, PeakDisk: 6, Cores: 1, GPUs: 1, StageMillis: 7, CopyMillis: 8, KeptMillis: 11, GPUMillis: &gpu, PeakGPUMemory: &onCard}
	file := protocol.FileRecord{Type: protocol.FileJobTemp, Name: "out", URL: "https://t.example/1", Published: "https://p.example/1", Size: 1, Digest: digestOf("out")}
	task := protocol.TaskID{Dataset: 1, Job: 2}
	lease := protocol.LeaseID{Index: 15, Ordinal: 1}
	selection := Selection{Dataset: 1, Jobs: []protocol.JobRange{{First: 0, Last: 1}}, Tasks: []protocol.TaskIndex{0, 1}, States: slices.Clone(protocol.TaskStates)}
	rule := SiteRule{Allowed: []protocol.SiteID{"mill"}, Excluded: []protocol.SiteID{"pond"}}
	jobs := func(first, last protocol.JobIndex) []protocol.JobRange {
		return []protocol.JobRange{{First: first, Last: last}}
	}
	return []Command{
		&SetFormat{By: act("1"), Format: 1},
		&PutMember{Node: "c1", Address: "c1.example:443", Raft: "c1.example:7000"},
		&PutUser{By: act("2"), User: "bob", Role: "producer", Groups: []protocol.GroupID{"ice"}, PasswordHash: &password, Disabled: true},
		&PutToken{By: act("3"), Hash: digestOf("token"), User: "bob", Role: "viewer", Expires: 10 * Day, Description: "laptop"},
		&PutJoinToken{By: act("4"), Hash: digestOf("join"), For: JoinSite, Name: "mill", Uses: 2, Expires: 10 * Day},
		&UseJoinToken{Hash: digestOf("join"), For: JoinSite, Holder: digestOf("holder"), From: "192.0.2.8"},
		&PutSite{By: act("5"), Site: "pond", Suspended: true, Description: "by the mill"},
		&PutTicket{By: act("6"), Hash: digestOf("ticket"), Site: "mill", Uses: 2, Expires: 10 * Day},
		&GrantLaunches{Site: "mill", Launches: []NewLaunch{
			{ID: "l1", Shape: "gpu", Offer: has, TicketHash: digestOf("launch"), Expires: 10 * Day},
			{ID: "l2", Shape: "cpu", Offer: has, TicketHash: digestOf("launch 2"), Expires: 10 * Day},
		}},
		&EnrolPilot{Pilot: "p1", Site: "mill", Launch: "l1", TicketHash: digestOf("launch"), PublicKey: bytes.Repeat([]byte{7}, 32), Host: "n1", BatchID: "17.head", Resources: has, Version: "1.0.0"},
		&SkipDatasets{By: act("7"), Next: 1},
		&SubmitDataset{
			By: act("8"), Dataset: 1, Priority: 2, Sites: rule, Jobs: 2, Suspended: true,
			Facts: Facts{
				Alias: "ic86", Title: "t", Description: "d", Owner: "bob", Group: "ice", Parent: 1, Steering: digestOf("steering"), LanguageVersion: 3, Seed: 99,
				Categories: []string{"sim"}, Labels: []Pair{{Name: "a", Value: "b"}}, Options: []Pair{{Name: "o", Value: "p"}}, TempArea: "https://t.example/", Modules: digestOf("modules"),
			},
			Tasks: []TaskSpec{
				{Name: "a", Classes: []Class{{asks, jobs(0, 0)}, {protocol.Requirements{Cores: 2}, jobs(1, 1)}}, Exclusive: true, Reproducible: true},
				{Name: "b", Parents: []protocol.TaskIndex{0}, Classes: []Class{{Requirements: asks}}},
			},
		},
		&AddJobs{By: act("9"), Dataset: 1, From: 2, Jobs: 1, Classes: []AddedClasses{{0, []Class{{asks, jobs(2, 2)}}}}},
		&SetDataset{By: act("10"), Dataset: 1, Verb: DatasetResume, Priority: &priority, Sites: &SiteRule{Excluded: []protocol.SiteID{"pond"}}},
		&Acquire{Pilot: "p1", Free: has, Want: 2, Sequence: 1, Ahead: &protocol.Ahead{Dataset: 1, Task: 1, Count: 3}},
		&Expire{Lease: lease, Task: task, Term: 1, Saved: checkpointFile("half")},
		&Revive{Lease: lease, Task: task},
		&Report{
			Lease: lease, Task: task, Pilot: "p1", Verdict: protocol.VerdictData, Evidence: "exit 1", ExitCode: 1, Signal: 9, Usage: usage,
			Statistics: []protocol.Statistic{{Name: "events", Value: 1.5}}, Outputs: []protocol.FileRecord{file},
			Modules: []protocol.ModuleResult{{Tray: "t", Iteration: 1, Module: "m", ExitCode: 1, Usage: usage}},
			Log:     protocol.LogRecord{Digest: digestOf("log"), Size: 10, Cut: 1}, Host: "n1", Cleaned: true, BadInput: "out",
			StartedUnix: 1, EndedUnix: 2,
		},
		&SuspendTasks{By: act("11"), Select: selection},
		&ResumeTasks{By: act("12"), Select: selection},
		&ResetTasks{By: act("13"), Select: selection},
		&Tick{},
		&Checkpoint{},
		&EndLaunches{Site: "mill", Launches: []protocol.LaunchID{"l2"}, Reason: "removed", Cause: EndDied, Unused: true},
		&DrainPilot{By: act("14"), Pilot: "p1", Undo: true},
		&RevokePilot{By: act("15"), Pilot: "p1"},
		&LeavePilot{Pilot: "p1", Verdict: protocol.VerdictPreempted, Reason: "end of slot"},
		&RevokeToken{By: act("16"), Hash: digestOf("token")},
		&RevokeSite{By: act("17"), Site: "mill"},
		&RemoveSite{By: act("18"), Site: "pond"},
		&RemoveUser{By: act("19"), User: "bob"},
		&RemoveMember{By: act("20"), Node: "c1"},
	}
}

// samples2 has the commands that came with format 2, likewise, to follow samples.
func samples2() []Command {
	by := Action{Actor: "ann", Reason: "because", From: "192.0.2.7"}
	act := func(key string) Action {
		a := by
		a.Key = key
		return a
	}
	return []Command{
		&SetFormat{By: act("21"), Format: 2},
		&ExcludeNode{By: act("22"), Site: "mill", Host: "n1", Part: NodeGPUs},
		&ReleaseNode{By: act("23"), Site: "mill", Host: "n1"},
		&PutPublisher{By: act("24"), User: "bob", Key: publisherKey("bob"), Certificate: []byte("certificate")},
		&PublishSoftware{By: act("25"), Item: sampleBuild("bob", "icetray", "1.0", "any", "tarball"), Group: "ice"},
		&PublishSoftware{By: act("26"), Item: sampleBuild("bob", "icetray", "1.1", "linux-x86_64-glibc2.28", "tarball 2"), Owner: "bob", Group: "ice"},
		&RetireSoftware{By: act("27"), Name: "icetray", Version: "1.0", Platform: "any"},
		&RetireSoftware{By: act("28"), Name: "icetray", Version: "1.0", Platform: "any", Undo: true},
		&PublishSoftware{By: act("30"), Item: sampleBuild("bob", protocol.PilotSoftware, "1.2", "linux-x86_64", "pilot")},
		&SetRelease{By: act("31"), Version: "1.2", Sites: []protocol.SiteID{"mill", "pond"}, Percent: 25},
		&SetRelease{By: act("32"), Back: true},
		&RevokePublisher{By: act("29"), Key: publisherKey("bob"), Retire: true},
		&PutSite{By: act("40"), Site: "dale"},
		&PutSitePolicy{By: act("41"), Site: "dale", Policy: samplePolicy(), Opening: Opening{Ends: 9 * Day, NextDown: 9 * Day}},
		&SetOpening{Site: "dale", Opening: Opening{Closed: "downtime 2", Down: true, NextDown: 10 * Day}},
		&OrderSite{By: act("42"), Site: "dale", Order: protocol.SiteReclaim, Own: true, Within: 600},
	}
}

// samplePolicy has every field set.
func samplePolicy() protocol.SitePolicy {
	return protocol.SitePolicy{
		Allow: protocol.SiteWho{Groups: []protocol.GroupID{"ice"}, Users: []protocol.UserID{"bob"}, Datasets: []protocol.DatasetID{7}},
		Ban:   protocol.SiteWho{Groups: []protocol.GroupID{"fire"}, Users: []protocol.UserID{"eve"}, Datasets: []protocol.DatasetID{8}},
		Own:   []protocol.GroupID{"ice"}, Share: 60, Caps: protocol.SiteCaps{Cores: 100, GPUs: 4, Scratch: protocol.GB, Network: protocol.MB},
		Timed: true, Hours: []protocol.Window{{From: 1000, To: 2000}, {From: 3000, To: 4000}},
		Downtimes: []protocol.Downtime{{Number: 2, Window: protocol.Window{From: 1500, To: 2500}, Reason: "power"}},
	}
}

func publisherKey(user string) protocol.PublisherKey {
	d := digestOf("key of " + user)
	return d[:]
}

// sampleBuild is a build in a record, which does not look at signatures.
func sampleBuild(user protocol.UserID, name, version, platform, content string) protocol.SignedBuild {
	return protocol.SignedBuild{
		Build: protocol.Build{
			Cluster: "ice", Name: name, Version: version, Platform: platform, Publisher: user,
			Digest: digestOf(content), Size: 100, Manifest: digestOf("manifest of " + content), Files: 2, Unpacked: 300,
		},
		Key: publisherKey(string(user)), Signature: bytes.Repeat([]byte{7}, 64), URL: "https://area.example/" + content,
	}
}

func sampleName(c Command) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", c), "*state.")
	if r, is := c.(*RetireSoftware); is && r.Undo {
		name += "-undo"
	}
	if p, is := c.(*PublishSoftware); is && p.Owner != "" {
		name += "-known"
	}
	if p, is := c.(*PublishSoftware); is && p.Item.Build.Name == protocol.PilotSoftware {
		name += "-pilot"
	}
	if s, is := c.(*SetRelease); is && s.Back {
		name += "-back"
	}
	return fmt.Sprintf("%02d-%s.hex", c.Kind(), name)
}

func TestSamplesAreWhole(t *testing.T) {
	seen := map[Kind]bool{}
	whole := map[Kind]map[string]bool{} // the fields that some sample of the kind sets
	for _, c := range append(samples(), samples2()...) {
		if err := c.Validate(); err != nil {
			t.Errorf("%T: %v", c, err)
		}
		seen[c.Kind()] = true
		if whole[c.Kind()] == nil {
			whole[c.Kind()] = map[string]bool{}
		}
		v := reflect.ValueOf(c).Elem()
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			whole[c.Kind()][name] = whole[c.Kind()][name] || !v.Field(i).IsZero()
		}
	}
	for k, fields := range whole {
		for name, set := range fields {
			if !set {
				t.Errorf("%T: field %s is set in no sample", newCommand(k), name)
			}
		}
	}
	for k := range Kind(255) {
		if (newCommand(k) != nil) != seen[k] {
			t.Errorf("kind %d: is a command: %v, has a sample: %v", k, newCommand(k) != nil, seen[k])
		}
	}
}

// readHex reads a golden file, writing it first with -update.
func readHex(t *testing.T, path string, now []byte) []byte {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for part := range slices.Chunk([]byte(hex.EncodeToString(now)), 100) {
			b.WriteString(string(part) + "\n")
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return data
}

// Commands that a release wrote into logs are read, and mean the same, forever.
func TestOldCommands(t *testing.T) {
	testOldCommands(t, "testdata/commands/v1", samples())
	testOldCommands(t, "testdata/commands/v2", samples2())
}

func testOldCommands(t *testing.T, folder string, commands []Command) {
	t.Helper()
	for _, c := range commands {
		path := filepath.Join(folder, sampleName(c))
		now := mustEncode(t, c)
		old := readHex(t, path, now)
		got, err := DecodeCommand(old)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%s reads as %+v, want %+v", path, got, c)
		}
		if !bytes.Equal(old, now) {
			t.Errorf("%s: %T is written otherwise now", path, c)
		}
	}
}

// sampleLog applies the samples, one entry each, and returns the machine.
func sampleLog(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	for i, c := range append(samples(), samples2()...) {
		answers, _ := r.apply(Second, c)
		if a := answers[0]; a.Code != protocol.CodeOK {
			t.Errorf("sample %d, %T: answered %v: %s", i+1, c, a.Code, a.Reason)
		}
	}
	return r
}

// A record that a release persisted is restored forever, as the same record.
func TestOldRecord(t *testing.T) {
	r := newRig(t)
	// All but the commands that end what the others made.
	for _, c := range samples()[:21] {
		r.apply(Second, c)
	}
	testOldRecord(t, "testdata/records/v1.hex", r.m)

	// What came with format 2: nodes with a standing, tasks that were lost, and what they
	// had saved.
	r.do(protocol.CodeOK, &SetFormat{Format: 2})
	r.do(protocol.CodeOK, submission(2, 9, chain(1)))
	r.enrol("p2", "dale", big)
	for i, g := range r.acquire("p2", 9) {
		switch {
		case i == 0:
			r.do(protocol.CodeOK, success(&g.Lease))
		case i < 8:
			r.do(protocol.CodeOK, failure(&g.Lease, protocol.VerdictPayload))
		default:
			r.do(protocol.CodeOK, &Expire{Lease: g.Lease.ID, Task: g.Lease.Task, Term: r.term, Saved: checkpointFile("half")})
		}
	}
	r.do(protocol.CodeOK, &ExcludeNode{By: Action{Actor: "ann", Reason: "loud"}, Site: "pond", Host: "n9"})
	// And the catalog, with a dataset that uses it.
	r.do(protocol.CodeOK, &PutPublisher{User: "bob", Key: publisherKey("bob"), Certificate: []byte("certificate")})
	r.do(protocol.CodeOK, &PutPublisher{User: "eve", Key: publisherKey("eve"), Certificate: []byte("another")})
	r.do(protocol.CodeOK, &PublishSoftware{Item: sampleBuild("bob", "icetray", "1.0", "any", "tarball"), Group: "ice"})
	r.do(protocol.CodeOK, &PublishSoftware{Item: sampleBuild("bob", "icetray", "1.1", "any", "tarball 2"), Owner: "bob"})
	r.do(protocol.CodeOK, &RetireSoftware{Name: "icetray", Version: "1.0"})
	r.do(protocol.CodeOK, &RevokePublisher{Key: publisherKey("eve")})
	s := submission(3, 1, chain(1))
	s.Facts.Software = digestOf("bill")
	r.do(protocol.CodeOK, s)
	// And releases of the pilot.
	r.do(protocol.CodeOK, &PublishSoftware{Item: sampleBuild("bob", protocol.PilotSoftware, "1.2", "linux-x86_64", "pilot")})
	r.do(protocol.CodeOK, &PublishSoftware{Item: sampleBuild("bob", protocol.PilotSoftware, "1.3", "linux-x86_64", "pilot 2"), Owner: "bob"})
	r.do(protocol.CodeOK, &SetRelease{Version: "1.2", Percent: 100})
	r.do(protocol.CodeOK, &SetRelease{Version: "1.3", Sites: []protocol.SiteID{"pond"}, Percent: 20})
	// And sites with rules of their own: counted leases, orders, a downtime.
	r.do(protocol.CodeOK, &PutSitePolicy{Site: "dale", Policy: samplePolicy()})
	r.do(protocol.CodeOK, &PutSitePolicy{Site: "pond", Policy: protocol.SitePolicy{Ban: protocol.SiteWho{Users: []protocol.UserID{"eve"}}}})
	r.do(protocol.CodeOK, &SetOpening{Site: "pond", Opening: Opening{Closed: "downtime 1", Down: true}})
	r.do(protocol.CodeOK, &OrderSite{By: Action{Actor: "<site dale>", Reason: "exam week"}, Site: "dale", Order: protocol.SitePause, Own: true})
	r.do(protocol.CodeOK, &OrderSite{By: Action{Actor: "ann"}, Site: "dale", Order: protocol.SiteReclaim, Within: 600})
	testOldRecord(t, "testdata/records/v2.hex", r.m)
}

func testOldRecord(t *testing.T, path string, now *Machine) {
	t.Helper()
	old := readHex(t, path, persisted(t, now.Snapshot()))
	m := New()
	if err := m.Restore(bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old, persisted(t, m.Snapshot())) {
		t.Errorf("%s is written otherwise after it was restored", path)
	}
	checkInvariants(t, m)
	if !bytes.Equal(old, persisted(t, now.Snapshot())) {
		t.Errorf("%s: the commands make another record now", path)
	}
}

// Two machines that are fed one log agree to the byte, at every entry.
func TestSameLogSameRecord(t *testing.T) {
	r := sampleLog(t)
	a, b := New(), New()
	for i, entry := range r.log {
		index := uint64(i + 1)
		_, eventsA, errA := a.Apply(index, 1, entry)
		_, eventsB, errB := b.Apply(index, 1, entry)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if !reflect.DeepEqual(encodeEvents(t, eventsA), encodeEvents(t, eventsB)) {
			t.Errorf("entry %d: other events", index)
		}
		if a.Snapshot().Digest() != b.Snapshot().Digest() {
			t.Errorf("entry %d: another record", index)
		}
	}
	if a.Snapshot().Digest() != r.m.Snapshot().Digest() {
		t.Error("replaying a log gives another record")
	}
}

// Events are written and read back as they were.
func TestEventsSurvive(t *testing.T) {
	r := sampleLog(t)
	seen := map[EventKind]bool{}
	m := New()
	for i, entry := range r.log {
		_, events, err := m.Apply(uint64(i+1), 1, entry)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			seen[e.Body.Kind()] = true
			b, err := EncodeEvent(e.Body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeEvent(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := EncodeEvent(got)
			if err != nil || !bytes.Equal(b, again) || got.Kind() != e.Body.Kind() {
				t.Errorf("%s came back as %s, %v", eventLine(e.Body), eventLine(got), err)
			}
		}
	}
	if len(seen) < 16 {
		t.Errorf("the samples make events of %d kinds only", len(seen))
	}
	for _, bad := range [][]byte{nil, {0}, {200, 0xa0}, {byte(EventJobsAdded)}, {byte(EventJobsAdded), 0xa1, 0x18, 0x63, 1}} {
		if _, err := DecodeEvent(bad); err == nil {
			t.Errorf("DecodeEvent(%x) = nil error", bad)
		}
	}
}
