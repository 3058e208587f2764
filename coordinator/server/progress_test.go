package server

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// blobHere has a checkpoint in the coordinators' own store, as an attempt of a job
// would.
func (r *rig) blobHere(p *worker, l *protocol.Lease, text string) protocol.FileRecord {
	r.t.Helper()
	d := protocol.DigestOf([]byte(text))
	if err := p.put(l, "temp", []byte(text)); err != nil {
		r.t.Fatal(err)
	}
	return protocol.FileRecord{Type: protocol.FileCheckpoint, Name: "checkpoint", URL: protocol.BlobURL(d), Size: protocol.ByteSize(len(text)), Digest: d}
}

// What a payload says of itself is shown while it runs, and leaves no trace in the
// record.
func TestProgressIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ada := r.person("ada", "producer")
		r.submit(ada, 2, twoTasks)
		p, other := r.enrol("here"), r.enrol("there")
		leases := p.take(2)
		l := &leases[0]
		at := fmt.Sprintf("/v1/datasets/1/jobs/%d", l.Task.Job)
		applied := r.record.Applied()
		said := protocol.Progress{Lease: l.ID, Fraction: 0.25, Text: "step 3", Statistics: []protocol.Statistic{{Name: "events", Value: 1200}}}
		renewal := protocol.ExchangeRequest{Held: []protocol.HeldLease{held(l, protocol.PhaseRunning), held(&leases[1], protocol.PhaseRunning)}}
		renewal.Progress = []protocol.Progress{said, {Lease: leases[1].ID, Fraction: math.NaN()}}
		p.mustSpeak(renewal)
		// Nobody speaks for what another pilot runs.
		other.mustSpeak(protocol.ExchangeRequest{Progress: []protocol.Progress{{Lease: l.ID, Fraction: 1, Text: "lies"}}})
		if r.record.Applied() != applied {
			t.Errorf("progress made entries %d to %d", applied, r.record.Applied())
		}
		var job protocol.Job
		r.mustAsk(ada, "GET", at, nil, &job)
		said.Lease = protocol.LeaseID{}
		if diff := cmp.Diff(&said, job.Tasks[l.Task.Task].Progress); diff != "" {
			t.Errorf("progress of the job's task (-want +got):\n%s", diff)
		}
		var e protocol.Explanation
		r.mustAsk(ada, "GET", at+"/tasks/0/explain", nil, &e)
		if want := "its payload says that 25 % are done (step 3): events = 1200"; !strings.Contains(strings.Join(e.Lines, "\n"), want) {
			t.Errorf("explain = %q, want %q", e.Lines, want)
		}
		var page protocol.TaskPage
		r.mustAsk(ada, "GET", "/v1/datasets/1/tasks", nil, &page)
		for _, task := range page.Tasks {
			if (task.Progress != nil) != (task.ID == l.Task) {
				t.Errorf("task %v has progress %+v", task.ID, task.Progress)
			}
		}
		p.finish(l)
		job = protocol.Job{}
		r.mustAsk(ada, "GET", at, nil, &job)
		if job.Tasks[l.Task.Task].Progress != nil {
			t.Errorf("a task that is done has progress %+v", job.Tasks[l.Task.Task].Progress)
		}
	})
}

// A checkpoint goes to the next attempt: of a report, or of what a pilot that falls
// silent had said it has stored. When it is of no use any more it goes.
func TestCheckpointsAreHandedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(r.person("ada", "producer"), 1, twoTasks)
		p := r.enrol("here")
		handedOn := func(l *protocol.Lease) string {
			if len(l.Inputs) == 0 {
				return ""
			}
			return l.Inputs[len(l.Inputs)-1].URL
		}
		l := p.take(1)[0]
		first := r.blobHere(p, &l, "first")
		if codes := p.deliver(p.report(&l, protocol.VerdictPreempted, func(x *protocol.Report) { x.Outputs = []protocol.FileRecord{first} })); codes[0] != protocol.CodeOK {
			t.Fatal(codes)
		}
		l = p.take(1)[0]
		if got := handedOn(&l); got != first.URL {
			t.Errorf("the second attempt goes on from %q, want %q", got, first.URL)
		}

		second := r.blobHere(p, &l, "second")
		p.mustSpeak(protocol.ExchangeRequest{
			Held:     []protocol.HeldLease{held(&l, protocol.PhaseRunning)},
			Progress: []protocol.Progress{{Lease: l.ID, Checkpoint: &second}},
		})
		quiet(r.Timing.Lease + 2*time.Second)
		q := r.enrol("there")
		l = q.take(1)[0]
		if got := handedOn(&l); got != second.URL {
			t.Errorf("after a silence the task goes on from %q, want %q", got, second.URL)
		}
		q.finish(&l)
		quiet(time.Second)
		if r.holds(second.Digest) {
			t.Error("the checkpoint of a task that is done is kept")
		}
		l = q.take(1)[0]
		if got := handedOn(&l); got != "" && strings.HasSuffix(got, second.URL) {
			t.Errorf("the next task goes on from %q", got)
		}
	})
}
