package state

import (
	"slices"

	"pgregory.net/rapid"

	"floe/protocol"
)

// selection draws a random one; pick tells which tasks of the model it names.
func (w *walk) selection(standard ...protocol.TaskState) (d *modelDataset, s Selection, pick func(j, t int, state protocol.TaskState) bool) {
	d = w.dataset()
	s.Dataset = d.id
	if len(d.jobs) > 0 && w.coin("some jobs") {
		first := w.draw("first", len(d.jobs))
		last := first + w.draw("more", len(d.jobs)-first)
		s.Jobs = []protocol.JobRange{{First: protocol.JobIndex(first), Last: protocol.JobIndex(last)}}
	}
	if w.coin("some tasks") {
		s.Tasks = []protocol.TaskIndex{protocol.TaskIndex(w.draw("task", len(d.specs)))}
	}
	states := standard
	if w.draw("states", 4) > 0 {
		s.States = slices.Clone(protocol.TaskStates)
		if w.coin("one state") {
			i := w.draw("state", len(s.States))
			s.States = s.States[i : i+1]
		}
		states = s.States
	}
	return d, s, func(j, t int, state protocol.TaskState) bool {
		index := protocol.JobIndex(j)
		return (len(s.Jobs) == 0 || s.Jobs[0].First <= index && index <= s.Jobs[0].Last) &&
			(len(s.Tasks) == 0 || slices.Contains(s.Tasks, protocol.TaskIndex(t))) && slices.Contains(states, state)
	}
}

func (w *walk) moved(what string, d *modelDataset, c Command) (Answer, bool) {
	preview := w.r.m.Preview(c)
	if _, isSuspend := c.(*SuspendTasks); d.retired && !isSuspend {
		w.want(protocol.CodeConflict, what, c)
		return Answer{}, false
	}
	a := w.want(protocol.CodeOK, what, c)
	if a.Moved != preview {
		w.Fatalf("%s: preview %+v, moved %+v", what, preview, a.Moved)
	}
	return a, true
}

func (w *walk) reset(t *rapid.T) {
	w.T = t
	d, s, pick := w.selection(protocol.TaskError)
	if _, done := w.moved("reset", d, &ResetTasks{Select: s}); !done {
		return
	}
	for ji, j := range d.jobs {
		chosen := make([]bool, len(j.tasks))
		for ti, task := range j.tasks {
			state := task.state
			if task.lease != nil && task.lease.state == Lapsed {
				state = protocol.TaskProcessing // as it looks to people
			}
			able := state != protocol.TaskWaiting && state != protocol.TaskQueued
			chosen[ti] = able && (pick(ji, ti, state) || state != task.state && pick(ji, ti, task.state))
		}
		if slices.Contains(chosen, true) {
			w.m.reset(d, j, chosen)
		}
	}
}

func (w *walk) suspend(t *rapid.T) {
	w.T = t
	if w.draw("really", 2) > 0 {
		t.Skip("goes on")
	}
	d, s, pick := w.selection(protocol.TaskStates...)
	a, _ := w.moved("suspend", d, &SuspendTasks{Select: s})
	n := uint64(0)
	for ji, j := range d.jobs {
		n += w.m.suspend(d, func(visit func(*modelJob, int)) {
			for ti := range j.tasks {
				if pick(ji, ti, j.tasks[ti].state) {
					visit(j, ti)
				}
			}
		})
	}
	if a.Moved.Tasks != n {
		w.Fatalf("suspend moved %d tasks, want %d", a.Moved.Tasks, n)
	}
}

func (w *walk) resume(t *rapid.T) {
	w.T = t
	d, s, pick := w.selection(protocol.TaskSuspended)
	if _, done := w.moved("resume", d, &ResumeTasks{Select: s}); !done {
		return
	}
	for ji, j := range d.jobs {
		for ti, task := range j.tasks {
			if task.state == protocol.TaskSuspended && pick(ji, ti, task.state) {
				task.state = protocol.TaskWaiting
			}
			if task.state == protocol.TaskWaiting && d.ready(j, ti) {
				task.state = protocol.TaskQueued
			}
		}
	}
}

