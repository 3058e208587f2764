package steering

import (
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"floe/protocol/steering/expr"
)

// scope answers the look-ups of one place in one job. Parameters nearer to the
// place win; the header's are the outermost level.
type scope struct {
	doc       *Document
	in        ExpandInput
	task      int // -1 in the header
	iteration int // -1 outside trays
	levels    []level
	// positions are where values stand in the source, by place.
	positions map[expr.Place]Position
}

// level is the parameters and files of one element around the place.
type level struct {
	parameters Parameters
	data       []Data
	place      expr.Place
}

func newScope(doc *Document, in ExpandInput) *scope {
	s := &scope{doc: doc, in: in, positions: map[expr.Place]Position{}}
	s.enterHeader()
	return s
}

// below is a place inside another.
func below(place expr.Place, path ...any) expr.Place {
	for _, step := range path {
		switch step := step.(type) {
		case int:
			place.Path += "/" + strconv.Itoa(step)
		case string:
			place.Path += "/" + step
		}
	}
	return place
}

func headerPlace(field string) expr.Place { return expr.Place{Path: "/steering/" + field} }

func (s *scope) enterHeader() {
	s.task, s.iteration = -1, -1
	s.levels = append(s.levels[:0], level{s.doc.Steering.Parameters, s.doc.Steering.Data, headerPlace("")})
	s.levels[0].place.Path = "/steering"
}

func (s *scope) enterTask(index int) {
	s.enterHeader()
	t := &s.doc.Tasks[index]
	s.task = index
	s.enter(t.Parameters, t.Data, expr.Place{Task: t.Name})
}

// enterTray returns the place of one iteration, which has draws of its own.
func (s *scope) enterTray(t *Tray, index, iteration int) expr.Place {
	s.iteration = iteration
	place := below(expr.Place{Task: s.doc.Tasks[s.task].Name}, "trays", index, iteration)
	s.enter(t.Parameters, t.Data, place)
	return place
}

func (s *scope) enter(parameters Parameters, data []Data, place expr.Place) {
	s.levels = append(s.levels, level{parameters, data, place})
}

// leave goes one element outwards.
func (s *scope) leave() {
	s.levels = s.levels[:len(s.levels)-1]
	if len(s.levels) <= 2 {
		s.iteration = -1
	}
}

func (s *scope) options() expr.Options {
	o := expr.Options{Seed: s.in.Seed, Job: uint64(s.in.Job)}
	if s.doc.Division == DivisionFloor {
		o.Division = expr.DivisionFloor
	}
	return o
}

// position finds where the value at a place, or the nearest value around it,
// stands in the source.
func (s *scope) position(place expr.Place) Position {
	for {
		if at, ok := s.positions[place]; ok {
			return at
		}
		cut := strings.LastIndexByte(place.Path, '/')
		if cut < 0 {
			return s.doc.Position
		}
		place.Path = place.Path[:cut]
	}
}

// Find implements expr.Scope.
func (s *scope) Find(space expr.Space, name string, busy func(expr.Place) bool) (expr.Variable, bool) {
	switch space {
	case expr.SpaceAny:
		if v, ok := s.parameter(s.levels, name, busy); ok {
			return v, true
		}
		if v, ok := s.option(name, true); ok {
			return v, true
		}
		return s.aboutDocument(name)
	case expr.SpaceSteering:
		return s.parameter(s.levels[:1], name, busy)
	case expr.SpaceArgs:
		return s.option(name, true)
	case expr.SpaceOptions:
		return s.option(name, false)
	case expr.SpaceMetadata:
		return s.metadata(name)
	case expr.SpaceSystem:
		if text, ok := s.in.System[name]; ok {
			return expr.Variable{Value: expr.Infer(text), Verbatim: true, Sources: expr.SourceNode}, true
		}
		v, ok := s.member(s.doc.Steering.System, name, below(headerPlace("system"), name))
		v.Sources = expr.SourceNode
		return v, ok
	case expr.SpaceEnviron:
		text, ok := s.in.Environ[name]
		return expr.Variable{Value: text, Verbatim: true, Sources: expr.SourceNode}, ok
	}
	return expr.Variable{}, false
}

// names lists the parameters and options that can be named here.
func (s *scope) names() []string {
	names := []string{"job", "dataset", "jobs_submitted", "tasks_submitted", "task", "iter", "input", "output"}
	for _, l := range s.levels {
		for i := range l.parameters {
			names = append(names, l.parameters[i].Name)
		}
	}
	for i := range s.doc.Options {
		names = append(names, s.doc.Options[i].Name)
	}
	return names
}

