package steering

import (
	"fmt"
	"strings"
	"testing"

	"floe/protocol"

	"github.com/google/go-cmp/cmp"
)

var (
	someCommit = strings.Repeat("0123456789", 4)
	someDigest = strings.Repeat("ab", 32)
)

func TestParseExternal(t *testing.T) {
	digest, err := protocol.ParseDigest(someDigest)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]External{
		"https://example.org/a/mod.py":                     {Kind: ExternalFile, URL: "https://example.org/a/mod.py"},
		"HTTPS://Example.ORG/a/Mod.py":                     {Kind: ExternalFile, URL: "https://example.org/a/Mod.py"},
		"https://example.org/a/mod.py?download=1":          {Kind: ExternalFile, URL: "https://example.org/a/mod.py?download=1"},
		"https://example.org/x.tar.gz#lib/mod.py":          {Kind: ExternalFile, URL: "https://example.org/x.tar.gz", Inside: "lib/mod.py"},
		"https://example.org/x.tgz#lib//./mod.py":          {Kind: ExternalFile, URL: "https://example.org/x.tgz", Inside: "lib/mod.py"},
		"http://example.org/m.py#sha256=" + someDigest:     {Kind: ExternalFile, URL: "http://example.org/m.py", SHA256: digest},
		"https://example.org/x.tgz#a&sha256:" + someDigest: {Kind: ExternalFile, URL: "https://example.org/x.tgz", Inside: "a", SHA256: digest},
		"git+https://example.org/o/r":                      {Kind: ExternalGit, URL: "https://example.org/o/r"},
		"git+https://example.org/o/r@v1.2#a/b.py":          {Kind: ExternalGit, URL: "https://example.org/o/r", Revision: "v1.2", Inside: "a/b.py"},
		"https://example.org/o/r.git@feature/x#a":          {Kind: ExternalGit, URL: "https://example.org/o/r.git", Revision: "feature/x", Inside: "a"},
		"https://example.org/o/r.git":                      {Kind: ExternalGit, URL: "https://example.org/o/r.git"},
		"https://example.org/o/r.git@" + someCommit:        {Kind: ExternalGit, URL: "https://example.org/o/r.git", Revision: someCommit},
		"git+https://example.org/r@v1#subdirectory=lib":    {Kind: ExternalGit, URL: "https://example.org/r", Revision: "v1", Inside: "lib"},
		"svn+https://example.org/svn/p/tags/V1/m.py@123":   {Kind: ExternalSVN, URL: "https://example.org/svn/p/tags/V1/m.py", Revision: "123"},
		"svn+https://example.org:8443/svn/p/trunk/":        {Kind: ExternalSVN, URL: "https://example.org:8443/svn/p/trunk"},
		"https://example.org/with@sign.py":                 {Kind: ExternalFile, URL: "https://example.org/with@sign.py"},
	} {
		got, err := ParseExternal(text)
		if err != nil {
			t.Errorf("ParseExternal(%q): %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseExternal(%q) (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseExternalRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"http://example.org/m.py":                          "write https://…, or declare",
		"git+http://example.org/r":                         "write git+https://",
		"svn+http://example.org/r":                         "write svn+https://",
		"svn://example.org/r":                              "write svn+https://",
		"svn+ssh://ada@example.org/r":                      "write svn+https://",
		"git://example.org/r":                              "write git+https://",
		"ssh://git@example.org/r":                          "write git+https://",
		"git+ssh://git@example.org/r":                      "write git+https://",
		"git@example.org:o/r.git":                          "git+https://example.org/o/r.git",
		"hg+https://example.org/r":                         "want https, git+https or svn+https",
		"gsiftp://example.org/m.py":                        "or a resource that brings the file",
		"https://ada:secret@example.org/m.py":              "a user or password",
		"https:///m.py":                                    "no host",
		"https://example.org":                              "names a host and no file",
		"https://example.org/$(version)/m.py":              "$(version)/m.py stands for nothing",
		"https://example.org/a b.py":                       "write %20",
		"git+https://example.org/r@":                       "nothing behind the @",
		"git+https://example.org/r@abc1234":                "write all 40 digits",
		"git+https://example.org/r@a..b":                   "want a tag",
		"git+https://example.org/r@-x":                     "want a tag",
		"git+https://example.org/r?x=1":                    "no ?query",
		"git+https://example.org/r@v1#../x":                "want a path inside",
		"git+https://example.org/r@v1#/etc/passwd":         "want a path inside",
		"git+https://example.org/r#a&b":                    "a second path inside",
		"git+https://example.org/r#egg=x":                  "want a path inside, or sha256=",
		"git+https://example.org/r#sha256=" + someDigest:   "pinned by what stands behind the @",
		"https://example.org/m.py#sha256=ab":               "64 hexadecimal digits",
		"svn+https://example.org/r@HEAD":                   "a revision of svn is a number",
		"svn+https://example.org/r@5#a":                    "the path goes on",
		"https://example.org/" + strings.Repeat("x", 3000): "at most 2048",
	} {
		_, err := ParseExternal(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseExternal(%.80q): %v, want an error with %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseExternal(%.80q) tells the password: %v", text, err)
		}
	}
}

func FuzzParseExternal(f *testing.F) {
	for _, seed := range []string{
		"https://example.org/a/mod.py", "git+https://example.org/o/r@v1#a/b.py", "svn+https://h/p@12", "http://h/m.py#sha256=" + someDigest,
		"git@h:o/r.git", "https://a:b@h/x", "https://h/x.tgz#a%26b&sha256=" + someDigest, "git+https://[::1]:8/r.git@x/y#%2e%2e/z", "https://h/%zz", "svn+https://h@5/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExternal(text)
		if err != nil {
			return
		}
		if strings.HasPrefix(e.Inside, "/") || e.Inside == ".." || strings.HasPrefix(e.Inside, "../") || strings.Contains(e.URL, "#") {
			t.Errorf("ParseExternal(%q) = %+v", text, e)
		}
		again, err := ParseExternal(e.String())
		if err != nil || again != e {
			t.Errorf("ParseExternal(%q) = %+v, written %q, read back %+v, %v", text, e, e.String(), again, err)
		}
	})
}

