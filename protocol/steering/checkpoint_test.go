package steering

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A module's checkpoint replaces its tray's as a whole, and is resolved per job.
func TestCheckpointsAreExpanded(t *testing.T) {
	doc, problems := Parse("d.yaml", []byte(`
version: 3.2
steering: {parameters: {minutes: 3}}
tasks:
  - name: a
    requirements: {time: 2, elastic: true}
    trays:
      - checkpoint: {grace: 45, files: "state.$(job) *.log"}
        modules:
          - {src: a.sh}
          - {src: b.sh, checkpoint: {signal: usr1, grace: "$eval($steering(minutes)*60)", exit: 85}}
      - modules: [{src: c.sh}]
`))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	job, problems := ExpandJob(doc, ExpandInput{Dataset: 1, Job: 7, JobCount: 10})
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	task := job.Tasks[0]
	if !task.Requirements.Elastic || task.Requirements.Walltime != 7200 {
		t.Errorf("requirements %+v", task.Requirements)
	}
	var got []*ExpandedCheckpoint
	for _, tray := range task.Trays {
		for _, m := range tray.Modules {
			got = append(got, m.Checkpoint)
		}
	}
	want := []*ExpandedCheckpoint{
		{GraceSeconds: 45, Files: []string{"state.7", "*.log"}},
		{Signal: "SIGUSR1", GraceSeconds: 180, Exit: 85},
		nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}

	doc.Tasks[0].Trays[0].Modules[1].Checkpoint.Exit.Text = "$eval(2-2)"
	if _, problems = ExpandJob(doc, ExpandInput{Job: 7, JobCount: 10}); !problems.HasErrors() || !strings.Contains(problems.Err().Error(), `exit "0": want a code from 1 to 255`) {
		t.Errorf("an exit code that turns out to be 0: %v", problems)
	}
}
