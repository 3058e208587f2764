package steering

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"floe/protocol"
)

func TestRepositoriesThatATaskNamesAreRequired(t *testing.T) {
	const (
		ice  = "cvmfs-icecube.opensciencegrid.org"
		cms  = "cvmfs-cms.cern.ch"
		task = "version: 3.2\ntasks:\n  - name: t\n    "
	)
	for _, tt := range []struct {
		promise, document string
		want              []string
	}{
		{"no repository, no requirement", task + "trays: [{modules: [{src: /bin/echo, args: /data/cvmfs/icecube.opensciencegrid.org}]}]", nil},
		{"a program", task + "trays: [{modules: [{src: /cvmfs/icecube.opensciencegrid.org/py3/bin/run}]}]", []string{ice}},
		{"a tray's environment", task + "trays: [{env_shell: /cvmfs/icecube.opensciencegrid.org/py3/env-shell.sh, modules: [{src: a.py}]}]", []string{ice}},
		{"a module's environment", task + "trays: [{modules: [{src: a.py, env_shell: /cvmfs/cms.cern.ch/env.sh}]}]", []string{cms}},
		{"a command line, after a redirection and at the beginning of a line", task + `trays: [{modules: [{src: sh, args: "-c cat</cvmfs/cms.cern.ch/x\n/cvmfs/icecube.opensciencegrid.org/y"}]}]`, []string{cms, ice}},
		{"a list of arguments", task + "trays: [{modules: [{src: a.py, args: [--gcd, \"file:/cvmfs/icecube.opensciencegrid.org/gcd.i3\"]}]}]", []string{ice}},
		{"a class", task + "trays: [{classes: [{name: c, src: /cvmfs/cms.cern.ch/c.tar}], modules: [{class: c.C}]}]", []string{cms}},
		{"a parameter", task + "trays: [{modules: [{class: c.C, parameters: {gcd: /cvmfs/icecube.opensciencegrid.org/gcd.i3}}]}]", []string{ice}},
		{"an input", task + "trays: [{data: [{type: permanent, movement: input, remote: /cvmfs/cms.cern.ch/x, local: x}], modules: [{src: a.py}]}]", []string{cms}},
		{"a container", task + "container: /cvmfs/cms.cern.ch/images/el9\n    trays: [{modules: [{src: a.py}]}]", []string{cms, protocol.ImageTreeTag}},
		{"an expression", "version: 3.2\nsteering: {parameters: {repo: icecube.opensciencegrid.org}}\ntasks:\n  - name: t\n    trays: [{modules: [{src: /cvmfs/$steering(repo)/run}]}]", []string{ice}},
		{"beside tags of one's own", task + "requirements: {tags: [gpfs, cvmfs-cms.cern.ch]}\n    trays: [{modules: [{src: /cvmfs/cms.cern.ch/run, args: /cvmfs/icecube.opensciencegrid.org}]}]", []string{"gpfs", cms, ice}},
	} {
		plan, problems := Compile(parsed(t, tt.document), CompileInput{Dataset: 1, JobCount: 3})
		if problems.HasErrors() {
			t.Errorf("%s: %v", tt.promise, problems)
			continue
		}
		if diff := cmp.Diff(tt.want, plan.Tasks[0].Classes[0].Requirements.Tags); diff != "" {
			t.Errorf("%s: tags (-want +got):\n%s", tt.promise, diff)
		}
	}
}

func TestRepositoriesAreRequiredInEveryShape(t *testing.T) {
	doc := parsed(t, "version: 3.2\ntasks:\n  - name: t\n    requirements: {gpu: 1, alternatives: [{cpu: 16}]}\n    trays: [{modules: [{src: /cvmfs/cms.cern.ch/run}]}]")
	plan, problems := Compile(doc, CompileInput{Dataset: 1, JobCount: 1})
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	tags := []string{protocol.RepositoryTag("cms.cern.ch")}
	want := protocol.Requirements{GPUs: 1, Tags: tags, Alternatives: []protocol.Requirements{{Cores: 16, Tags: tags}}}
	if diff := cmp.Diff(want, plan.Tasks[0].Classes[0].Requirements); diff != "" {
		t.Errorf("requirements (-want +got):\n%s", diff)
	}
}
