package steering

import (
	"strings"

	"floe/protocol/steering/expr"
)

// ProjectUse is a metaproject that a task, tray or module names, or a container that
// is found as one.
type ProjectUse struct {
	// Task indexes the document's tasks.
	Task     int
	Position Position
	Project  ExpandedProject
	// Resource is the document's that has it, or nil.
	Resource *ExpandedResource
	// Varies says that the name or the version depends on the job, the iteration, a
	// draw or the node; Project is then that of the first.
	Varies bool
}

// Projects lists the metaprojects that the tasks of a document name.
func Projects(doc *Document, in CompileInput) []ProjectUse {
	e := newExpansion(doc, ExpandInput{Dataset: in.Dataset, JobCount: in.JobCount, Seed: in.Seed, Options: in.Options})
	e.silent = true // what cannot be resolved is told by Compile
	var uses []ProjectUse
	for i := range doc.Tasks {
		t := &doc.Tasks[i]
		e.scope.enterTask(i)
		place := expr.Place{Task: t.Name}
		scope := append(e.files(headerPlace("files"), doc.Steering.Resources, nil, nil, nil).Resources, e.files(place, t.Resources, nil, nil, nil).Resources...)
		uses = append(uses, e.projects(i, place, t.Projects, scope)...)
		uses = append(uses, e.imageProjects(i)...)
		for k := range t.Trays {
			tray := &t.Trays[k]
			inTray := e.scope.enterTray(tray, k, 0)
			scope := append(e.files(inTray, tray.Resources, nil, nil, nil).Resources, scope...)
			uses = append(uses, e.projects(i, inTray, tray.Projects, scope)...)
			for n := range tray.Modules {
				m, inModule := &tray.Modules[n], below(inTray, "modules", n)
				e.scope.enter(m.Parameters, m.Data, inModule)
				scope := append(e.files(inModule, m.Resources, nil, nil, nil).Resources, scope...)
				uses = append(uses, e.projects(i, inModule, m.Projects, scope)...)
				e.scope.leave()
			}
			e.scope.leave()
		}
		e.scope.enterHeader()
	}
	return uses
}

func (e *expansion) projects(task int, place expr.Place, projects []Project, scope []ExpandedResource) []ProjectUse {
	var uses []ProjectUse
	for i := range projects {
		e.sources = 0
		one := e.files(place, nil, nil, nil, projects[i:i+1]).Projects[0]
		uses = append(uses, ProjectUse{
			Task: task, Position: projects[i].Position, Project: one, Varies: e.varies(),
			Resource: FindResource(scope, one.ResourceNames()...),
		})
	}
	return uses
}

// varies tells whether what was last looked at is not the same for all jobs,
// iterations, draws and nodes.
func (e *expansion) varies() bool {
	for _, s := range []expr.Sources{expr.SourceJob, expr.SourceJobCount, expr.SourceIteration, expr.SourceNode, expr.SourceChoice} {
		if e.sources.Has(s) {
			return true
		}
	}
	return false
}

// imageProjects are the images of a task that are not on the node: they are found as
// projects are.
func (e *expansion) imageProjects(task int) (uses []ProjectUse) {
	for _, u := range e.images(task) {
		image, err := ParseImage(u.text)
		if err != nil || image == nil || image.Path != "" {
			continue // Compile tells of the error
		}
		uses = append(uses, ProjectUse{Task: task, Position: u.position, Project: image.Project, Varies: u.varies, Resource: image.FindResource(u.scope)})
	}
	return uses
}

// ResourceNames are the local names that a resource must have one of to be this
// project: its name, or the name and its class or version joined by a dash.
func (p *ExpandedProject) ResourceNames() []string {
	names := []string{p.Name}
	for _, v := range []string{p.Class, p.Version} {
		if v != "" {
			names = append(names, p.Name+"-"+v)
		}
	}
	return names
}

// Software is how the catalog knows a project. Without a version of its own its
// class is the version; one without a name has its class for a name.
func (p *ExpandedProject) Software() (name, version string) {
	name, version = p.Name, p.Version
	switch {
	case name == "":
		name = p.Class
	case version == "":
		version = p.Class
	}
	return name, version
}

// FindResource returns the first resource whose local name, with or without the
// ending of a tarball, is one of the names.
func FindResource(resources []ExpandedResource, names ...string) *ExpandedResource {
	for i := range resources {
		for _, n := range names {
			if local := resources[i].Local; n != "" && (local == n || trimArchive(local) == n) {
				return &resources[i]
			}
		}
	}
	return nil
}

// trimArchive cuts the suffix of a tarball.
func trimArchive(name string) string {
	for _, s := range []string{".tar.zst", ".tar.gz", ".tgz", ".tar"} {
		if t, ok := strings.CutSuffix(name, s); ok {
			return t
		}
	}
	return name
}
