package federation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"floe/cmd/simulation"
	"floe/coordinator/history"
	"floe/coordinator/replica"
	"floe/coordinator/state"
	"floe/protocol"
)

// checkStatistics asks the leader what the modules counted: every job once per
// task, to the last bit (I-11).
func (f *federation) checkStatistics() {
	for _, d := range f.known() {
		var reply protocol.StatisticsReply
		f.must(f.call("GET", fmt.Sprintf("/v1/datasets/%d/statistics", d.id), nil, &reply))
		got := map[string]float64{}
		for _, s := range reply.Statistics {
			got[s.Task+" "+s.Name] = s.Sum
		}
		n := float64(d.jobs)
		want := map[string]float64{}
		for _, task := range []string{"make ", "use "} {
			want[task+"jobs"], want[task+"index"] = n, n*(n-1)/2
		}
		want[" jobs"], want[" index"] = 2*n, n*(n-1)
		if diff := cmp.Diff(want, got); diff != "" {
			f.t.Errorf("I-11: statistics of dataset %d (-want +got):\n%s", d.id, diff)
		}
	}
}

// check compares what is left on disk, and what pilots were told, with the committed
// log, applied once more.
func (f *federation) check() {
	for _, n := range f.nodes {
		f.archive.takeSnapshots(n, n.record())
	}
	r := f.replay()
	for _, n := range f.nodes {
		f.checkDisk(n, r)
	}
	f.checkLedgers(r)
	f.checkAnswers(r)
	f.checkLapses(r)
	f.checkClaims(r)
}

// replayed is the committed log, applied by one machine from its beginning, and what
// it says of each lease.
type replayed struct {
	machine   *state.Machine
	chain     [sha256.Size]byte
	events    [][]state.Event // of each entry that has some
	granted   map[protocol.LeaseID]*state.LeaseGranted
	ended     map[protocol.LeaseID]*state.AttemptEnded
	endedAt   map[protocol.LeaseID]state.UnixMillis
	lapsed    map[protocol.LeaseID][]state.UnixMillis
	withdrawn map[protocol.LeaseID]bool
}

// replay applies the archive. At the index of each snapshot that a coordinator took
// the machine must be what the coordinator's was, to the last byte (I-19, I-20).
// Then simulation (a) applies it, which checks the invariants of every entry.
func (f *federation) replay() *replayed {
	r := &replayed{
		machine: state.New(), granted: map[protocol.LeaseID]*state.LeaseGranted{}, ended: map[protocol.LeaseID]*state.AttemptEnded{},
		endedAt: map[protocol.LeaseID]state.UnixMillis{}, lapsed: map[protocol.LeaseID][]state.UnixMillis{}, withdrawn: map[protocol.LeaseID]bool{},
	}
	compared := 0
	for i := uint64(1); i <= f.archive.last; i++ {
		e, ok := f.archive.entries[i]
		if !ok {
			f.t.Fatalf("the archive lacks entry %d of %d", i, f.archive.last)
		}
		if e.Data != nil {
			r.apply(f, &e)
		}
		for _, s := range f.archive.snapshots {
			if s.index == i {
				compared++
				if !bytes.Equal(s.body, r.persist(f)) {
					f.t.Errorf("I-20: the snapshot of %s at %d is not what the log gives", s.of, i)
				}
			}
		}
	}
	if compared == 0 {
		f.t.Error("no coordinator took a snapshot")
	}
	again, err := simulation.Replay(f.archive.committed, nil)
	if err != nil {
		f.t.Fatalf("simulation.Replay: %v", err)
	}
	var last bytes.Buffer
	f.must(r.machine.Snapshot().Persist(&last))
	if again.Snapshot != sha256.Sum256(last.Bytes()) {
		f.t.Error("I-20: simulation.Replay comes to another record")
	}
	f.t.Logf("%d entries, %d leases, %d lapses; %d snapshots compared; %d exchanges; %v of virtual time",
		f.archive.last, len(r.granted), len(r.lapsed), compared, len(f.history.operations()), f.now())
	return r
}

func (r *replayed) apply(f *federation, e *replica.Logged) {
	_, events, err := r.machine.Apply(e.Index, e.Term, e.Data)
	f.must(err)
	h := sha256.New()
	h.Write(r.chain[:])
	h.Write(binary.BigEndian.AppendUint64(nil, e.Index))
	h.Write(e.Data)
	for i := range events {
		b, err := state.EncodeEvent(events[i].Body)
		f.must(err)
		h.Write(b)
		r.note(&events[i])
	}
	h.Sum(r.chain[:0])
	if len(events) > 0 {
		r.events = append(r.events, events)
	}
}

