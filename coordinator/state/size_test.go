package state

import (
	"testing"

	"floe/protocol"
)

// A dataset of ten million jobs is one object: the command, the record and the
// index do not grow with the number of jobs.
func TestSizeDoesNotDependOnJobs(t *testing.T) {
	const most = 10_000_000
	type size struct{ command, record, sets int }
	measure := func(jobs uint32) size {
		r := newRig(t)
		r.quick = true
		c := submission(1, jobs, chain(5))
		r.do(protocol.CodeOK, c)
		d, _ := r.m.datasets.Get(1)
		return size{len(mustEncode(t, c)), len(persisted(t, r.m.Snapshot())), setBytes(d)}
	}
	few, many := measure(1000), measure(most)
	if many.command > few.command+4 || many.command > 1024 {
		t.Errorf("SubmitDataset of %d jobs has %d bytes, of 1000 jobs %d", most, many.command, few.command)
	}
	// Per 65,536 jobs a bitmap has one container: a run of 4 bytes and what names it.
	containers := most/65536 + 1
	if many.sets > 64*containers {
		t.Errorf("the sets of %d jobs have %d bytes in %d containers", most, many.sets, containers)
	}
	if many.record > few.record+64*containers {
		t.Errorf("the record of %d jobs has %d bytes, of 1000 jobs %d", most, many.record, few.record)
	}
}

// Work that is done leaves nothing behind but its place in one set.
func TestFinishedWorkIsForgotten(t *testing.T) {
	r := newRig(t)
	r.quick = true
	r.do(protocol.CodeOK, submission(1, 300, chain(2)))
	r.enrol("p1", "mill", big)
	for round := 0; ; round++ {
		grants := r.acquire("p1", 64)
		if len(grants) == 0 {
			break
		}
		for i := range grants {
			l := &grants[i].Lease
			if round == 0 && i%2 == 0 {
				r.do(protocol.CodeOK, failure(l, protocol.VerdictPayload))
			} else {
				r.do(protocol.CodeOK, success(l))
			}
		}
	}
	d, _ := r.m.datasets.Get(1)
	if d.live.Len()+d.accepted.Len()+d.failedAt.Len() > 0 || d.state() != protocol.DatasetComplete {
		t.Errorf("dataset %v keeps %d leases, %d accepted attempts and %d tasks that avoid hosts", d.state(), d.live.Len(), d.accepted.Len(), d.failedAt.Len())
	}
	// Which attempt it was stays known, at most a few bits per failed task.
	if n := setBytes(d); n > 2048 {
		t.Errorf("300 finished jobs of two tasks take %d bytes", n)
	}
	checkInvariants(t, r.m)
}

// setBytes adds up the bitmaps of a dataset.
func setBytes(d *dataset) int {
	n := uint64(0)
	for t := range d.tasks {
		v := &d.tasks[t]
		for i := range v.lanes {
			n += v.lanes[i].queued.view().GetSizeInBytes()
		}
		for s := range v.in {
			n += v.in[s].view().GetSizeInBytes()
		}
		for k := range v.counts {
			for i := range v.counts[k].slices {
				n += v.counts[k].slices[i].view().GetSizeInBytes()
			}
		}
	}
	return int(n)
}
