package steering

import (
	"encoding/json"
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

// photons is a dataset with an expression in every kind of field.
const photons = `
version: "3.2"
options: {mode: fast}
steering:
  system: {scratch: /tmp}
  parameters:
    seed: $eval($(dataset)*100000+$(job))
    outfile: $sprintf('%s.%06d',$steering(geometry),$(job))
    geometry: IC86
    model::0: base
    model::1: scat
    near: header
    model: $choice(lea,bfr,ftp)
    emax: "1e5"
    node: $system(scratch)/$environ(SLOT)
  resources:
    - {remote: gcd/$(geometry).gz, local: gcd.gz}
tasks:
  - name: generate
    requirements: {cpu: 1, memory: 2.5, disk: $eval(10+$(job)%3), time: 1.5}
    parameters: {near: task, seed: $(seed)+1}
    data:
      - {type: job_temp, movement: output, local: hits_$(job).i3, remote: ""}
    trays:
      - name: sim
        iterations: $len([1,2])
        parameters: {which: "$steering(model::$(iter))"}
        modules:
          - name: run
            src: run.sh
            args: --seed $(seed) --model $(which) -i $(iter) --out $(output)
          - name: class
            class: icecube.Module
            args:
              seed: $steering(seed)
              emax: $steering(emax)
              near: [$(near), $steering(near)]
              title: job $(job) of $(jobs_submitted)
              node: $(node)
              model: $(model)
              version: "1.10"
  - name: filter
    depends: [generate]
    requirements: {gpu: 1, gpu_capability: 7.5, alternatives: [{cpu: 16}]}
    trays:
      - modules:
          - {src: filter.sh, args: ["$(task)", "$(model)"]}
`

func parsed(t *testing.T, text string) *Document {
	t.Helper()
	doc, problems := Parse("test", []byte(text))
	if problems.HasErrors() {
		t.Fatalf("Parse: %v", problems)
	}
	return doc
}

// asTree is a value as encoding/json reads its JSON.
func asTree(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestExpandJob(t *testing.T) {
	doc := parsed(t, photons)
	in := ExpandInput{Dataset: 7, Job: 4, JobCount: 100, Seed: 1}
	job, problems := ExpandJob(doc, in)
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	generate := job.Tasks[0]
	model, _ := job.Parameters.Find("model")
	want := protocol.Requirements{Cores: 1, Memory: 2_500_000_000, Disk: 11_000_000_000, Walltime: 5400}
	if diff := cmp.Diff(want, generate.Requirements); diff != "" {
		t.Errorf("requirements (-want +got):\n%s", diff)
	}
	if len(generate.Trays) != 2 {
		t.Fatalf("%d trays, want two iterations", len(generate.Trays))
	}
	second := generate.Trays[1]
	tests := []struct {
		what string
		got  any
		want string // as JSON
	}{
		{"a command line", second.Modules[0].Args, `"--seed 700004+1 --model scat -i 1 --out hits_4.i3"`},
		{"arguments of a class", second.Modules[1].Args, `{"seed":700004,"emax":100000.0,"near":["task","header"],"title":"job 4 of 100","node":"/tmp/$environ(SLOT)","model":"` +
			model.(string) + `","version":"1.10"}`},
		{"tray parameters", second.Parameters, `{"which":"scat"}`},
		{"the header's files", generate.Resources, `[{"remote":"gcd/IC86.gz","local":"gcd.gz"}]`},
		{"alternatives", job.Tasks[1].Requirements, `{"gpus":1,"gpu_capability":75,"alternatives":[{"cores":16}]}`},
		{"task index", job.Tasks[1].Trays[0].Modules[0].Args, `[1,"` + model.(string) + `"]`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.got)
		if err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if diff := cmp.Diff(asTree(t, json.RawMessage(tt.want)), asTree(t, json.RawMessage(got))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
	}
	if text, _ := json.Marshal(second.Modules[1].Args); !strings.Contains(string(text), "100000.0") {
		t.Errorf("the float is no float any more: %s", text)
	}
	if !generate.NodeDependent || job.Tasks[1].NodeDependent {
		t.Errorf("NodeDependent = %v, %v, want true, false", generate.NodeDependent, job.Tasks[1].NodeDependent)
	}
}

// A retry, another pilot and the coordinator all see the same task.
func TestExpandTaskIsReproducible(t *testing.T) {
	doc := parsed(t, photons)
	in := ExpandInput{Dataset: 7, Job: 4, JobCount: 100, Seed: 99}
	job, _ := ExpandJob(doc, in)
	for i := range job.Tasks {
		again, _ := ExpandTask(parsed(t, photons), in, protocol.TaskIndex(i))
		if diff := cmp.Diff(asTree(t, job.Tasks[i]), asTree(t, again)); diff != "" {
			t.Errorf("task %d (-job +task):\n%s", i, diff)
		}
	}
	in.System, in.Environ = map[string]string{"scratch": "/data"}, map[string]string{"SLOT": "$(job)"}
	task, problems := ExpandTask(doc, in, 0)
	if len(problems) > 0 {
		t.Errorf("on the node: %v", problems)
	}
	if got := asTree(t, task.Trays[0].Modules[1].Args).(map[string]any)["node"]; got != "/data/$(job)" {
		t.Errorf("on the node: node = %v, want what the node says, not expanded again", got)
	}
}

// Choices of the header hold for the whole job and differ between jobs.
func TestChoicePlaces(t *testing.T) {
	doc := parsed(t, photons)
	seen := map[string]bool{}
	for job := range protocol.JobIndex(40) {
		expanded, _ := ExpandJob(doc, ExpandInput{Job: job, Seed: 5})
		first := asTree(t, expanded.Tasks[0].Trays[0].Modules[1].Args).(map[string]any)["model"].(string)
		second := asTree(t, expanded.Tasks[1].Trays[0].Modules[0].Args).([]any)[1].(string)
		if first != second {
			t.Errorf("job %d: task generate drew %s, task filter %s, from one parameter of the header", job, first, second)
		}
		seen[first] = true
	}
	if len(seen) != 3 {
		t.Errorf("40 jobs drew %v, want all three models", seen)
	}
}

func TestExpandProblems(t *testing.T) {
	doc := parsed(t, `
version: 3
steering: {parameters: {unused: $(iter), used: "x$(gone)"}}
tasks:
  - name: a
    requirements: {memory: $(much)}
    trays:
      - iterations: $(often)
        modules: [{src: a.sh}]
      - modules:
          - {src: a.sh, args: "$(used) $environ(HOME) $eval(1+)"}
`)
	_, problems := ExpandJob(doc, ExpandInput{})
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
	}
	text := strings.Join(got, "\n")
	for _, part := range []string{
		`warning: $(gone) stays as it stands: there is no parameter or option "gone"`,
		`error: memory "$(much)": want a number`,
		`error: iterations "$(often)": want a whole number from 0 to 10000`,
		`warning: $eval(1+) stays as it stands: column 3: the expression ends too early`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("problems lack %q:\n%s", part, text)
		}
	}
	for _, part := range []string{"environ", "iter)"} {
		if strings.Contains(text, part) {
			t.Errorf("problems mention %q, which is not resolved yet:\n%s", part, text)
		}
	}
}
