package steering

import (
	"strconv"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// Where is a place in a document from which an expression is looked at.
type Where struct {
	// Task is a task's name or index, empty for the header.
	Task string
	// Tray is the index of a tray of that task and Iteration one of its
	// iterations; a negative Tray stays outside trays.
	Tray, Iteration int
}

// Evaluate resolves text as if it stood at a place of the document. A text
// without phrases is the body of an $eval. With explain the result has a tree.
func Evaluate(doc *Document, in ExpandInput, where Where, text string, explain bool) (expr.Result, Problems) {
	e := newExpansion(doc, in)
	place := headerPlace("eval")
	if where.Task != "" {
		index, ok := doc.TaskIndex(where.Task)
		if !ok {
			e.errorf(doc.Position, "there is no task %q", where.Task)
			return expr.Result{}, e.problems
		}
		e.scope.enterTask(index)
		place = expr.Place{Task: doc.Tasks[index].Name, Path: "/eval"}
		if trays := doc.Tasks[index].Trays; where.Tray >= len(trays) {
			e.errorf(doc.Tasks[index].Position, "task %q has %d trays", where.Task, len(trays))
			return expr.Result{}, e.problems
		} else if where.Tray >= 0 {
			place = below(e.scope.enterTray(&trays[where.Tray], where.Tray, where.Iteration), "eval")
		}
	}
	if !strings.Contains(text, "$") {
		text = "$eval(" + escapeBrackets(text) + ")"
	}
	options := e.options()
	options.Explain = explain
	return expr.Expand(text, place, e.scope, options), nil
}

// escapeBrackets makes round brackets plain, which then need not match.
func escapeBrackets(text string) string {
	return strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(text)
}

// Number is the dataset number a document claims, 0 if it claims none.
func (d *Document) Number() protocol.DatasetID {
	n, err := strconv.ParseUint(d.Dataset, 10, 32)
	if err != nil {
		return 0
	}
	return protocol.DatasetID(n)
}
