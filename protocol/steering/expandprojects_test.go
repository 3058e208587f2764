package steering

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProjectsOfADocument(t *testing.T) {
	doc := parsed(t, `version: 3.2
steering:
  parameters: {version: V04, of_job: "V$(job)"}
  resources: [{remote: "https://a.example/x", local: header.tar.gz}]
tasks:
  - name: a
    projects: [{name: header, version: "9"}]
    trays:
      - projects: [{name: icerec, version: "$steering(version)"}, {name: icerec, version: "$steering(of_job)"}, {class: offline}]
        resources: [{remote: "https://a.example/y", local: photon-1.0.tar.zst}]
        modules:
          - {src: x, projects: [{name: photon, version: "1.0"}, {name: photon, version: "1.1"}, {name: icetray, class: V2}]}
  - name: b
    trays:
      - iterations: 2
        projects: [{name: photon, version: "1.0"}, {name: p, version: "$(iter)"}, {name: q, version: "$system(hostname)"}, {name: q, version: "$choice([1, 2])"}]
        modules: [{src: y}]
`)
	var got []string
	for _, u := range Projects(doc, CompileInput{Dataset: 3, JobCount: 10}) {
		name, version := u.Project.Software()
		got = append(got, fmt.Sprintf("%d: %s %s at line %d, of a resource %v, varies %v", u.Task, name, version, u.Position.Line, u.Resource != nil, u.Varies))
	}
	want := []string{
		"0: header 9 at line 7, of a resource true, varies false",
		"0: icerec V04 at line 9, of a resource false, varies false",
		"0: icerec V0 at line 9, of a resource false, varies true",
		"0: offline  at line 9, of a resource false, varies false",
		"0: photon 1.0 at line 12, of a resource true, varies false",
		"0: photon 1.1 at line 12, of a resource false, varies false",
		"0: icetray V2 at line 12, of a resource false, varies false",
		"1: photon 1.0 at line 16, of a resource false, varies false",
		"1: p 0 at line 16, of a resource false, varies true",
		"1: q $system(hostname) at line 16, of a resource false, varies true",
		"1: q 1 at line 16, of a resource false, varies true",
	}
	// Which of the two the draw gives does not matter here.
	if last := len(got) - 1; last >= 0 && got[last] == "1: q 2 at line 16, of a resource false, varies true" {
		got[last] = want[len(want)-1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Projects (-want +got):\n%s", diff)
	}
}
