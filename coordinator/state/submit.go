package state

import (
	"fmt"
	"slices"

	"floe/protocol"
)

func (s *SubmitDataset) apply(m *Machine) Answer {
	if s.Dataset != m.next {
		return refuse(protocol.CodeConflict, fmt.Sprintf("dataset %d: the next number is %d; compile again", s.Dataset, m.next))
	}
	facts := s.Facts
	d := newDataset(m.gen, s.Dataset, &facts, s.Tasks)
	d.priority, d.sites, d.suspended, d.submitted = s.Priority, s.Sites, s.Suspended, m.wall
	for t := range s.Tasks {
		for _, c := range s.Tasks[t].Classes {
			d.tasks[t].classes = append(d.tasks[t].classes, class{requirements: c.Requirements, open: len(c.Jobs) == 0})
		}
	}
	m.datasets.Set(d.id, d)
	m.next++

	names := make([]string, len(s.Tasks))
	added := make([]AddedClasses, 0, len(s.Tasks))
	for t := range s.Tasks {
		names[t] = s.Tasks[t].Name
		if !d.tasks[t].classes[0].open {
			added = append(added, AddedClasses{protocol.TaskIndex(t), s.Tasks[t].Classes})
		}
	}
	m.emit(&DatasetSubmitted{Dataset: d.id, Facts: facts, Jobs: s.Jobs, Priority: s.Priority, Tasks: names})
	m.grow(d, s.Jobs, added)
	return Answer{Dataset: d.id}
}

func (a *AddJobs) apply(m *Machine) Answer {
	d := m.dataset(a.Dataset)
	if d == nil {
		return refuse(protocol.CodeNotFound, "no "+datasetObject(a.Dataset))
	}
	if d.retired {
		return refuse(protocol.CodeConflict, datasetObject(a.Dataset)+" is retired")
	}
	if d.jobs != a.From {
		return refuse(protocol.CodeConflict, fmt.Sprintf("dataset %d has %d jobs, not %d", d.id, d.jobs, a.From))
	}
	for t := range d.tasks {
		v := &d.tasks[t]
		i := slices.IndexFunc(a.Classes, func(c AddedClasses) bool { return int(c.Task) == t })
		switch {
		case v.classes[0].open != (i < 0) && d.jobs > 0:
			return refuse(protocol.CodeBadRequest, fmt.Sprintf("task %q: classes of the new jobs are wanted where the dataset has classes, and only there", v.spec.Name))
		case i >= 0 && v.classesWith(a.Classes[i].Classes) > MaxClasses:
			return refuse(protocol.CodeTooLarge, fmt.Sprintf("task %q: more than %d requirement classes", v.spec.Name, MaxClasses))
		}
	}
	if n := len(a.Classes); n > 0 && int(a.Classes[n-1].Task) >= len(d.tasks) {
		return refuse(protocol.CodeBadRequest, fmt.Sprintf("dataset %d has no task %d", d.id, a.Classes[n-1].Task))
	}
	m.emit(&JobsAdded{Dataset: d.id, From: d.jobs, Jobs: d.jobs + a.Jobs})
	m.grow(d, a.Jobs, a.Classes)
	return Answer{Dataset: d.id}
}

// classesWith returns how many classes a task will have with new ones.
func (v *vertex) classesWith(added []Class) int {
	n := len(v.classes)
	for i := range added {
		if v.findClass(&added[i].Requirements) < 0 {
			n++
		}
	}
	return n
}

// findClass finds the class of the same requirements.
func (v *vertex) findClass(r *protocol.Requirements) int {
	want := encodeRequirements(r)
	return slices.IndexFunc(v.classes, func(c class) bool { return encodeRequirements(&c.requirements) == want })
}

func encodeRequirements(r *protocol.Requirements) string {
	b, err := protocol.Marshal(r)
	if err != nil {
		panic("state: requirements cannot be encoded: " + err.Error())
	}
	return string(b)
}

// grow adds jobs, in time that does not depend on their number.
func (m *Machine) grow(d *dataset, jobs uint32, added []AddedClasses) {
	first, end := uint64(d.jobs), uint64(d.jobs)+uint64(jobs)
	if jobs == 0 {
		return
	}
	d.jobs = uint32(end)
	d.finished = 0
	for _, a := range added {
		v := &d.tasks[a.Task]
		if first == 0 {
			v.classes = nil // submitted without jobs, a task has one open class until its first come
		}
		for i := range a.Classes {
			k := v.findClass(&a.Classes[i].Requirements)
			if k < 0 {
				k = len(v.classes)
				v.classes = append(v.classes, class{requirements: a.Classes[i].Requirements})
			}
			v.classes[k].jobs.addAll(m.gen, setOf(a.Classes[i].Jobs, d.jobs))
		}
	}
	news := setOf([]protocol.JobRange{{First: protocol.JobIndex(first), Last: protocol.JobIndex(end - 1)}}, d.jobs)
	for t := range d.tasks {
		if len(d.tasks[t].spec.Parents) == 0 {
			m.move(d, protocol.TaskIndex(t), manyJobs(news), protocol.TaskWaiting, protocol.TaskQueued, BySubmit)
		}
	}
}

func (s *SkipDatasets) apply(m *Machine) Answer {
	if s.Next < m.next {
		return Answer{Reason: fmt.Sprintf("the next dataset is %d already", m.next), Dataset: m.next}
	}
	m.next = s.Next
	return Answer{Dataset: m.next}
}

func (s *SetDataset) apply(m *Machine) Answer {
	d := m.dataset(s.Dataset)
	if d == nil {
		return refuse(protocol.CodeNotFound, "no "+datasetObject(s.Dataset))
	}
	if d.retired {
		if s.Verb == DatasetRetire {
			return Answer{Dataset: d.id, Reason: "retired before"}
		}
		return refuse(protocol.CodeConflict, datasetObject(s.Dataset)+" is retired")
	}
	var moved Moved
	if s.Verb == DatasetRetire {
		moved = m.suspendTasks(d, &Selection{Dataset: d.id})
	}
	m.relink(d, func() {
		switch s.Verb {
		case DatasetSuspend:
			d.suspended = true
		case DatasetResume:
			d.suspended = false
		case DatasetRetire:
			d.retired = true
		}
		if s.Priority != nil {
			d.priority = *s.Priority
		}
		if s.Sites != nil {
			d.sites = *s.Sites
		}
	})
	m.emit(&DatasetChanged{Dataset: d.id, State: d.state(), Priority: d.priority, Sites: d.sites, Retired: d.retired})
	return Answer{Dataset: d.id, Moved: moved}
}
