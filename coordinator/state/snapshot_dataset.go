package state

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"floe/protocol"
)

type datasetFrame struct {
	ID        protocol.DatasetID `cbor:"1,keyasint"`
	Facts     *Facts             `cbor:"2,keyasint"`
	Jobs      uint32             `cbor:"3,keyasint"`
	Priority  int                `cbor:"4,keyasint"`
	Sites     SiteRule           `cbor:"5,keyasint"`
	Suspended bool               `cbor:"6,keyasint"`
	Retired   bool               `cbor:"7,keyasint"`
	Submitted UnixMillis         `cbor:"8,keyasint"`
	Finished  UnixMillis         `cbor:"9,keyasint"`
	Reopened  []byte             `cbor:"10,keyasint,omitempty"`
	Tasks     []vertexFrame      `cbor:"11,keyasint"`
}

type vertexFrame struct {
	Spec    *TaskSpec    `cbor:"1,keyasint"`
	Classes []classFrame `cbor:"2,keyasint"`
	Lanes   []laneFrame  `cbor:"3,keyasint,omitempty"`
	// Sets are processing, copied, ok, error, suspended.
	Sets   [][]byte   `cbor:"4,keyasint"`
	Counts [][][]byte `cbor:"5,keyasint"` // by countKind, slices from the lowest bit
	// Failing are nodes where tasks failed fast since the last success.
	Failing []string `cbor:"6,keyasint,omitempty"`
}

type classFrame struct {
	Requirements protocol.Requirements `cbor:"1,keyasint"`
	Open         bool                  `cbor:"2,keyasint,omitempty"`
	Jobs         []byte                `cbor:"3,keyasint,omitempty"`
}

type laneFrame struct {
	Class  uint8  `cbor:"1,keyasint"`
	Steps  []byte `cbor:"2,keyasint"`
	Queued []byte `cbor:"3,keyasint"`
}

// setStates are the states that have a bitmap of their own, as vertexFrame orders them.
var setStates = [...]protocol.TaskState{
	protocol.TaskProcessing, protocol.TaskCopied, protocol.TaskOK, protocol.TaskError, protocol.TaskSuspended,
}

func (d *dataset) persist(p *persister) {
	encode := func(b *bits) []byte {
		data, err := b.encode()
		if err != nil && p.err == nil {
			p.err = err
		}
		return data
	}
	f := datasetFrame{
		ID: d.id, Facts: d.facts, Jobs: d.jobs, Priority: d.priority, Sites: d.sites,
		Suspended: d.suspended, Retired: d.retired, Submitted: d.submitted, Finished: d.finished,
		Reopened: encode(&d.reopened),
		Tasks:    make([]vertexFrame, len(d.tasks)),
	}
	for t := range d.tasks {
		v := &d.tasks[t]
		w := &f.Tasks[t]
		w.Spec, w.Failing = v.spec, v.failing
		for i := range v.classes {
			c := &v.classes[i]
			w.Classes = append(w.Classes, classFrame{c.requirements, c.open, encode(&c.jobs)})
		}
		lanes := slices.Clone(v.lanes)
		slices.SortFunc(lanes, func(a, b lane) int { return a.compare(&b) })
		for i := range lanes {
			if l := &lanes[i]; l.queued.n > 0 {
				w.Lanes = append(w.Lanes, laneFrame{l.class, slices.Clone(l.steps[:]), encode(&l.queued)})
			}
		}
		for _, s := range setStates {
			w.Sets = append(w.Sets, encode(&v.in[s]))
		}
		for k := range v.counts {
			var slices [][]byte
			for i := range v.counts[k].slices {
				if data := encode(&v.counts[k].slices[i]); data != nil {
					// Slices above the last that is not empty are of a count that was higher once.
					for len(slices) < i {
						slices = append(slices, nil)
					}
					slices = append(slices, data)
				}
			}
			w.Counts = append(w.Counts, slices)
		}
	}
	p.frame(frameDataset, &f)
	d.live.Scan(func(_ uint64, l *Lease) bool {
		p.frame(frameLease, l)
		return p.err == nil
	})
	d.accepted.Scan(func(key uint64, a *accepted) bool {
		p.frame(frameAccepted, &taskFrame[*accepted]{keyTask(d.id, key), a})
		return p.err == nil
	})
	d.failedAt.Scan(func(key uint64, hosts []string) bool {
		p.frame(frameAvoided, &taskFrame[*[]string]{keyTask(d.id, key), &hosts})
		return p.err == nil
	})
	d.lostAt.Scan(func(key uint64, nodes []string) bool {
		p.frame(frameLost, &taskFrame[*[]string]{keyTask(d.id, key), &nodes})
		return p.err == nil
	})
	d.saved.Scan(func(key uint64, s *saved) bool {
		p.frame(frameSaved, &taskFrame[*saved]{keyTask(d.id, key), s})
		return p.err == nil
	})
}

