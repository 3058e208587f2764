package steering

import (
	"cmp"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// Two jobs with the same random seed do the same work twice, which nobody
// notices in the outputs. A parameter counts as a seed by its name; its value
// over the jobs is a series. A series is cut into stretches that are linear in
// the job by asking for few of its values, so that ten million jobs cost no
// more than thousands, and whatever that suggests is confirmed by evaluating
// the two jobs that are named.

// LiveDataset is a dataset whose seeds are in use.
type LiveDataset struct {
	Number protocol.DatasetID
	Doc    *Document
	Jobs   uint32
	Seed   uint64
	// Options were given at its submission.
	Options map[string]string
}

const (
	// jobsAllEvaluated is up to how many jobs a series that is not linear is
	// evaluated job by job.
	jobsAllEvaluated = 2000
	// maxStretches bounds the stretches of a series; what comes later is not
	// looked at.
	maxStretches = 128
)

// seedName matches parameters that begin a random stream or name a run.
var seedName = regexp.MustCompile(`(?i)seed|^run_?(id|number)?$|[:_]run(_?id)?$|^run_?id`)

// SeedCollisions warns of seeds that come twice: in two jobs, in two tasks of
// a job, or in a job of another live dataset. A seed that is the same in every
// job of a step that also has a value of its own for each job (procnum) is
// reported as a notice, since simulations commonly combine the two.
func SeedCollisions(doc *Document, in CompileInput, others []LiveDataset) Problems {
	s := newSeeds(doc, in)
	s.findInJobs()
	s.findInTasks()
	for _, other := range others {
		if other.Number != in.Dataset && other.Doc != nil {
			s.findIn(newSeeds(other.Doc, CompileInput{
				Dataset: other.Number, JobCount: other.Jobs, Seed: other.Seed, Options: other.Options,
			}), other.Number)
		}
	}
	return s.e.problems.Sort()
}

// seeds are the series of one dataset.
type seeds struct {
	e      *expansion
	jobs   int64
	series []*series
}

// series is one seed parameter over all jobs.
type series struct {
	name   string // of the parameter
	where  string // for people
	task   string // empty for the header
	value  expr.Value
	at     Position
	place  expr.Place
	levels []level
	index  int // of the task
	// perJob names a value beside it that differs between jobs.
	perJob    string
	stretches []stretch
	fixed     bool // the same in every job
}

// stretch is value first+step·(job-from) for from ≤ job ≤ to.
type stretch struct {
	from, to    int64
	first, step *big.Int
}

func newSeeds(doc *Document, in CompileInput) *seeds {
	s := &seeds{jobs: int64(in.JobCount)}
	s.e = newExpansion(doc, ExpandInput{Dataset: in.Dataset, JobCount: in.JobCount, Seed: in.Seed, Options: in.Options})
	if s.jobs == 0 {
		return s
	}
	s.add("steering parameter", "", doc.Steering.Parameters, headerPlace("parameters"))
	for i := range doc.Tasks {
		t := &doc.Tasks[i]
		s.e.scope.enterTask(i)
		s.add("task "+t.Name+", parameter", t.Name, t.Parameters, expr.Place{Task: t.Name, Path: "/parameters"})
		for j := range t.Trays {
			tray := &t.Trays[j]
			place := s.e.scope.enterTray(tray, j, 0)
			s.add("task "+t.Name+", parameter", t.Name, tray.Parameters, below(place, "parameters"))
			for k := range tray.Modules {
				m := &tray.Modules[k]
				inner := below(place, "modules", k)
				s.e.scope.enter(m.Parameters, nil, inner)
				s.add("task "+t.Name+", parameter", t.Name, m.Parameters, below(inner, "parameters"))
				s.add("task "+t.Name+", argument", t.Name, m.Args.Map, below(inner, "args"))
				s.e.scope.leave()
			}
			s.e.scope.leave()
		}
	}
	return s
}

// add takes the seeds among ps, seen from the scope as it is now.
func (s *seeds) add(what, task string, ps Parameters, place expr.Place) {
	for i := range ps {
		if !seedName.MatchString(ps[i].Name) {
			continue
		}
		one := &series{
			name: ps[i].Name, where: what + " " + ps[i].Name, task: task, value: exprValue(ps[i].Value),
			at: ps[i].Value.Position, place: below(place, ps[i].Name), levels: slices.Clone(s.e.scope.levels), index: s.e.scope.task,
		}
		r := s.expand(one, 0)
		if _, ok := infer(r.Value).(*big.Int); !ok {
			continue
		}
		one.fixed = !r.Sources.Has(expr.SourceJob)
		one.perJob = s.companion(ps, place)
		one.stretches = s.cut(one)
		s.series = append(s.series, one)
	}
}

// companion names a parameter beside a seed that is no seed itself and has
// another value in each job.
func (s *seeds) companion(ps Parameters, place expr.Place) string {
	for i := range ps {
		if v, ok := ps[i].Value, !seedName.MatchString(ps[i].Name); ok && v.Kind == KindString && strings.Contains(v.Text, "$") {
			r := expr.Expand(v.Text, below(place, ps[i].Name), s.e.scope, s.e.options())
			if _, isInt := infer(r.Value).(*big.Int); isInt && r.Sources.Has(expr.SourceJob) {
				return ps[i].Name
			}
		}
	}
	return ""
}

// at evaluates a series for one job.
func (s *seeds) at(one *series, job int64) (*big.Int, bool) {
	i, ok := infer(s.expand(one, job).Value).(*big.Int)
	return i, ok
}

func (s *seeds) expand(one *series, job int64) expr.Result {
	saved, task, iteration := s.e.scope.levels, s.e.scope.task, s.e.scope.iteration
	defer func() {
		s.e.scope.levels, s.e.scope.task, s.e.scope.iteration = saved, task, iteration
		s.e.setJob(0)
	}()
	s.e.scope.levels, s.e.scope.task, s.e.scope.iteration = one.levels, one.index, 0
	s.e.setJob(protocol.JobIndex(job))
	return expr.Expand(one.value, one.place, s.e.scope, s.e.options())
}

// cut finds the linear stretches of a series, from job 0 on.
func (s *seeds) cut(one *series) (stretches []stretch) {
	value := func(job int64) *big.Int {
		v, ok := s.at(one, job)
		if !ok {
			return nil
		}
		return v
	}
	if one.fixed {
		return []stretch{{0, s.jobs - 1, value(0), new(big.Int)}}
	}
	for from := int64(0); from < s.jobs && len(stretches) < maxStretches; {
		st := stretch{from: from, to: from, first: value(from), step: new(big.Int)}
		if st.first == nil {
			break
		}
		linear := func(job int64) bool {
			v := value(job)
			return v != nil && v.Cmp(st.value(job)) == 0
		}
		if second := from + 1; second < s.jobs {
			if v := value(second); v != nil {
				st.step.Sub(v, st.first)
				st.to = second
			}
		}
		// Reach out in growing leaps, then halve back to where the line ends.
		leap := int64(1)
		for st.to < s.jobs-1 && linear(min(st.to+leap, s.jobs-1)) {
			st.to, leap = min(st.to+leap, s.jobs-1), leap*2
		}
		for ; leap > 0; leap /= 2 {
			if next := st.to + leap; next < s.jobs && linear(next) {
				st.to = next
			}
		}
		stretches = append(stretches, st)
		from = st.to + 1
	}
	return stretches
}

// value is the stretch's value for a job.
func (st stretch) value(job int64) *big.Int {
	v := new(big.Int).Mul(st.step, big.NewInt(job-st.from))
	return v.Add(v, st.first)
}

// meet finds the jobs of two stretches with the same value: the least job of a
// for which there is one, and that of b.
func meet(a, b stretch) (x, y int64, ok bool) {
	switch {
	case a.step.Sign() == 0 && b.step.Sign() == 0:
		return a.from, b.from, a.first.Cmp(b.first) == 0
	case b.step.Sign() == 0:
		y, x, ok = meet(b, a)
		return x, y, ok
	case a.step.Sign() == 0:
		// Where does b reach a's only value?
		steps, rest := new(big.Int).QuoRem(new(big.Int).Sub(a.first, b.first), b.step, new(big.Int))
		if rest.Sign() != 0 || !steps.IsInt64() {
			return 0, 0, false
		}
		y = b.from + steps.Int64()
		return a.from, y, y >= b.from && y <= b.to
	}
	// a.first + i·a.step = b.first + k·b.step, 0 ≤ i ≤ I, 0 ≤ k ≤ K.
	var u, v big.Int
	absA, absB := new(big.Int).Abs(a.step), new(big.Int).Abs(b.step)
	g := new(big.Int).GCD(&u, &v, absA, absB)
	distance, rest := new(big.Int).QuoRem(new(big.Int).Sub(b.first, a.first), g, new(big.Int))
	if rest.Sign() != 0 {
		return 0, 0, false
	}
	// One solution, then those near it: i moves by |b.step|/g.
	period := new(big.Int).Quo(absB, g)
	i := new(big.Int).Mul(distance, &u)
	if a.step.Sign() < 0 {
		i.Neg(i)
	}
	i.Mod(i, period)
	// k grows or falls linearly with i: find the least i that brings k into
	// range.
	k := func(i *big.Int) *big.Int {
		n := new(big.Int).Mul(i, a.step)
		n.Add(n, a.first).Sub(n, b.first)
		return n.Quo(n, b.step)
	}
	last := big.NewInt(b.to - b.from)
	perPeriod := new(big.Int).Sub(k(new(big.Int).Add(i, period)), k(i))
	turns := new(big.Int)
	if now := k(i); now.Sign() < 0 && perPeriod.Sign() > 0 {
		turns = ceilDivide(new(big.Int).Neg(now), perPeriod)
	} else if now.Cmp(last) > 0 && perPeriod.Sign() < 0 {
		turns = ceilDivide(new(big.Int).Sub(now, last), new(big.Int).Neg(perPeriod))
	}
	i.Add(i, turns.Mul(turns, period))
	j := k(i)
	if !i.IsInt64() || i.Int64() > a.to-a.from || j.Sign() < 0 || j.Cmp(last) > 0 {
		return 0, 0, false
	}
	return a.from + i.Int64(), b.from + j.Int64(), true
}

func ceilDivide(x, y *big.Int) *big.Int {
	quotient, rest := new(big.Int).QuoRem(x, y, new(big.Int))
	if rest.Sign() > 0 {
		quotient.Add(quotient, big.NewInt(1))
	}
	return quotient
}

// findInJobs names two jobs with the same seed.
func (s *seeds) findInJobs() {
	var reported []*series
	for _, one := range s.series {
		if s.jobs < 2 || slices.ContainsFunc(reported, func(r *series) bool {
			return sameSeries(r, one) && (!one.fixed || r.perJob != "" || one.perJob == "")
		}) {
			continue
		}
		x, y, ok := s.repeats(one)
		if !ok {
			continue
		}
		a, _ := s.at(one, x)
		b, okB := s.at(one, y)
		if !okB || a.Cmp(b) != 0 {
			continue
		}
		if one.fixed && one.task == "" && s.usedWithCompanion(one) {
			continue // said where it is used
		}
		reported = append(reported, one)
		switch {
		case one.fixed && one.perJob != "":
			s.e.add(SeverityWarning, one.at, fmt.Sprintf("notice: %s is %s in all jobs; that is right only if the step combines it with %s", one.where, a, one.perJob))
		case one.fixed:
			s.e.add(SeverityWarning, one.at, fmt.Sprintf("%s is %s in all %d jobs, so that they do the same work", one.where, a, s.jobs))
		default:
			s.e.add(SeverityWarning, one.at, fmt.Sprintf("%s is %s in job %d and again in job %d", one.where, a, x, y))
		}
	}
}

// usedWithCompanion reports whether every step that has this fixed seed of the
// header as its own also has a value per job.
func (s *seeds) usedWithCompanion(one *series) bool {
	used := false
	for _, other := range s.series {
		if other.task != "" && sameSeries(one, other) {
			if other.perJob == "" {
				return false
			}
			used = true
		}
	}
	return used
}

// repeats finds two jobs with one value. Few jobs are all looked at, more by
// their stretches.
func (s *seeds) repeats(one *series) (x, y int64, ok bool) {
	if len(one.stretches) > 1 && s.jobs <= jobsAllEvaluated {
		first := map[string]int64{}
		for job := range s.jobs {
			if v, ok := s.at(one, job); ok {
				if before, again := first[v.String()]; again {
					return before, job, true
				}
				first[v.String()] = job
			}
		}
		return 0, 0, false
	}
	for i, a := range one.stretches {
		if a.step.Sign() == 0 && a.to > a.from {
			return a.from, a.from + 1, true
		}
		for _, b := range one.stretches[:i] {
			if x, y, ok := meet(b, a); ok {
				return x, y, true
			}
		}
	}
	return 0, 0, false
}

// sameSeries reports whether two series have the same value in every job.
func sameSeries(a, b *series) bool {
	return slices.EqualFunc(a.stretches, b.stretches, func(x, y stretch) bool {
		return x.from == y.from && x.to == y.to && x.first.Cmp(y.first) == 0 && x.step.Cmp(y.step) == 0
	})
}

// findInTasks names tasks of one job with the same seed under the same name.
func (s *seeds) findInTasks() {
	done := map[*series]bool{}
	for i, one := range s.series {
		if one.task == "" || done[one] || one.fixed && one.perJob != "" {
			continue
		}
		tasks := []string{one.task}
		for _, other := range s.series[i+1:] {
			if other.task != "" && strings.EqualFold(other.name, one.name) && sameSeries(one, other) {
				done[other] = true
				if !slices.Contains(tasks, other.task) {
					tasks = append(tasks, other.task)
				}
			}
		}
		if len(tasks) > 1 {
			v, _ := s.at(one, 0)
			s.e.add(SeverityWarning, one.at, fmt.Sprintf("%s is the same in tasks %s: %s in job 0; their random numbers are the same if they draw from the same generator", one.name, strings.Join(tasks, " and "), v))
		}
	}
}

// findIn names a job of another dataset with the same seed.
func (s *seeds) findIn(other *seeds, number protocol.DatasetID) {
	type hit struct {
		one      *series
		value    *big.Int
		x, y     int64
		their    *series
		priority int
	}
	var hits []hit
	for _, one := range s.series {
		for _, their := range other.series {
			if !strings.EqualFold(one.name, their.name) {
				continue
			}
			if x, y, ok := meetAny(one.stretches, their.stretches); ok {
				a, _ := s.at(one, x)
				b, okB := other.at(their, y)
				if okB && a.Cmp(b) == 0 {
					hits = append(hits, hit{one, a, x, y, their, len(one.task)})
				}
			}
		}
	}
	// The header's parameter stands for those that take their value from it.
	slices.SortStableFunc(hits, func(a, b hit) int { return cmp.Compare(a.priority, b.priority) })
	var reported []*series
	for _, h := range hits {
		if slices.ContainsFunc(reported, func(r *series) bool { return sameSeries(r, h.one) }) {
			continue
		}
		reported = append(reported, h.one)
		s.e.add(SeverityWarning, h.one.at, fmt.Sprintf("%s is %s in job %d, which dataset %d has in job %d (%s)", h.one.where, h.value, h.x, number, h.y, h.their.where))
	}
}

func meetAny(as, bs []stretch) (x, y int64, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			if x, y, ok = meet(a, b); ok {
				return x, y, true
			}
		}
	}
	return 0, 0, false
}
