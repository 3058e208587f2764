package payload

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol/steering"
)

func TestTraysOfASteeringFile(t *testing.T) {
	doc, problems := steering.Parse("test.yaml", []byte(`
tasks:
- name: generate
  projects: [{name: base, version: "1"}]
  resources: [{remote: "http://x/task.tar", local: task.tar}]
  trays:
  - name: main
    iterations: "2"
    env_clear: true
    env_shell: env-shell.sh -x
    projects: [{name: meta, version: "2"}]
    resources: [{remote: "http://x/tray.tar", local: tray.tar}]
    classes: [{name: lib, src: "http://x/lib.tar.gz", libs: "so:$CLASS/more", env_vars: "A=$CLASS/a;B=2"}]
    modules:
    - name: gen
      src: gen.py
      args: {seed: "$eval($(job)*10 + $(iter))", flag: null}
      configs: {run.json: {n: 5}}
    - running_class: pkg.Class
      parameters: {energy: 1.50, names: [a, 2], on: true}
`))
	if doc == nil {
		t.Fatal(problems)
	}
	task, problems := steering.ExpandTask(doc, steering.ExpandInput{Dataset: 1, Job: 3, JobCount: 10}, 0)
	if len(task.Trays) != 2 {
		t.Fatalf("ExpandTask: %v", problems)
	}
	scope := map[string]string{} // what is asked for to the resources in sight
	trays, err := Trays(task, func(p []steering.ExpandedProject, c []steering.ExpandedClass, r []steering.ExpandedResource) (roots []string, err error) {
		for _, p := range p {
			for _, r := range r {
				scope[p.Name] += r.Local + " "
			}
			roots = append(roots, "/sw/"+p.Name+"-"+p.Version)
		}
		for _, c := range c {
			roots = append(roots, "/sw/"+c.Name)
		}
		return roots, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Tray{
		Name: "main", Iteration: 1,
		Environment: Environment{
			Software: []string{"/sw/meta-2", "/sw/lib", "/sw/base-1"}, Python: []string{"/sw/lib"},
			Libraries: []string{"/sw/lib/so", "/sw/lib/more"}, Variables: []string{"A=/sw/lib/a", "B=2"},
			Shell: "env-shell.sh -x", Clear: true,
		},
		Modules: []Module{
			{Name: "gen", Src: "gen.py", Args: []byte(`{"seed": 31, "flag": null}`), Configs: []Parameter{{"run.json", []byte(`{"n": 5}`)}}},
			{Class: "pkg.Class", Parameters: []Parameter{{"energy", []byte("1.5")}, {"names", []byte(`["a", 2]`)}, {"on", []byte("true")}}},
		},
	}
	if diff := cmp.Diff(want, trays[1]); diff != "" {
		t.Errorf("second iteration (-want +got):\n%s", diff)
	}
	// Two iterations ask twice.
	if want := map[string]string{"base": "task.tar ", "meta": "tray.tar task.tar tray.tar task.tar "}; cmp.Diff(want, scope) != "" {
		t.Errorf("resources in scope = %v, want %v", scope, want)
	}
	var a arguments
	if a, err = parseArguments(trays[1].Modules[0].Args); err != nil || cmp.Diff([]string{"--seed=31", "--flag"}, a.words()) != "" {
		t.Errorf("arguments = %q, %v", a.words(), err)
	}
}
