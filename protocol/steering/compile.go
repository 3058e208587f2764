package steering

import (
	"maps"
	"reflect"
	"slices"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// Bounds on requirements that differ between jobs. Source: design §3, where a
// dataset is one record whatever its number of jobs.
const (
	// MaxRequirementClasses is how many different requirements one task may have.
	MaxRequirementClasses = 64
	// MaxJobsEvaluated is how many jobs a dataset with such a task may have.
	MaxJobsEvaluated = 1_000_000
)

// CompileInput is what compiling needs besides the document. Requirements that
// look at $(jobs_submitted) see JobCount.
type CompileInput struct {
	Dataset  protocol.DatasetID
	Seed     uint64
	JobCount uint32
	Options  map[string]string
}

// Plan is what a coordinator keeps of a document: the DAG of each job, and
// what every task needs.
type Plan struct {
	Tasks []PlannedTask `json:"tasks"`
}

// InOrder puts tasks behind their parents, otherwise as the document has them,
// with parents numbered accordingly: coordinators number the tasks so.
func (p *Plan) InOrder() []PlannedTask {
	place := make([]protocol.TaskIndex, len(p.Tasks))
	placed := make([]bool, len(p.Tasks))
	ordered := make([]PlannedTask, 0, len(p.Tasks))
	// The document has no cycles, so each round places one.
	for len(ordered) < len(p.Tasks) {
		for i, t := range p.Tasks {
			if placed[i] || slices.ContainsFunc(t.Parents, func(q protocol.TaskIndex) bool { return !placed[q] }) {
				continue
			}
			parents := make([]protocol.TaskIndex, len(t.Parents))
			for k, q := range t.Parents {
				parents[k] = place[q]
			}
			slices.Sort(parents)
			t.Parents = parents
			place[i], placed[i] = protocol.TaskIndex(len(ordered)), true
			ordered = append(ordered, t)
			break // from the front again: the document's order wherever it can be kept
		}
	}
	return ordered
}

// PlannedTask is one vertex.
type PlannedTask struct {
	Name string `json:"name"`
	// Parents are sorted and hold no index twice.
	Parents []protocol.TaskIndex `json:"parents,omitempty"`
	// Classes has the requirements. If PerJob is false there is one class,
	// which also holds for jobs added later; its Jobs are all of JobCount.
	Classes []RequirementClass `json:"classes"`
	PerJob  bool               `json:"per_job,omitempty"`

	Exclusive    bool         `json:"exclusive,omitempty"`
	Reproducible Reproducible `json:"reproducible,omitempty"`
	Credentials  []string     `json:"credentials,omitempty"`
}

// RequirementClass is the jobs of one task that need the same.
type RequirementClass struct {
	Requirements protocol.Requirements `json:"requirements"`
	// Jobs are sorted and do not overlap or touch.
	Jobs []protocol.JobRange `json:"jobs,omitempty"`
}

// Compile turns a document into what the coordinator schedules by. Where no
// requirement depends on the job it takes the same time for any JobCount. The
// plan is fit for use only if the problems hold no error.
func Compile(doc *Document, in CompileInput) (*Plan, Problems) {
	e := newExpansion(doc, ExpandInput{
		Dataset: in.Dataset, JobCount: in.JobCount, Seed: in.Seed, Options: in.Options,
	})
	plan := &Plan{Tasks: make([]PlannedTask, len(doc.Tasks))}
	for i := range doc.Tasks {
		t := &doc.Tasks[i]
		plan.Tasks[i] = PlannedTask{
			Name: t.Name, Exclusive: t.Exclusive.Or(false), Reproducible: t.Reproducible, Credentials: t.Credentials,
		}
		e.scope.enterTask(i)
		e.classes(t, &plan.Tasks[i])
		e.requireRepositories(i, &plan.Tasks[i])
		e.requireImages(i, &plan.Tasks[i])
		for _, dependence := range t.Depends {
			parent, ok := doc.TaskIndex(dependence.Name)
			if !ok {
				e.errorf(dependence.Position, "task %q depends on %q, which is no task", t.Name, dependence.Name)
				continue
			}
			plan.Tasks[i].Parents = append(plan.Tasks[i].Parents, protocol.TaskIndex(parent))
		}
		slices.Sort(plan.Tasks[i].Parents)
		plan.Tasks[i].Parents = slices.Compact(plan.Tasks[i].Parents)
	}
	return plan, e.problems.Sort()
}

// classes resolves a task's requirements. Expansion depends on nothing but
// what it looked at: a field that job 0 expanded without a look at the job is
// the same for all jobs.
func (e *expansion) classes(t *Task, planned *PlannedTask) {
	jobs := e.scope.in.JobCount
	var texts []string
	varying := map[int]requirementField{}
	for i, f := range requirementsFields(&t.Requirements, expr.Place{Task: t.Name}) {
		e.sources = 0
		texts = append(texts, e.text(f.expression, f.place))
		if e.sources.Has(expr.SourceNode) {
			e.errorf(f.expression.Position, "task %q: requirements cannot depend on $system or $environ, which are known only when a node was chosen", t.Name)
			return
		}
		if e.sources.Has(expr.SourceJob) {
			varying[i] = f
		}
	}
	if len(varying) == 0 {
		class := RequirementClass{Requirements: e.readRequirements(&t.Requirements, &texts)}
		if jobs > 0 {
			class.Jobs = []protocol.JobRange{{First: 0, Last: protocol.JobIndex(jobs - 1)}}
		}
		planned.Classes = []RequirementClass{class}
		return
	}
	planned.PerJob = true
	if jobs > MaxJobsEvaluated {
		e.errorf(t.Requirements.Position, "task %q: its requirements depend on the job, which is possible up to %d jobs, not %d; split the dataset, or ask for the most any job needs", t.Name, MaxJobsEvaluated, jobs)
		return
	}
	e.classesPerJob(t, planned, texts, varying)
}

// classesPerJob groups jobs by what they need. The texts are those of job 0.
func (e *expansion) classesPerJob(t *Task, planned *PlannedTask, texts []string, varying map[int]requirementField) {
	byTexts := map[string]int{} // class of each combination of varying fields
	order := slices.Sorted(maps.Keys(varying))
	defer func() { e.setJob(0) }()
	for job := range protocol.JobIndex(e.scope.in.JobCount) {
		e.setJob(job)
		key := ""
		for _, i := range order {
			texts[i] = e.text(varying[i].expression, varying[i].place)
			key += texts[i] + "\x00"
		}
		class, known := byTexts[key]
		if !known {
			rest := texts
			r := e.readRequirements(&t.Requirements, &rest)
			if e.problems.HasErrors() {
				return
			}
			class = slices.IndexFunc(planned.Classes, func(c RequirementClass) bool { return reflect.DeepEqual(c.Requirements, r) })
			if class < 0 {
				class = len(planned.Classes)
				planned.Classes = append(planned.Classes, RequirementClass{Requirements: r})
			}
			byTexts[key] = class
			if len(planned.Classes) > MaxRequirementClasses || len(byTexts) > 16*MaxRequirementClasses {
				e.errorf(t.Requirements.Position, "task %q: the first %d jobs already have %d different requirements, and at most %d are possible; round the expression to fewer values", t.Name, job+1, len(planned.Classes), MaxRequirementClasses)
				return
			}
		}
		addJob(&planned.Classes[class], job)
	}
}

func (e *expansion) setJob(job protocol.JobIndex) { e.in.Job, e.scope.in.Job = job, job }

// addJob adds a job, higher than those before.
func addJob(c *RequirementClass, job protocol.JobIndex) {
	if n := len(c.Jobs); n > 0 && c.Jobs[n-1].Last+1 == job {
		c.Jobs[n-1].Last = job
		return
	}
	c.Jobs = append(c.Jobs, protocol.JobRange{First: job, Last: job})
}
