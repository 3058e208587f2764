package state

import (
	"testing"

	"floe/protocol"
)

// A dataset that began without jobs may turn out to ask for something else in
// each job when its first jobs come.
func TestFirstJobsBringClasses(t *testing.T) {
	r := newRig(t)
	r.do(protocol.CodeOK, submission(1, 0, chain(2)))
	class := func(memory protocol.ByteSize, first, last protocol.JobIndex) Class {
		return Class{protocol.Requirements{Cores: 1, Memory: memory}, []protocol.JobRange{{First: first, Last: last}}}
	}
	r.do(protocol.CodeOK, &AddJobs{Dataset: 1, Jobs: 3, Classes: []AddedClasses{{0, []Class{class(2*protocol.GB, 0, 1), class(4*protocol.GB, 2, 2)}}}})
	r.do(protocol.CodeOK, &AddJobs{Dataset: 1, From: 3, Jobs: 1, Classes: []AddedClasses{{0, []Class{class(4*protocol.GB, 3, 3)}}}})
	r.do(protocol.CodeBadRequest, &AddJobs{Dataset: 1, From: 4, Jobs: 1}) // now each job needs a class
	r.enrol("p1", "mill", big)
	want := []protocol.ByteSize{2 * protocol.GB, 2 * protocol.GB, 4 * protocol.GB, 4 * protocol.GB}
	for i, g := range r.acquire("p1", 8) {
		if g.Granted.Memory != want[i] {
			t.Errorf("job %d was granted %v, want %v", g.Lease.Task.Job, g.Granted.Memory, want[i])
		}
	}
	if d, _ := r.m.Dataset(1); len(d.Tasks[0].Requirements) != 2 || len(d.Tasks[1].Requirements) != 1 {
		t.Errorf("requirements %+v and %+v, want two classes and one", d.Tasks[0].Requirements, d.Tasks[1].Requirements)
	}
}
