package main

import (
	"context"
	"fmt"
	"time"

	"floe/protocol"
)

// release resets the tasks of a dataset that are held because they lost one pilot
// after another, as an operator does who knows that the pilots were killed
// (docs/adr/0007). A task in error for any other reason stays, and fails the run.
func (l *load) release(e *entry) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var page protocol.TaskPage
	if err := l.other.get(ctx, fmt.Sprintf("/v1/datasets/%d/tasks?state=error&limit=1000", e.id), &page); err != nil {
		return // asked again soon
	}
	for _, t := range page.Tasks {
		var task protocol.Task
		if err := l.other.get(ctx, fmt.Sprintf("/v1/datasets/%d/jobs/%d/tasks/%s", e.id, t.ID.Job, t.Name), &task); err != nil || !isHeld(&task) {
			continue
		}
		request := protocol.ActionRequest{
			Action: "reset", Jobs: fmt.Sprint(t.ID.Job), Tasks: []string{t.Name}, States: []protocol.TaskState{protocol.TaskError}, Reason: "its pilots were killed",
		}
		if _, ok := l.act(e, request); ok {
			l.mu.Lock()
			l.held++
			l.mu.Unlock()
		}
	}
}

// heldAfter is how many losses in a row hold a task. Source: invariant I-13.
const heldAfter = 3

// isHeld tells whether a task in error ended with as many losses in a row as hold it.
func isHeld(t *protocol.Task) bool {
	row := 0
	for _, a := range t.Attempts {
		switch {
		case a.Verdict == protocol.VerdictLost && !a.Withdrawn:
			row++
		case !a.Withdrawn:
			row = 0
		}
	}
	return t.State == protocol.TaskError && row >= heldAfter
}
