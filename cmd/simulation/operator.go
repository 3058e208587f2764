package simulation

import (
	"fmt"
	"slices"
	"time"

	"floe/coordinator/state"
	"floe/protocol"
)

// operator is the people: they submit and steer, and repeat what was not answered
// under the same key.
type operator struct {
	process
	acts     map[protocol.UserID]int  // by person
	open     int                      // acts that are not answered yet
	doom     map[protocol.TaskID]bool // tasks that fail whatever is tried
	datasets []*wanted
}

// wanted is a dataset that was acknowledged.
type wanted struct {
	id   protocol.DatasetID
	jobs uint32 // at least
	key  string
}

func (o *operator) doomed(t protocol.TaskID) bool {
	t.Dataset = 0 // numbers are not known before
	return o.doom[t]
}

// ask has a command done, whatever it takes, and hears of the answer.
func (o *operator) ask(what string, make func(m *state.Machine, by state.Action) state.Command, done func(state.Answer)) {
	by := state.Action{Actor: "ada", Reason: what}
	if o.w.chance(2) { // who counts from one as well
		by.Actor = "bob"
	}
	o.acts[by.Actor]++
	by.Key = fmt.Sprintf("k%d", o.acts[by.Actor])
	r := request{command: func(m *state.Machine) state.Command { return make(m, by) }}
	o.open++
	o.insist(r, func(a state.Answer) {
		o.open--
		o.w.note("operator: %s is answered %v %s %+v", what, a.Code, a.Reason, a.Moved)
		if done != nil {
			done(a)
		}
		if a.Code == protocol.CodeOK && o.w.chaotic && o.w.chance(4) {
			o.after(o.w.between(0, 5*time.Minute), func() { o.repeat(what, r, a) })
		}
	})
}

// insist asks until there is an answer.
func (o *operator) insist(r request, done func(state.Answer)) {
	o.w.call(&o.process, o.w.anyNode(), r, 20*time.Second, func(answer any, err error) {
		a, _ := answer.(state.Answer)
		if err != nil || a.Code.Retryable() || a.Code == protocol.CodeUnknown {
			o.after(o.w.between(100*time.Millisecond, 3*time.Second), func() { o.insist(r, done) })
			return
		}
		done(a)
	})
}

// repeat asks once more for what was done, under the same key and maybe another
// leader: the answer must be the same (I-4).
func (o *operator) repeat(what string, r request, before state.Answer) {
	o.open++
	o.insist(r, func(a state.Answer) {
		o.open--
		if a.Code != before.Code || a.Dataset != before.Dataset || a.Moved != before.Moved {
			o.w.broken("I-4", "%s again is answered %v %s for dataset %d, %+v; before %v for dataset %d, %+v",
				what, a.Code, a.Reason, a.Dataset, a.Moved, before.Code, before.Dataset, before.Moved)
		}
	})
}

// shapes are what tasks ask for.
var shapes = []protocol.Requirements{
	{Cores: 1, Memory: protocol.GB, Walltime: 600},
	{Cores: 2, Memory: 2 * protocol.GB, Disk: protocol.GB},
	{Cores: 1, Memory: protocol.GB, Tags: []string{"far"}},
	{Cores: 1, GPUs: 1, Memory: protocol.GB, Alternatives: []protocol.Requirements{{Cores: 3, Memory: protocol.GB}}},
	{Cores: 1, GPUs: 1, GPUMemory: 4 * protocol.GB, Memory: protocol.GB},
}

func (o *operator) shape() protocol.Requirements {
	if o.w.chance(3) {
		return shapes[o.w.rng.IntN(len(shapes))]
	}
	return shapes[0]
}

// submit submits a dataset.
func (o *operator) submit() {
	o.submitOf(uint32(1+o.w.rng.IntN(8)), 1+o.w.rng.IntN(4))
}

func (o *operator) submitOf(jobs uint32, n int) {
	w := o.w
	var tasks []state.TaskSpec
	for i := range n {
		t := state.TaskSpec{Name: fmt.Sprintf("t%d", i), Classes: []state.Class{{Requirements: o.shape()}}}
		for p := range i {
			if w.chance(2) {
				t.Parents = append(t.Parents, protocol.TaskIndex(p))
			}
		}
		if jobs > 2 && w.chance(6) {
			other := shapes[2]
			if t.Classes[0].Requirements.Tags == nil {
				t.Classes[0].Jobs = []protocol.JobRange{{First: 0, Last: 1}}
				t.Classes = append(t.Classes, state.Class{Requirements: other, Jobs: []protocol.JobRange{{First: 2, Last: protocol.JobIndex(jobs - 1)}}})
			}
		}
		tasks = append(tasks, t)
	}
	priority, suspended := w.rng.IntN(3)-1, w.chance(8)
	var rule state.SiteRule
	if w.chance(8) {
		rule.Excluded = []protocol.SiteID{w.sites[0].id}
	}
	var submit func()
	submit = func() {
		key := ""
		o.ask(fmt.Sprintf("submit %d × %d", jobs, len(tasks)), func(m *state.Machine, by state.Action) state.Command {
			key = string(by.Actor) + " " + by.Key
			return &state.SubmitDataset{
				By: by, Dataset: m.NextDataset(), Jobs: jobs, Tasks: tasks, Priority: priority, Suspended: suspended, Sites: rule,
				Facts: state.Facts{Owner: "ada", Alias: key, Steering: protocol.DigestOf([]byte("steering")), LanguageVersion: 1},
			}
		}, func(a state.Answer) {
			switch a.Code {
			case protocol.CodeOK:
				if slices.ContainsFunc(o.datasets, func(d *wanted) bool { return d.id == a.Dataset }) {
					w.broken("I-4", "dataset %d was given to two submissions", a.Dataset)
				}
				o.datasets = append(o.datasets, &wanted{id: a.Dataset, jobs: jobs, key: key})
			case protocol.CodeConflict: // another was quicker
				submit()
			default:
				w.broken("I-4", "a submission is answered %v: %s", a.Code, a.Reason)
			}
		})
	}
	submit()
}

