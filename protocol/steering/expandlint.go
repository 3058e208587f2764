package steering

import (
	"fmt"

	"floe/protocol/steering/expr"
)

// LintExpressions warns of phrases without a value, of numbers that are none,
// and of divisions that Python 2 and 3 answer differently. It looks at the
// first and a later job; System and Environ of nodes are not known yet.
func LintExpressions(doc *Document) Problems {
	var problems Problems
	dataset := doc.Number()
	divisions := map[expr.At]Position{}
	for _, in := range []ExpandInput{
		{Dataset: dataset, Job: 0, JobCount: 1000}, {Dataset: dataset, Job: 999, JobCount: 1000},
	} {
		e := newExpansion(doc, in)
		for i := range doc.Tasks {
			e.task(i)
		}
		e.unusedParameters()
		problems = append(problems, e.problems...)
		for at := range e.divisions {
			divisions[at] = e.scope.position(at.Place)
		}
	}
	if doc.Division == DivisionUnset {
		for _, position := range divisions {
			problems = append(problems, Problem{
				Line: position.Line, Column: position.Column, Severity: SeverityWarning,
				Message: fmt.Sprintf(`"/" between integers: 7/2 is 3.5 here, and was 3 in older IceProd; declare division %d or %d, or write "//"`, DivisionTrue, DivisionFloor),
			})
		}
	}
	return problems.Sort()
}

// unusedParameters expands the header's parameters that no task asked for, as
// the first iteration of the first task would see them.
func (e *expansion) unusedParameters() {
	used := map[expr.Place]bool{}
	for place := range e.scope.positions {
		used[place] = true
	}
	e.scope.enterHeader()
	e.scope.task, e.scope.iteration = 0, 0
	for _, p := range e.doc.Steering.Parameters {
		if place := below(headerPlace("parameters"), p.Name); !used[place] {
			e.value(p.Value, place)
		}
	}
	e.scope.enterHeader()
}
