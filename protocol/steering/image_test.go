package steering

import (
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

func TestParseImage(t *testing.T) {
	for _, tt := range []struct {
		text string
		want *Image
	}{
		{"", nil},
		{"/cvmfs/cms.cern.ch/images/el9", &Image{Path: "/cvmfs/cms.cern.ch/images/el9"}},
		{"el9", &Image{Project: ExpandedProject{Name: "el9"}}},
		{"el9/2026.1", &Image{Project: ExpandedProject{Name: "el9", Version: "2026.1"}}},
	} {
		got, err := ParseImage(tt.text)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("ParseImage(%q): %v\n%s", tt.text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"docker://debian:12":         "publish the image",
		"https://example.org/el.sif": "publish the image",
		"/":                          "plain path",
		"/cvmfs/../etc":              "plain path",
		"el9/":                       "NAME/VERSION",
		"/el9//x":                    "plain path",
		"a/b/c":                      "NAME/VERSION",
	} {
		if got, err := ParseImage(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseImage(%q) = %v, %v, want an error with %q", text, got, err, want)
		}
	}
}

// An image goes where it can be run: what says so is added to the requirements.
func TestImagesAreRequired(t *testing.T) {
	const sif = "resources: [{remote: 'http://example.org/x', local: el9.sif, checksum: 'sha256:" + zeros + "'}], "
	for _, tt := range []struct{ promise, task, want, other string }{
		{"none", `trays: [{modules: [{src: a}]}]`, "", ""},
		{"a tree", `container: /images/el9, trays: [{modules: [{src: a}]}]`, protocol.ImageTreeTag, ""},
		{"a file", `container: /images/el9.sif, trays: [{modules: [{src: a}]}]`, protocol.ImageSIFTag, ""},
		{"of a tray", `trays: [{modules: [{src: a}]}, {container: /images/el9, modules: [{src: a}]}]`, protocol.ImageTreeTag, ""},
		{"a resource that is a file", sif + `container: el9, trays: [{modules: [{src: a}]}]`, protocol.ImageSIFTag, ""},
		{"with cards, or without", `requirements: {gpu: 1, alternatives: [{cpu: 4}]}, container: /images/el9, trays: [{modules: [{src: a}]}]`, protocol.ImageSIFTag, protocol.ImageTreeTag},
		{"by a parameter", `parameters: {os: el9}, container: /images/$args(os), trays: [{modules: [{src: a}]}]`, protocol.ImageTreeTag, ""},
	} {
		doc, problems := Parse("x.yaml", []byte("version: 3.2\ntasks: [{name: t, "+tt.task+"}]\n"))
		if problems.HasErrors() {
			t.Fatalf("%s: %v", tt.promise, problems)
		}
		plan, problems := Compile(doc, CompileInput{JobCount: 2})
		if problems.HasErrors() {
			t.Errorf("%s: %v", tt.promise, problems)
			continue
		}
		r := plan.Tasks[0].Classes[0].Requirements
		if got := strings.Join(r.Tags, " "); got != tt.want {
			t.Errorf("%s: tags %q, want %q", tt.promise, got, tt.want)
		}
		for _, a := range r.Alternatives {
			if got := strings.Join(a.Tags, " "); got != tt.other {
				t.Errorf("%s: tags of the alternative %q, want %q", tt.promise, got, tt.other)
			}
		}
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// A tray has its own image, or its task's; a mistyped one is told with its place.
func TestContainersOfTrays(t *testing.T) {
	doc, problems := Parse("x.yaml", []byte("version: 3.2\ntasks:\n  - name: t\n    container: el9/1\n    trays:\n      - modules: [{src: a}]\n      - container: docker://x\n        modules: [{src: a}]\n"))
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	task, _ := ExpandTask(doc, ExpandInput{JobCount: 1}, 0)
	if a, b := task.Trays[0].Container, task.Trays[1].Container; a != "el9/1" || b != "docker://x" {
		t.Errorf("containers %q and %q, want el9/1 and docker://x", a, b)
	}
	_, problems = Compile(doc, CompileInput{JobCount: 1})
	if len(problems) != 1 || problems[0].Line != 7 || !strings.Contains(problems[0].Message, "publish the image") {
		t.Errorf("problems %v, want one at line 7 that says what to do", problems)
	}
	uses := Projects(doc, CompileInput{JobCount: 1})
	if len(uses) != 1 || uses[0].Project.Name != "el9" || uses[0].Project.Version != "1" {
		t.Errorf("projects %+v, want el9 1", uses)
	}
}

// Whatever a container says, it names one image or is refused.
func FuzzParseImage(f *testing.F) {
	for _, text := range []string{"", "/", "/cvmfs/cms.cern.ch/el9", "el9", "el9/1.0", "docker://debian", "a//b", "/a/../b", " el9 ", "el9/1/2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		image, err := ParseImage(text)
		switch {
		case err != nil || image == nil:
		case image.Path != "" && (image.Path[0] != '/' || strings.Contains(image.Path, "/../") || image.Project != (ExpandedProject{})):
			t.Errorf("ParseImage(%q) = %+v", text, image)
		case image.Path == "" && image.Project.Name == "":
			t.Errorf("ParseImage(%q) names nothing", text)
		}
	})
}