// note remembers what an event says of a lease.
func (r *replayed) note(e *state.Event) {
	switch b := e.Body.(type) {
	case *state.LeaseGranted:
		r.granted[b.Lease] = b
	case *state.LeaseLapsed:
		r.lapsed[b.Lease] = append(r.lapsed[b.Lease], e.Wall)
	case *state.AttemptEnded:
		r.ended[b.Lease], r.endedAt[b.Lease] = b, e.Wall
	case *state.AttemptsWithdrawn:
		for id, a := range r.ended {
			inside := func(j protocol.JobRange) bool { return j.First <= a.Task.Job && a.Task.Job <= j.Last }
			if a.Accepted && a.Task.Dataset == b.Dataset && a.Task.Task == b.Task && slices.ContainsFunc(b.Jobs, inside) {
				r.withdrawn[id] = true
			}
		}
	}
}

// persist is the record as a snapshot has it.
func (r *replayed) persist(f *federation) []byte {
	var b bytes.Buffer
	b.Write(r.chain[:])
	f.must(r.machine.Snapshot().Persist(&b))
	return b.Bytes()
}

// checkDisk starts a machine from what a coordinator left on its disk.
func (f *federation) checkDisk(n *node, r *replayed) {
	m := state.New()
	var from uint64
	f.must(replica.ReadSnapshots(n.record(), func(index uint64, body io.Reader) error {
		from = index
		m = state.New()
		if _, err := io.CopyN(io.Discard, body, sha256.Size); err != nil {
			return err
		}
		return m.Restore(body)
	}))
	log, err := replica.ReadLog(n.record())
	f.must(err)
	for _, e := range log {
		if e.Index > from && e.Index <= f.archive.last && e.Data != nil {
			if _, _, err := m.Apply(e.Index, e.Term, e.Data); err != nil {
				f.t.Fatalf("%s: entry %d: %v", n.name, e.Index, err)
			}
		}
	}
	var got, want bytes.Buffer
	f.must(m.Snapshot().Persist(&got))
	f.must(r.machine.Snapshot().Persist(&want))
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		f.t.Errorf("I-20: %s at %d has another record than the log gives at %d", n.name, m.Index(), r.machine.Index())
	}
}