// ghost applies the last command again in an entry of a lost leadership, which
// changes nothing, and the last entry at its own index, which does nothing at all.
func (w *walk) ghost(t *rapid.T) {
	w.T = t
	if len(w.last) == 0 {
		t.Skip("nothing to repeat")
	}
	before := table(w.r.m)
	answers, events := w.r.applyEntry(EncodeEntry(w.r.entry(Second, w.last...)), w.r.term+1)
	if len(events) > 0 || answers[0].Code != protocol.CodeUnknown || table(w.r.m) != before {
		w.Fatalf("a ghost was answered %v, %d events", answers[0].Code, len(events))
	}
	digest := w.r.m.Snapshot().Digest()
	again, events, err := w.r.m.Apply(w.r.index, w.r.term, w.r.log[len(w.r.log)-2])
	if len(again)+len(events) > 0 || err != nil || w.r.m.Snapshot().Digest() != digest {
		w.Fatalf("an entry applied again gave %v, %v, %v", again, events, err)
	}
}

// compare compares every task of the machine with the model's.
func (w *walk) compare(t *rapid.T) {
	for _, d := range w.m.datasets {
		got, known := w.r.m.datasets.Get(d.id)
		if !known || int(got.jobs) != len(d.jobs) {
			t.Fatalf("%s: dataset %d: %d jobs, want %d", w.what, d.id, got.jobs, len(d.jobs))
		}
		for ji, j := range d.jobs {
			if s, _ := w.r.m.JobState(d.id, protocol.JobIndex(ji)); s != j.state() {
				t.Fatalf("%s: job %d.%d is %v, want %v", w.what, d.id, ji, s, j.state())
			}
			for ti, task := range j.tasks {
				w.compareTask(t, got, uint32(ji), protocol.TaskIndex(ti), task)
			}
		}
	}
	for id, p := range w.m.pilots {
		got, _ := w.r.m.Pilot(id)
		if (got.Left > 0) != p.left || got.Revoked != p.revoked || got.Draining != p.draining {
			t.Fatalf("%s: pilot %s is %+v, want %+v", w.what, id, got, p)
		}
	}
	w.compareNodes(t)
}

func (w *walk) compareTask(t *rapid.T, d *dataset, j uint32, ti protocol.TaskIndex, task *modelTask) {
	id := keyTask(d.id, taskKey(j, ti))
	v := &d.tasks[ti]
	if s := v.taskState(j); s != task.state {
		t.Fatalf("%s: task %v is %v, want %v", w.what, id, s, task.state)
	}
	got := [...]uint32{v.counts[countEnded].get(j), v.counts[countFailed].get(j), v.counts[countPayload].get(j), v.counts[countData].get(j), v.counts[countLost].get(j), v.counts[countMemory].get(j), v.counts[countWalltime].get(j), v.counts[countDisk].get(j)}
	want := [...]uint32{task.ended, task.failed, task.payload, task.data, task.lost, task.memory, task.walltime, task.disk}
	if got != want {
		t.Fatalf("%s: task %v: counts %v, want %v", w.what, id, got, want)
	}
	hosts, _ := d.failedAt.Get(taskKey(j, ti))
	if !slices.Equal(hosts, task.hosts) {
		t.Fatalf("%s: task %v: avoids %v, want %v", w.what, id, hosts, task.hosts)
	}
	l, current := d.current(j, ti)
	switch {
	case current != (task.lease != nil):
		t.Fatalf("%s: task %v: lease %v, want %v", w.what, id, l, task.lease)
	case current && (l.ID != task.lease.id || l.Pilot != task.lease.pilot || l.State != task.lease.state):
		t.Fatalf("%s: task %v: lease %+v, want %+v", w.what, id, l, task.lease)
	}
	a, _ := d.accepted.Get(taskKey(j, ti))
	if a != nil && a.Lease != task.accepted {
		t.Fatalf("%s: task %v: accepted %v, want %v", w.what, id, a.Lease, task.accepted)
	}
}
