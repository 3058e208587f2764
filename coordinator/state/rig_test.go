package state

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

// rig feeds a machine as a log does: one entry per call. Every entry is applied
// by a second machine, too, which was restored from a snapshot just before; both
// must give the same events and the same record. After each entry the invariants
// are checked.
type rig struct {
	t      failer
	m      *Machine
	index  uint64
	term   uint64
	wall   UnixMillis
	log    [][]byte
	quick  bool // no second machine and no checks
	ledger *ledger
}

// failer is what testing.T and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newRig(t failer) *rig {
	return &rig{t: t, m: New(), ledger: newLedger(t), term: 1, wall: 1_700_000_000_000}
}

func mustEncode(t failer, c Command) []byte {
	t.Helper()
	b, err := EncodeCommand(c)
	if err != nil {
		t.Fatalf("EncodeCommand(%T) = %v", c, err)
	}
	return b
}

// entry builds the next entry of the log.
func (r *rig) entry(elapsed RecordTime, commands ...Command) *Entry {
	r.t.Helper()
	r.wall += UnixMillis(elapsed / (Second / 1000))
	e := &Entry{Term: r.term, Elapsed: elapsed, Wall: r.wall, First: r.index == 0}
	binary.BigEndian.PutUint64(e.Nonce[:], r.index+1)
	for _, c := range commands {
		if err := c.Validate(); err != nil {
			r.t.Fatalf("%T.Validate() = %v", c, err)
		}
		e.Commands = append(e.Commands, mustEncode(r.t, c))
	}
	return e
}

// apply applies the commands as one entry, after some time.
func (r *rig) apply(elapsed RecordTime, commands ...Command) ([]Answer, []Event) {
	r.t.Helper()
	return r.applyEntry(EncodeEntry(r.entry(elapsed, commands...)), r.term)
}

// do applies one command, which must be answered with a code.
func (r *rig) do(want protocol.Code, c Command) Answer {
	r.t.Helper()
	answers, _ := r.apply(0, c)
	if answers[0].Code != want {
		r.t.Fatalf("%T answered %v: %s, want %v", c, answers[0].Code, answers[0].Reason, want)
	}
	return answers[0]
}

func (r *rig) applyEntry(entry []byte, term uint64) ([]Answer, []Event) {
	r.t.Helper()
	r.index++
	r.log = append(r.log, entry)
	var other *Machine
	var frozen *Frozen
	var before []byte
	if !r.quick {
		frozen = r.m.Snapshot()
		before = persisted(r.t, frozen)
		other = restored(r.t, frozen)
	}
	answers, events, err := r.m.Apply(r.index, term, entry)
	if err != nil {
		r.t.Fatalf("Apply(%d) = %v", r.index, err)
	}
	if r.quick {
		return answers, events
	}
	_, otherEvents, err := other.Apply(r.index, term, entry)
	if err != nil {
		r.t.Fatalf("restored machine: Apply(%d) = %v", r.index, err)
	}
	if diff := cmp.Diff(encodeEvents(r.t, events), encodeEvents(r.t, otherEvents)); diff != "" {
		r.t.Fatalf("a restored machine gave other events (-machine +restored):\n%s", diff)
	}
	if a, b := persisted(r.t, r.m.Snapshot()), persisted(r.t, other.Snapshot()); !bytes.Equal(a, b) {
		r.t.Fatalf("a restored machine came to another record at index %d", r.index)
	}
	if !bytes.Equal(before, persisted(r.t, frozen)) {
		r.t.Fatalf("the entry at index %d changed a record that was frozen before", r.index)
	}
	checkInvariants(r.t, r.m)
	r.ledger.fold(r.m, events)
	return answers, events
}

func persisted(t failer, f *Frozen) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f.Persist(&b); err != nil {
		t.Fatalf("Persist() = %v", err)
	}
	return b.Bytes()
}

// restored returns a machine that was restored from a snapshot.
func restored(t failer, f *Frozen) *Machine {
	t.Helper()
	m := New()
	if err := m.Restore(bytes.NewReader(persisted(t, f))); err != nil {
		t.Fatalf("Restore() = %v", err)
	}
	return m
}

// encodedEvent is an event in a form that cmp can compare and print.
type encodedEvent struct {
	Index   uint64
	Ordinal uint32
	Time    RecordTime
	Wall    UnixMillis
	Body    string
	Bytes   []byte
}

func encodeEvents(t failer, events []Event) []encodedEvent {
	t.Helper()
	var all []encodedEvent
	for _, e := range events {
		b, err := EncodeEvent(e.Body)
		if err != nil {
			t.Fatalf("EncodeEvent(%T) = %v", e.Body, err)
		}
		all = append(all, encodedEvent{e.Index, e.Ordinal, e.Time, e.Wall, eventLine(e.Body), b})
	}
	return all
}

// Things that tests submit.

func digestOf(s string) protocol.Digest { return protocol.DigestOf([]byte(s)) }

