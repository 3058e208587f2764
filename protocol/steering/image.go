package steering

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"floe/protocol"
	"floe/protocol/steering/expr"
)

// Image is the root file system that a container names: a path on the node, or what
// is found as a project is, a resource of the document or a build of the catalog.
type Image struct {
	Path    string
	Project ExpandedProject
}

// sifEnding ends the name of an image that is a single file.
const sifEnding = ".sif"

// ParseImage reads the container of a task or tray: an absolute path, such as
// /cvmfs/REPO/DIR, or NAME or NAME/VERSION. Empty is no image.
func ParseImage(text string) (*Image, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, nil
	case strings.HasPrefix(text, "/"):
		if path.Clean(text) != text || text == "/" {
			return nil, fmt.Errorf("container %q: want the plain path of an image, such as %q", text, path.Join(text, "el9"))
		}
		return &Image{Path: text}, nil
	case strings.Contains(text, ":"):
		return nil, fmt.Errorf("container %q: what an address gives may change: publish the image, or give its file as a resource with a SHA-256, and name that", text)
	}
	name, version, versioned := strings.Cut(text, "/")
	if name == "" || versioned && version == "" || strings.ContainsAny(version, "/ ") || strings.Contains(name, " ") {
		return nil, fmt.Errorf("container %q: want an absolute path, or NAME or NAME/VERSION of published software or of a resource", text)
	}
	return &Image{Project: ExpandedProject{Name: name, Version: version}}, nil
}

// FindResource is the resource of the document that has the image, or nil.
func (i *Image) FindResource(scope []ExpandedResource) *ExpandedResource {
	if i.Path != "" {
		return nil
	}
	return FindResource(scope, append(i.Project.ResourceNames(), i.Project.Name+sifEnding)...)
}

// IsSIF tells whether a resource is an image in a single file, which a tarball is not.
func (r *ExpandedResource) IsSIF() bool {
	return strings.HasSuffix(r.Local, sifEnding) || strings.HasSuffix(r.Remote, sifEnding)
}

// isSIF tells whether an image is a single file, as far as its name says.
func (i *Image) isSIF(scope []ExpandedResource) bool {
	if r := i.FindResource(scope); r != nil {
		return r.IsSIF()
	}
	return strings.HasSuffix(i.Path, sifEnding)
}

// imageUse is a container that a task, or the first iteration of a tray, names.
type imageUse struct {
	text     string
	position Position
	varies   bool
	scope    []ExpandedResource
}

// images lists the containers of a task. The scope is the task's.
func (e *expansion) images(index int) (uses []imageUse) {
	t := &e.doc.Tasks[index]
	place := expr.Place{Task: t.Name}
	add := func(x Expression, place expr.Place, scope []ExpandedResource) {
		e.sources = 0
		if text := e.text(x, below(place, "container")); text != "" {
			uses = append(uses, imageUse{text, x.Position, e.varies(), scope})
		}
	}
	scope := append(e.files(headerPlace("files"), e.doc.Steering.Resources, nil, nil, nil).Resources, e.files(place, t.Resources, nil, nil, nil).Resources...)
	add(t.Container, place, scope)
	for k := range t.Trays {
		tray := &t.Trays[k]
		inTray := e.scope.enterTray(tray, k, 0)
		add(tray.Container, inTray, append(e.files(inTray, tray.Resources, nil, nil, nil).Resources, scope...))
		e.scope.leave()
	}
	return uses
}

// requireImages makes a task go only where its images run. Job 0 and first iterations
// stand for all, as for repositories.
func (e *expansion) requireImages(index int, planned *PlannedTask) {
	sources := e.sources
	defer func() { e.sources = sources }()
	uses := e.images(index)
	single := false
	for i := range uses {
		image, err := ParseImage(uses[i].text)
		if err != nil {
			e.errorf(uses[i].position, "task %q: %v", planned.Name, err)
			continue
		}
		single = single || image != nil && image.isSIF(uses[i].scope)
	}
	if len(uses) == 0 {
		return
	}
	for i := range planned.Classes {
		requireImage(&planned.Classes[i].Requirements, single)
	}
}

// requireImage adds what images need of a node. A card's driver comes from the node,
// and only the programs for containers bring it into an image.
func requireImage(r *protocol.Requirements, single bool) {
	tag := protocol.ImageTreeTag
	if single || r.GPUs > 0 {
		tag = protocol.ImageSIFTag
	}
	if !slices.Contains(r.Tags, tag) {
		r.Tags = append(slices.Clone(r.Tags), tag)
	}
	for i := range r.Alternatives {
		requireImage(&r.Alternatives[i], single)
	}
}