// checkLedgers compares the ledgers with each other and with the events: each
// attempt once, one per task that counts (I-1, I-11).
func (f *federation) checkLedgers(r *replayed) {
	want := map[protocol.LeaseID]protocol.Verdict{}
	for id, e := range r.ended {
		want[id] = e.Verdict
	}
	for _, n := range f.nodes {
		l, err := history.Open(history.Config{Dir: filepath.Join(n.dir, "history"), Logger: slog.New(slog.DiscardHandler)})
		f.must(err)
		if gap, ok := l.Gap(); ok {
			f.t.Errorf("I-16: the ledger of %s has a gap from %d to %d", n.name, gap.From, gap.To)
		}
		got, counted := map[protocol.LeaseID]protocol.Verdict{}, map[protocol.TaskID]int{}
		for _, d := range f.known() {
			for _, a := range f.attempts(l, d.id) {
				got[a.Lease] = a.Verdict
				if a.Counts() {
					counted[a.Task]++
				}
			}
			for job := range d.jobs {
				for task := range protocol.TaskIndex(tasksPerJob) {
					if id := (protocol.TaskID{Dataset: d.id, Job: protocol.JobIndex(job), Task: task}); counted[id] != 1 {
						f.t.Errorf("I-1: %d attempts of %v count at %s", counted[id], id, n.name)
					}
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			f.t.Errorf("I-11: attempts in the ledger of %s (-log +ledger):\n%s", n.name, diff)
		}
		f.must(l.Close())
	}
}

func (f *federation) attempts(l *history.Ledger, d protocol.DatasetID) (all []history.Attempt) {
	q := history.AttemptQuery{Dataset: d, Limit: 1000}
	for {
		page, err := l.AttemptsPage(context.Background(), q)
		f.must(err)
		all = append(all, page.Attempts...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return all
		}
	}
}

// checkAnswers compares what pilots were told with the log.
func (f *federation) checkAnswers(r *replayed) {
	for _, o := range f.history.operations() {
		if o.err != nil {
			if code := protocol.CodeOf(o.err); code == protocol.CodeInternal && isAnswer(o.err) {
				f.t.Errorf("I-18: %s at %v was answered %v", o.client, o.call, o.err)
			}
			continue
		}
		for _, l := range o.reply.Leases {
			if g := r.granted[l.ID]; g == nil || g.Task != l.Task || g.Attempt != l.Attempt {
				f.t.Errorf("I-16: %s was granted %v of %v at %v; the log says %+v", o.client, l.ID, l.Task, o.back, g)
			}
		}
		verdicts := map[protocol.LeaseID]protocol.Verdict{}
		for i := range o.request.Reports {
			if report, err := o.request.Reports[i].Decode(); err == nil {
				verdicts[report.Lease] = report.Verdict
			}
		}
		for _, a := range o.reply.Answers {
			end := r.ended[a.Lease]
			switch {
			case a.Code == protocol.CodeOK && end == nil:
				f.t.Errorf("I-16: the report of %s on %v was acknowledged at %v and is not in the log", o.client, a.Lease, o.back)
			case a.Code == protocol.CodeOK && verdicts[a.Lease] == protocol.VerdictOK && !end.Accepted:
				f.t.Errorf("I-16: the report of %s on %v was acknowledged at %v; the log says %v", o.client, a.Lease, o.back, end.Verdict)
			case a.Code == protocol.CodeStale && end != nil && end.Accepted && !r.withdrawn[a.Lease]:
				f.t.Errorf("I-2: the report of %s on %v was called stale at %v; it counts", o.client, a.Lease, o.back)
			}
		}
		for _, x := range o.reply.Orders {
			if x.Kind != protocol.OrderAbandon {
				continue
			}
			// Not before the lease has ended: it would kill work that counts.
			if at, ok := r.endedAt[x.Lease]; !ok || f.virtual(at) > o.back {
				f.t.Errorf("I-2: %s was ordered to abandon %v at %v (%s); the log ends it at %v", o.client, x.Lease, o.back, x.Reason, f.virtual(at))
			}
		}
	}
}

// renewalSlack is how long a leader may answer after another was elected: its
// renewals count for nothing, and leases begin anew with the election.
const renewalSlack = 5 * time.Second

// checkLapses holds lapses against the renewals that were answered (I-7).
func (f *federation) checkLapses(r *replayed) {
	for _, o := range f.history.operations() {
		if o.err != nil {
			continue
		}
		for _, h := range o.request.Held {
			for _, lapse := range r.lapsed[h.Lease] {
				at := f.virtual(lapse)
				if at >= o.back && at < o.call+5*time.Minute-renewalSlack {
					f.t.Errorf("I-7: %v lapsed at %v, renewed between %v and %v", h.Lease, at, o.call, o.back)
				}
			}
		}
	}
}

// virtual is the time in the bubble at which an entry was stamped.
func (f *federation) virtual(wall state.UnixMillis) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.walls[wall]
}

// checkClaims asks whether one coordinator that never fails could have answered what
// pilots were answered (simulation.History).
func (f *federation) checkClaims(r *replayed) {
	h := simulation.NewHistory()
	clients := map[string]int{}
	lost := map[string]time.Duration{} // the first exchange of a pilot whose answer was lost
	for _, o := range f.history.operations() {
		client, known := clients[o.client]
		if !known {
			client = len(clients) + 1
			clients[o.client] = client
		}
		call, back := int64(o.call), int64(o.back)
		if o.err != nil {
			back = simulation.Never
			if _, ok := lost[o.client]; !ok {
				lost[o.client] = o.call
			}
		} else {
			since := call
			if at, ok := lost[o.client]; ok {
				since = int64(at) // what it was granted then is sent again
			}
			for _, l := range o.reply.Leases {
				h.Claimed(client, l.Task, l.ID, since, back)
			}
		}
		for i := range o.request.Reports {
			report, err := o.request.Reports[i].Decode()
			f.must(err)
			answer := protocol.CodeUnknown
			if o.err == nil {
				for _, a := range o.reply.Answers {
					if a.Lease == report.Lease {
						answer = a.Code
					}
				}
			}
			h.Reported(client, report.Task, report.Lease, report.Verdict, answer, call, back)
		}
	}
	for _, events := range r.events {
		proposed := f.virtual(events[0].Wall)
		h.Observe(int64(proposed), int64(f.archive.seen(events[0].Index)), events)
	}
	if _, err := h.Check(0); err != nil {
		f.t.Errorf("I-1, I-16: %v", err)
	}
}

// isAnswer tells an answer of a coordinator from an error of the network.
func isAnswer(err error) bool {
	var refused *protocol.Error
	return errors.As(err, &refused)
}