// chain is a DAG of tasks, each of which reads the one before.
func chain(n int) []TaskSpec {
	specs := make([]TaskSpec, n)
	for i := range specs {
		specs[i] = TaskSpec{Name: string(rune('a' + i)), Classes: []Class{{Requirements: protocol.Requirements{Cores: 1, Memory: protocol.GB}}}}
		if i > 0 {
			specs[i].Parents = []protocol.TaskIndex{protocol.TaskIndex(i - 1)}
		}
	}
	return specs
}

func submission(id protocol.DatasetID, jobs uint32, tasks []TaskSpec) *SubmitDataset {
	return &SubmitDataset{
		Dataset: id, Facts: Facts{Owner: "ann", Steering: digestOf("steering"), LanguageVersion: 1},
		Jobs: jobs, Tasks: tasks,
	}
}

// enrol makes a site known, and a pilot at it.
func (r *rig) enrol(pilot protocol.PilotID, site protocol.SiteID, has protocol.Resources) {
	r.t.Helper()
	r.apply(0, &PutSite{Site: site})
	r.enrolAt(pilot, site, has)
}

// enrolAt enrols a pilot at a known site.
func (r *rig) enrolAt(pilot protocol.PilotID, site protocol.SiteID, has protocol.Resources) {
	r.t.Helper()
	r.enrolOn(pilot, site, "node-"+string(pilot), has)
}

// enrolOn enrols a pilot on a host of a known site.
func (r *rig) enrolOn(pilot protocol.PilotID, site protocol.SiteID, host string, has protocol.Resources) {
	r.t.Helper()
	ticket := digestOf("ticket " + string(pilot))
	answers, _ := r.apply(0,
		&PutTicket{Site: site, Hash: ticket, Uses: 1, Expires: r.m.Time() + Hour},
		&EnrolPilot{Pilot: pilot, Site: site, TicketHash: ticket, PublicKey: make([]byte, 32), Host: host, Resources: has},
	)
	if a := answers[1]; a.Code != protocol.CodeOK {
		r.t.Fatalf("EnrolPilot(%s) answered %v: %s", pilot, a.Code, a.Reason)
	}
}

// big is a pilot that has enough of everything.
var big = protocol.Resources{Cores: 64, Memory: 1000 * protocol.GB, Disk: 1000 * protocol.GB}

// acquire asks for tasks for a pilot.
func (r *rig) acquire(pilot protocol.PilotID, want uint16) []Grant {
	r.t.Helper()
	return r.do(protocol.CodeOK, &Acquire{Pilot: pilot, Free: big, Want: want}).Grants
}

func success(l *Lease) *Report {
	return &Report{
		Lease: l.ID, Task: l.Task, Pilot: l.Pilot, Verdict: protocol.VerdictOK,
		Usage: protocol.Usage{WallMillis: 1000, CPUMillis: 900}, Cleaned: true,
		Outputs: []protocol.FileRecord{output(l, protocol.FileJobTemp)},
	}
}

// output is a file an attempt made: its name is the task's, its URL the attempt's.
func output(l *Lease, t protocol.FileType) protocol.FileRecord {
	name := "out." + l.Task.String()
	return protocol.FileRecord{
		Type: t, Name: name, URL: "https://temp.example/" + l.ID.String(), Size: 1, Digest: digestOf(l.ID.String()),
	}
}

// checkpointFile is what an attempt has saved.
func checkpointFile(name string) *protocol.FileRecord {
	return &protocol.FileRecord{Type: protocol.FileCheckpoint, Name: "checkpoint", URL: "saved:" + name, Size: 7, Digest: digestOf(name)}
}

func failure(l *Lease, v protocol.Verdict) *Report {
	return &Report{Lease: l.ID, Task: l.Task, Pilot: l.Pilot, Verdict: v, Usage: protocol.Usage{WallMillis: 500}}
}

func TestSmoke(t *testing.T) {
	r := newRig(t)
	r.do(protocol.CodeOK, submission(1, 2, chain(2)))
	r.enrol("p1", "mill", big)
	for round := range 2 {
		grants := r.acquire("p1", 8)
		if len(grants) != 2 {
			t.Fatalf("round %d: %d grants, want 2", round, len(grants))
		}
		for _, g := range grants {
			if want := protocol.TaskIndex(round); g.Lease.Task.Task != want {
				t.Errorf("round %d: granted task %v, want %d", round, g.Lease.Task, want)
			}
			r.do(protocol.CodeOK, success(&g.Lease))
		}
	}
	d, known := r.m.Dataset(1)
	if !known || d.State != protocol.DatasetComplete || d.JobCounts[protocol.JobOK] != 2 {
		t.Errorf("Dataset(1) = %+v, %v; want complete with 2 jobs ok", d, known)
	}
	if got := r.m.Totals(); got.Leases != 0 || got.Tasks[protocol.TaskOK] != 4 {
		t.Errorf("Totals() = %+v, want 4 tasks ok and no lease", got)
	}
}
