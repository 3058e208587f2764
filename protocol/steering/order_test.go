package steering_test

import (
	"testing"

	"floe/protocol"
	"floe/protocol/steering"

	"github.com/google/go-cmp/cmp"
)

func TestTasksStandBehindTheirParents(t *testing.T) {
	doc := []steering.PlannedTask{
		{Name: "detector", Parents: []protocol.TaskIndex{2}},
		{Name: "background"},
		{Name: "photons", Parents: []protocol.TaskIndex{1, 3}},
		{Name: "signal"},
	}
	want := []steering.PlannedTask{
		{Name: "background", Parents: []protocol.TaskIndex{}},
		{Name: "signal", Parents: []protocol.TaskIndex{}},
		{Name: "photons", Parents: []protocol.TaskIndex{0, 1}},
		{Name: "detector", Parents: []protocol.TaskIndex{2}},
	}
	if d := cmp.Diff(want, (&steering.Plan{Tasks: doc}).InOrder()); d != "" {
		t.Errorf("InOrder (-want +got):\n%s", d)
	}
}