func (m *Machine) restoreDataset(body []byte) error {
	var f datasetFrame
	if err := protocol.Unmarshal(body, &f); err != nil {
		return err
	}
	if f.Facts == nil || f.ID == 0 || f.ID >= m.next || f.Jobs > protocol.MaxJobs || len(f.Tasks) == 0 || len(f.Tasks) > protocol.MaxTasks {
		return fmt.Errorf("dataset %d: a number is out of range", f.ID)
	}
	specs := make([]TaskSpec, len(f.Tasks))
	for t := range f.Tasks {
		if f.Tasks[t].Spec == nil {
			return fmt.Errorf("dataset %d: task %d has no description", f.ID, t)
		}
		specs[t] = *f.Tasks[t].Spec
		for _, p := range specs[t].Parents {
			if int(p) >= t {
				return fmt.Errorf("dataset %d: task %d has a parent after it", f.ID, t)
			}
		}
	}
	d := newDataset(m.gen, f.ID, f.Facts, specs)
	d.jobs, d.priority, d.sites = f.Jobs, f.Priority, f.Sites
	d.suspended, d.retired, d.submitted, d.finished = f.Suspended, f.Retired, f.Submitted, f.Finished
	if d.priority < -MaxPriority || d.priority > MaxPriority {
		return fmt.Errorf("dataset %d: priority %d", f.ID, d.priority)
	}
	if err := d.reopened.decode(m.gen, f.Reopened, d.jobs); err != nil {
		return err
	}
	for t := range f.Tasks {
		if err := d.tasks[t].restore(m.gen, &f.Tasks[t], d.jobs); err != nil {
			return fmt.Errorf("dataset %d: task %d: %w", f.ID, t, err)
		}
	}
	if _, twice := m.datasets.Set(d.id, d); twice {
		return fmt.Errorf("dataset %d twice", d.id)
	}
	d.remark(m.gen)
	return nil
}

func (v *vertex) restore(g generation, f *vertexFrame, jobs uint32) error {
	if len(f.Sets) != len(setStates) || len(f.Counts) != int(countKinds) || len(f.Classes) == 0 || len(f.Classes) > MaxClasses {
		return errors.New("wrong number of sets, counts or classes")
	}
	v.failing = f.Failing
	inClass, classes := uint64(0), roaring.New()
	for i := range f.Classes {
		c := class{requirements: f.Classes[i].Requirements, open: f.Classes[i].Open}
		if err := c.jobs.decode(g, f.Classes[i].Jobs, jobs); err != nil {
			return err
		}
		inClass += c.jobs.n
		classes.Or(c.jobs.view())
		v.classes = append(v.classes, c)
	}
	if v.classes[0].open != (len(v.classes) == 1 && inClass == 0) || !v.classes[0].open && inClass != uint64(jobs) || inClass != classes.GetCardinality() {
		return errors.New("classes do not hold every job once")
	}
	total, all := uint64(0), roaring.New()
	for i := range f.Lanes {
		l := lane{class: f.Lanes[i].Class}
		if copy(l.steps[:], f.Lanes[i].Steps) != len(l.steps) || int(l.class) >= len(v.classes) {
			return errors.New("a lane of no class")
		}
		if err := l.queued.decode(g, f.Lanes[i].Queued, jobs); err != nil {
			return err
		}
		total += l.queued.n
		all.Or(l.queued.view())
		v.lanes = append(v.lanes, l)
	}
	for i, s := range setStates {
		if err := v.in[s].decode(g, f.Sets[i], jobs); err != nil {
			return err
		}
		total += v.in[s].n
		all.Or(v.in[s].view())
	}
	if total != all.GetCardinality() {
		return errors.New("a job is in two states")
	}
	for k := range f.Counts {
		if len(f.Counts[k]) > 32 {
			return errors.New("a count of more than 32 bits")
		}
		slices := make([]bits, len(f.Counts[k]))
		for i := range slices {
			if err := slices[i].decode(g, f.Counts[k][i], jobs); err != nil {
				return err
			}
		}
		v.counts[k].slices = slices
	}
	return nil
}

func (m *Machine) restoreLease(body []byte) error {
	l := new(Lease)
	if err := protocol.Unmarshal(body, l); err != nil {
		return err
	}
	d, v := m.vertexOf(l.Task)
	if v == nil || len(l.Parents) != len(v.spec.Parents) {
		return fmt.Errorf("lease %v is for no task", l.ID)
	}
	want := protocol.TaskProcessing
	switch l.State {
	case Lapsed:
		want = protocol.TaskQueued
	case Copied:
		want = protocol.TaskCopied
	}
	if got := v.taskState(uint32(l.Task.Job)); got != want {
		return fmt.Errorf("lease %v: task %v is %v, want %v", l.ID, l.Task, got, want)
	}
	d.live.Set(taskKey(uint32(l.Task.Job), l.Task.Task), l)
	m.leases++
	return nil
}