// steer does something that people do.
func (o *operator) steer() {
	w := o.w
	if w.chaotic {
		o.after(w.between(5*time.Second, 90*time.Second), o.steer)
	}
	if len(o.datasets) == 0 {
		return
	}
	if w.isIdle() && len(o.datasets) < 12 {
		o.submitOf(1, 1) // one task for one of many who wait
		return
	}
	d := o.datasets[w.rng.IntN(len(o.datasets))]
	s := state.Selection{Dataset: d.id}
	if w.chance(2) {
		j := protocol.JobIndex(w.rng.IntN(int(d.jobs)))
		s.Jobs = []protocol.JobRange{{First: j, Last: j}}
	}
	switch w.rng.IntN(14) {
	case 0:
		if w.chance(2) && len(o.datasets) < 6 {
			o.submit()
		}
	case 1:
		o.grow(d)
	case 2, 3:
		s.States = []protocol.TaskState{protocol.TaskError, protocol.TaskProcessing, protocol.TaskQueued}
		o.ask("reset", func(_ *state.Machine, by state.Action) state.Command { return &state.ResetTasks{By: by, Select: s} }, nil)
	case 4:
		s.Jobs = s.Jobs[:min(1, len(s.Jobs))]
		s.States = []protocol.TaskState{protocol.TaskOK, protocol.TaskCopied}
		o.ask("reset ok", func(_ *state.Machine, by state.Action) state.Command { return &state.ResetTasks{By: by, Select: s} }, nil)
	case 5:
		o.ask("suspend", func(_ *state.Machine, by state.Action) state.Command { return &state.SuspendTasks{By: by, Select: s} }, nil)
	case 6, 7:
		o.ask("resume", func(_ *state.Machine, by state.Action) state.Command { return &state.ResumeTasks{By: by, Select: s} }, nil)
	case 8:
		o.ask("suspend dataset", func(_ *state.Machine, by state.Action) state.Command {
			return &state.SetDataset{By: by, Dataset: d.id, Verb: state.DatasetSuspend}
		}, nil)
	case 9:
		o.ask("resume dataset", func(_ *state.Machine, by state.Action) state.Command {
			return &state.SetDataset{By: by, Dataset: d.id, Verb: state.DatasetResume}
		}, nil)
	case 10:
		p := w.rng.IntN(5) - 2
		rule := state.SiteRule{}
		if w.chance(3) {
			rule.Allowed = []protocol.SiteID{w.sites[w.rng.IntN(len(w.sites))].id}
		}
		o.ask("priority and sites", func(_ *state.Machine, by state.Action) state.Command {
			return &state.SetDataset{By: by, Dataset: d.id, Priority: &p, Sites: &rule}
		}, nil)
	case 11:
		if len(w.pilots) > 0 {
			id, undo := w.pilots[w.rng.IntN(len(w.pilots))].id, w.chance(2)
			o.ask("drain", func(_ *state.Machine, by state.Action) state.Command {
				return &state.DrainPilot{By: by, Pilot: id, Undo: undo}
			}, nil)
		}
	case 12:
		if len(w.pilots) > 0 && w.chance(2) {
			id := w.pilots[w.rng.IntN(len(w.pilots))].id
			o.ask("revoke", func(_ *state.Machine, by state.Action) state.Command { return &state.RevokePilot{By: by, Pilot: id} }, nil)
		}
	case 13:
		site, suspended := w.sites[w.rng.IntN(len(w.sites))].id, w.chance(2)
		o.ask("suspend site", func(_ *state.Machine, by state.Action) state.Command {
			return &state.PutSite{By: by, Site: site, Suspended: suspended}
		}, nil)
	}
}

// grow adds jobs to a dataset, unless its tasks have classes.
func (o *operator) grow(d *wanted) {
	more := uint32(1 + o.w.rng.IntN(3))
	from := uint32(0)
	o.ask("grow", func(m *state.Machine, by state.Action) state.Command {
		if x, known := m.Dataset(d.id); known {
			from = x.Jobs
		}
		return &state.AddJobs{By: by, Dataset: d.id, From: from, Jobs: more}
	}, func(a state.Answer) {
		if a.Code == protocol.CodeOK {
			d.jobs += more
		}
	})
}

// settle undoes what keeps work from being done.
func (o *operator) settle() {
	if o.w.owners {
		o.relent()
	}
	for _, s := range o.w.sites {
		o.ask("open site", func(_ *state.Machine, by state.Action) state.Command { return &state.PutSite{By: by, Site: s.id} }, nil)
	}
	for _, d := range o.datasets {
		o.ask("resume dataset", func(_ *state.Machine, by state.Action) state.Command {
			return &state.SetDataset{By: by, Dataset: d.id, Verb: state.DatasetResume, Sites: &state.SiteRule{}}
		}, nil)
		o.ask("resume", func(_ *state.Machine, by state.Action) state.Command {
			return &state.ResumeTasks{By: by, Select: state.Selection{Dataset: d.id}}
		}, nil)
	}
	for _, p := range o.w.pilots {
		o.ask("go on", func(_ *state.Machine, by state.Action) state.Command {
			return &state.DrainPilot{By: by, Pilot: p.id, Undo: true}
		}, nil)
	}
}