// externalUses parses a document whose first tray has the given YAML.
func externalUses(t *testing.T, tray string, jobs uint32) ([]string, Problems) {
	t.Helper()
	doc, problems := Parse("x.yaml", []byte("version: 3\ntasks:\n  - name: t\n    parameters: {site: north}\n    trays:\n      - "+tray+"\n"))
	if problems.HasErrors() {
		t.Fatalf("%s: %v", tray, problems)
	}
	uses, problems := Externals(doc, CompileInput{Dataset: 7, JobCount: jobs, Options: map[string]string{"tag": "v3"}})
	var texts []string
	for _, u := range uses {
		texts = append(texts, u.Text)
	}
	return texts, problems
}

func TestExternals(t *testing.T) {
	for _, c := range []struct {
		name, tray string
		want       []string
	}{
		{"one", `modules: [{class: m.M, src: "https://h.org/m.py"}]`, []string{"https://h.org/m.py"}},
		{"twice the same", `modules: [{class: m.M, src: "https://h.org/m.py"}, {src: "https://h.org/m.py"}]`, []string{"https://h.org/m.py"}},
		{"by parameter and option", `modules: [{class: m.M, src: "https://h.org/$(site)/$options(tag).py"}]`, []string{"https://h.org/north/v3.py"}},
		{"by dataset", `modules: [{class: m.M, src: "https://h.org/$(dataset).py"}]`, []string{"https://h.org/7.py"}},
		{"by job", `modules: [{class: m.M, src: "https://h.org/$eval($(job)//2).py"}]`, []string{"https://h.org/0.py", "https://h.org/1.py"}},
		{"by iteration", `{iterations: 3, modules: [{class: m.M, src: "https://h.org/$(iter).py"}]}`, []string{"https://h.org/0.py", "https://h.org/1.py", "https://h.org/2.py"}},
		{"by a draw", `modules: [{class: m.M, src: "https://h.org/$choice(a,a).py"}]`, []string{"https://h.org/a.py"}},
		{"some jobs only", `modules: [{src: "$eval('https://h.org/m.py' if $(job) == 2 else 'local.py')"}]`, []string{"https://h.org/m.py"}},
		{"by a parameter of the header, as any", `{parameters: {from: "https://h.org"}, modules: [{src: "$(from)/m.py"}]}`, []string{"https://h.org/m.py"}},
		{"programs of the node that differ", `modules: [{src: "run-$(job).sh"}]`, nil},
		{"programs of the node", `modules: [{src: local.py}, {src: /bin/echo}, {class: icecube.X}, {src: "file:///x.py"}]`, nil},
		{"brought by a resource", `{resources: [{remote: "https://h.org/m.py"}], modules: [{src: "https://h.org/m.py"}]}`, nil},
		{"brought by data under its name", `modules: [{src: "gsiftp://h.org/m.py", data: [{type: permanent, movement: input, remote: "gsiftp://other/m.py"}]}]`, nil},
		{"a class", `{classes: [{name: lib, src: "https://h.org/lib.tgz"}], modules: [{src: x}]}`, []string{"https://h.org/lib.tgz"}},
		{"a class of old, a folder", `{classes: [{name: lib, src: "https://h.org/svn/lib", recursive: true}], modules: [{src: x}]}`, []string{"svn+https://h.org/svn/lib"}},
		{"a class with a resource", `{resources: [{remote: "https://h.org/lib.tgz", local: lib.tgz}], classes: [{name: lib, src: "https://h.org/lib.tgz"}], modules: [{src: x}]}`, nil},
		{"a class by its resource", `{classes: [{name: lib, src: "https://h.org/lib.tgz", resource_name: other}], modules: [{src: x}]}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, problems := externalUses(t, c.tray, 4)
			if diff := cmp.Diff(c.want, got); diff != "" || problems.HasErrors() {
				t.Errorf("problems %v, (-want +got):\n%s", problems, diff)
			}
		})
	}
}

func TestExternalsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		tray, want string
		jobs       uint32
	}{
		"too many for a module":     {`modules: [{name: m, src: "https://h.org/$(job).py"}]`, `module "m" of task "t": its address has 1500 different values`, 1500},
		"too many for the dataset":  {`modules: [{src: "https://h.org/$(job).py"}, {name: m, src: "https://h.org/x$(job).py"}]`, `module "m" of task "t": with it the dataset names 1200 different external modules, at most 1000`, 600},
		"known only on the node":    {`modules: [{src: "https://h.org/$environ(HOME).py"}]`, "cannot depend on $system or $environ", 1},
		"a phrase without a value":  {`modules: [{src: "https://h.org/$(nothing).py"}]`, "$(nothing).py stands for nothing here", 1},
		"an address that cannot be": {`modules: [{name: m, src: "svn://h.org/x.py"}]`, `module "m" of task "t": svn://h.org/x.py: svn://`, 1},
		"a password":                {`modules: [{src: "https://ada:secret@h.org/x.py"}]`, "https://…@h.org/x.py: a user or password", 1},
	} {
		_, problems := externalUses(t, c.tray, c.jobs)
		if got := problems.Error(); !problems.HasErrors() || !strings.Contains(got, c.want) || !strings.Contains(got, "6:") {
			t.Errorf("%s: %s, want %q with its place", name, got, c.want)
		}
	}
	// As many as are allowed are.
	got, problems := externalUses(t, `modules: [{src: "https://h.org/$(job).py"}]`, MaxExternals)
	if len(got) != MaxExternals || problems.HasErrors() {
		t.Errorf("%d addresses: %v", len(got), problems)
	}
}

// TestProgramsOfManyJobs: a dataset as large as any may run another program in each job.
func TestProgramsOfManyJobs(t *testing.T) {
	got, problems := externalUses(t, `modules: [{src: "run-$(job).sh"}]`, protocol.MaxJobs)
	if len(got) != 0 || problems.HasErrors() {
		t.Errorf("external modules %v, %v", got, problems)
	}
}

// TestExternalsOfOneJob are those that a pilot asks for.
func TestExternalsOfOneJob(t *testing.T) {
	doc, _ := Parse("x.yaml", []byte("version: 3\ntasks: [{name: t, trays: [{modules: [{src: \"https://h.org/$(job).py\"}]}]}]\n"))
	uses, problems := JobExternals(doc, ExpandInput{Job: 17, JobCount: 5000})
	if problems.HasErrors() || len(uses) != 1 || uses[0].Text != "https://h.org/17.py" {
		t.Errorf("JobExternals = %v, %v", uses, problems)
	}
	task, _ := ExpandTask(doc, ExpandInput{Job: 17, JobCount: 5000}, 0)
	if got := fmt.Sprint(task.Trays[0].Modules[0].Src); got != uses[0].Text {
		t.Errorf("the pilot sees %s", got)
	}
}