// systemNames lists what $system can name.
func (s *scope) systemNames() []string {
	names := slices.Collect(maps.Keys(s.in.System))
	for i := range s.doc.Steering.System {
		names = append(names, s.doc.Steering.System[i].Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// parameter looks through levels from the innermost. A parameter being
// expanded is passed over, so that seed="$(seed)+1" in a task means the
// header's seed; if there is no other it is returned, and refused as a circle.
func (s *scope) parameter(levels []level, name string, busy func(expr.Place) bool) (expr.Variable, bool) {
	var last expr.Variable
	found := false
	for _, l := range slices.Backward(levels) {
		v, ok := s.member(l.parameters, name, below(l.place, "parameters", name))
		if !ok {
			continue
		}
		if last, found = v, true; !busy(v.Place) {
			return v, true
		}
	}
	return last, found
}

// member looks a name up among values of the document.
func (s *scope) member(ps Parameters, name string, place expr.Place) (expr.Variable, bool) {
	v, ok := ps.Find(name)
	if !ok {
		return expr.Variable{}, false
	}
	s.positions[place] = v.Position
	return expr.Variable{Value: exprValue(v), Place: place}, true
}

func number(n uint64, sources expr.Sources) (expr.Variable, bool) {
	return expr.Variable{Value: new(big.Int).SetUint64(n), Verbatim: true, Sources: sources}, true
}

// option answers $args and $options: what the framework says about the job,
// then arguments, then options given at submission, then the document's.
func (s *scope) option(name string, withArgs bool) (expr.Variable, bool) {
	jobs := uint64(s.in.JobCount)
	switch name {
	case "job", "procnum":
		return number(uint64(s.in.Job), expr.SourceJob)
	case "dataset":
		return number(uint64(s.in.Dataset), expr.SourceDataset)
	case "jobs_submitted", "nproc":
		return number(jobs, expr.SourceJobCount)
	case "tasks_submitted":
		return number(jobs*uint64(len(s.doc.Tasks)), expr.SourceJobCount)
	case "task":
		if s.task >= 0 {
			return number(uint64(s.task), expr.SourceTask)
		}
	case "iter":
		if s.iteration >= 0 {
			return number(uint64(s.iteration), expr.SourceIteration)
		}
	}
	given := []map[string]string{s.in.Args, s.in.Options}
	if !withArgs {
		given = given[1:]
	}
	for _, m := range given {
		if text, ok := m[name]; ok {
			return expr.Variable{Value: expr.Infer(text), Verbatim: true}, true
		}
	}
	if v, ok := s.member(s.doc.Options, name, expr.Place{Path: "/options/" + name}); ok {
		return v, true
	}
	return s.files(name)
}

// files answers $(input) and $(output): the local names of the files that come
// in or go out here, innermost first.
func (s *scope) files(name string) (expr.Variable, bool) {
	wanted := Movement(name)
	if wanted != MovementInput && wanted != MovementOutput || s.task < 0 {
		return expr.Variable{}, false
	}
	var names []string
	for _, l := range slices.Backward(s.levels) {
		for i := range l.data {
			if d := &l.data[i]; d.Movement == wanted || d.Movement == MovementBoth {
				local := d.Local.Text
				if local == "" {
					local = d.Remote.Text[strings.LastIndexByte(d.Remote.Text, '/')+1:]
				}
				names = append(names, local)
			}
		}
	}
	place := below(s.levels[len(s.levels)-1].place, name)
	return expr.Variable{Value: strings.Join(names, " "), Place: place}, true
}

// aboutDocument answers $(name) with the document's own attributes.
func (s *scope) aboutDocument(name string) (expr.Variable, bool) {
	text := map[string]string{
		"title": s.doc.Title, "description": s.doc.Description, "version": s.doc.Version, "parent_id": s.doc.ParentID,
	}[name]
	return expr.Variable{Value: expr.Infer(text), Verbatim: true}, text != ""
}

// metadata answers $metadata: what was given, the blocks dif and plus of the
// document, then its labels and attributes.
func (s *scope) metadata(name string) (expr.Variable, bool) {
	if text, ok := s.in.Metadata[name]; ok {
		return expr.Variable{Value: expr.Infer(text), Verbatim: true}, true
	}
	for _, block := range []string{"dif", "plus"} {
		if v, ok := s.doc.DIFPlus.Find(block); ok && v.Kind == KindMap {
			if v, ok := s.member(v.Map, name, expr.Place{Path: "/difplus/" + block + "/" + name}); ok {
				return v, true
			}
		}
	}
	if v, ok := s.member(s.doc.DIFPlus, name, expr.Place{Path: "/difplus/" + name}); ok {
		return v, true
	}
	if v, ok := s.member(s.doc.Labels, name, expr.Place{Path: "/labels/" + name}); ok {
		return v, true
	}
	return s.aboutDocument(name)
}

// exprValue turns a value of the document into one of expressions.
func exprValue(v Value) expr.Value {
	switch v.Kind {
	case KindBool:
		return v.Text == "true"
	case KindInt, KindDouble:
		if number, err := expr.ParseJSON(v.Text); err == nil {
			return number
		}
		return v.Text
	case KindString:
		return v.Text
	case KindList:
		list := make(expr.List, len(v.List))
		for i := range v.List {
			list[i] = exprValue(v.List[i])
		}
		return list
	case KindMap:
		d := &expr.Dict{Keys: make([]string, len(v.Map)), Values: make([]expr.Value, len(v.Map))}
		for i := range v.Map {
			d.Keys[i], d.Values[i] = v.Map[i].Name, exprValue(v.Map[i].Value)
		}
		return d
	}
	return nil
}

// infer gives every text within v the type it reads as.
func infer(v expr.Value) expr.Value {
	switch v := v.(type) {
	case string:
		return expr.Infer(v)
	case expr.List:
		list := make(expr.List, len(v))
		for i := range v {
			list[i] = infer(v[i])
		}
		return list
	case *expr.Dict:
		d := &expr.Dict{Keys: v.Keys, Values: make([]expr.Value, len(v.Values))}
		for i := range v.Values {
			d.Values[i] = infer(v.Values[i])
		}
		return d
	}
	return v
}
