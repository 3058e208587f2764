package state

import "floe/protocol"

// Explanation says why a task is where it is.
type Explanation struct {
	Task  protocol.TaskID
	Name  string
	State protocol.TaskState
	// Attempt is the number of the current attempt, or of the next.
	Attempt uint32
	// Asked are the requirements as they stand, raised after resource verdicts.
	Asked protocol.Requirements
	Sites SiteRule
	Held  bool   // the dataset is suspended or retired
	Lease *Lease // the current one, nil for none
	// Unfinished are the parents the task waits for.
	Unfinished []ParentState
	Budgets    []Budget
	Avoided    []string // hosts where attempts failed
	// LostAt are the nodes of the last losses in a row, SITE/HOST, newest last. Crashes
	// says that they are why the task is held.
	LostAt  []string
	Crashes bool

	// Pilots counts pilots that run, Fit those that could run the task by what they
	// have in all, Lacks the others by what they lack.
	Pilots, Fit uint64
	Lacks       [lackKinds]uint64
	// Refusals are the sites that do not take it, by themselves or by order.
	Refusals []SiteRefusal
}

// ParentState is one parent of a task.
type ParentState struct {
	Task  protocol.TaskIndex
	Name  string
	State protocol.TaskState
}

// Budget is how much of a retry budget is used.
type Budget struct {
	// Verdict is what it counts; zero counts failures of every kind.
	Verdict     protocol.Verdict
	Used, Limit uint32
}

// Spent tells whether a budget has led to error, or any failure that it counts would.
func (b *Budget) Spent() bool { return b.Used >= b.Limit }

// Explain says why a task is where it is; false where there is no such task. Its
// time is proportional to the number of pilots.
func (r *Record) Explain(t protocol.TaskID) (Explanation, bool) {
	d, v := r.vertexOf(t)
	if v == nil {
		return Explanation{}, false
	}
	j := uint32(t.Job)
	e := Explanation{
		Task: t, Name: v.spec.Name, State: v.taskState(j), Attempt: v.attempt(j),
		Asked: raise(&v.classes[v.classOf(j)].requirements, v.stepsOf(j)),
		Sites: d.sites, Held: d.held(),
	}
	if l, current := d.current(j, t.Task); current {
		c := *l
		e.Lease = &c
	}
	for _, p := range v.spec.Parents {
		if !d.tasks[p].finished(j) {
			e.Unfinished = append(e.Unfinished, ParentState{p, d.tasks[p].spec.Name, d.tasks[p].taskState(j)})
		}
	}
	for i := range verdictRules {
		rule := &verdictRules[i]
		if rule.count == countKinds {
			continue
		}
		if used := v.counts[rule.count].get(j); used > 0 {
			e.Budgets = append(e.Budgets, Budget{rule.verdict, used, rule.budget})
		}
	}
	if used := v.counts[countFailed].get(j); used > 0 {
		e.Budgets = append(e.Budgets, Budget{0, used, r.maxFailed()})
	}
	hosts, _ := d.failedAt.Get(taskKey(j, t.Task))
	e.Avoided = append(e.Avoided, hosts...)
	nodes, _ := d.lostAt.Get(taskKey(j, t.Task))
	e.LostAt = append(e.LostAt, nodes...)
	e.Crashes = e.State == protocol.TaskError && d.crashes(t.Task, j)

	r.pilots.Scan(func(_ protocol.PilotID, p *Pilot) bool {
		if p.Left > 0 {
			return true
		}
		e.Pilots++
		lack := LackService
		if s, known := r.sites.Get(p.Site); known && unserved(p, s, r.time) == "" {
			lack = r.lackOf(p, s, d, &e.Asked)
		}
		if lack == LackNothing {
			e.Fit++
		} else {
			e.Lacks[lack]++
		}
		return true
	})
	if e.State == protocol.TaskQueued {
		e.Refusals = r.refusals(d)
	}
	return e, true
}

// lackOf says what a pilot in service lacks for a task, by what it has in all.
func (r *Record) lackOf(p *Pilot, s *Site, d *dataset, asked *protocol.Requirements) Lack {
	if !s.takes(d, anyWork) {
		return LackPolicy
	}
	idle := *s // as if nothing ran there
	idle.Use = SiteUse{}
	all := bound(&p.Resources, p, &idle, r.time)
	cards := len(all.GPUs)
	if r.cleared(p, &all).barred != "" {
		return LackStanding
	}
	lack, _ := s.fits(asked, &d.sites, &all, r.time)
	switch {
	case lack == LackGPUs && len(all.GPUs) < cards:
		return LackStanding
	case lack != LackNothing:
		return lack
	}
	s.limit(&all, r.time)
	if now, _ := s.fits(asked, &d.sites, &all, r.time); now != LackNothing {
		return LackPolicy // its caps are reached
	}
	return LackNothing
}

// Queued counts the tasks that may be pulled: queued, of datasets that are not held.
func (m *Machine) Queued() uint64 {
	n := uint64(0)
	for _, c := range m.ready.active {
		n += c.count
	}
	return n
}
