package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const seededSteering = `version: 3
dataset: 7
steering: {parameters: {seed: $eval($(dataset)*100+$(job)), out: "$sprintf('%03d.i3',$(job))"}}
tasks:
  - name: generate
    requirements: {memory: 2}
    trays: [{iterations: 2, modules: [{src: run.sh, args: "--seed $(seed) -n $(iter) $environ(HOME)"}]}]
  - {name: filter, depends: [generate], trays: [{modules: [{src: filter.sh, args: [$(out), $(nproc)]}]}]}
`

func TestSteeringExpandAndEval(t *testing.T) {
	files := map[string]string{"a.yaml": seededSteering, "bad.yaml": strings.Replace(seededSteering, "$(iter)", "$(itre)", 1)}
	for _, test := range []struct {
		name string
		args []string
		code int
		out  string // must be part of stdout
		err  string // must be part of stderr
	}{
		{"a job", []string{"expand", "--job", "5", "a.yaml"}, exitOK, "args  --seed 705 -n 1 $environ(HOME)\n", ""},
		{"its dataset", []string{"expand", "--job", "5", "--dataset", "9", "a.yaml"}, exitOK, "args  --seed 905 -n 0", ""},
		{"its size", []string{"expand", "--job", "5", "--jobs", "40", "a.yaml"}, exitOK, `args  ["005.i3", 40]`, ""},
		{"its requirements", []string{"expand", "a.yaml"}, exitOK, "requirements  1 cores, 2GB memory\n", ""},
		{"a task", []string{"expand", "--task", "filter", "a.yaml"}, exitOK, "task 1 filter\n", ""},
		{"what a node knows", []string{"expand", "--environ", "HOME=/root", "a.yaml"}, exitOK, "-n 0 /root\n", ""},
		{"no such task", []string{"expand", "--task", "filer", "a.yaml"}, exitUsage, "", "the tasks are generate, filter"},
		{"no such job", []string{"expand", "--job", "5", "--jobs", "5", "a.yaml"}, exitUsage, "", "the last job is 4"},
		{"no file", []string{"expand"}, exitUsage, "", "FILE is missing"},
		{"a phrase without a value", []string{"expand", "bad.yaml"}, exitFailure, "-n $(itre)", `$(itre) stays as it stands: there is no parameter or option "itre" (did you mean "iter"?)`},
		{"a Python expression", []string{"eval", "(7//2) + 2**-1"}, exitOK, "3.5\n", ""},
		{"a phrase", []string{"eval", "--job", "3", "job $(job)"}, exitOK, "job 3\n", ""},
		{"a file's parameter", []string{"eval", "--file", "a.yaml", "--job", "3", "$steering(seed)"}, exitOK, "703\n", ""},
		{"an explanation", []string{"eval", "--file", "a.yaml", "--explain", "$(seed)"}, exitOK, "    $eval($(dataset)*100+$(job)) = 700\n", ""},
		{"an iteration", []string{"eval", "--file", "a.yaml", "--task", "0", "--iter", "1", "$(iter)"}, exitOK, "1\n", ""},
		{"no value", []string{"eval", "$(gone)"}, exitFailure, "$(gone)\n", "there is no parameter"},
		{"division by zero", []string{"eval", "1/0"}, exitFailure, "$eval(1/0)\n", "/ by zero"},
		{"nothing", []string{"eval"}, exitUsage, "", "EXPRESSION is missing"},
	} {
		code, out, errs, _ := runSteering(t, files, test.args...)
		if code != test.code || !strings.Contains(out, test.out) || !strings.Contains(errs, test.err) {
			t.Errorf("%s: floe steering %q = %d\nstdout: %s\nstderr: %s\nwant %d, %q, %q", test.name, test.args, code, out, errs, test.code, test.out, test.err)
		}
	}
}

func TestSteeringExpandJSON(t *testing.T) {
	code, out, errs, _ := runSteering(t, map[string]string{"a.yaml": seededSteering}, "expand", "-o", "json", "--job", "5", "a.yaml")
	var job struct {
		Dataset, Job int
		Parameters   map[string]any
		Tasks        []struct {
			Name  string
			Trays []struct {
				Iteration int
				Modules   []struct{ Src string }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &job); err != nil || code != exitOK {
		t.Fatalf("expand -o json = %d, %v\n%s%s", code, err, out, errs)
	}
	if job.Dataset != 7 || job.Job != 5 || job.Parameters["out"] != "005.i3" || job.Tasks[0].Trays[1].Iteration != 1 || job.Tasks[1].Trays[0].Modules[0].Src != "filter.sh" {
		t.Errorf("expand -o json = %+v", job)
	}
}
