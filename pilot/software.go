package pilot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"floe/cache"
	"floe/pilot/stage"
	"floe/protocol"
	"floe/protocol/steering"
)

// errSoftware: a software environment could not be had or did not verify.
var errSoftware = errors.New("software environment")

// software finds the trees that a tray's projects and classes name. A project is
// the resource whose local name is the project's, or the project's and its class
// or version joined by a dash; one that the document has no resource for is what
// the catalog had when the dataset was submitted. A class is the resource of its
// resource_name. A resource must be a tarball with a SHA-256: it comes through the
// cache. So does a class, or the src of a module, that was fetched when the dataset
// was submitted.
func (a *Attempt) software(ctx context.Context, projects []steering.ExpandedProject, classes []steering.ExpandedClass, resources []steering.ExpandedResource) ([]string, error) {
	var roots []string
	for _, p := range projects {
		r := steering.FindResource(resources, p.ResourceNames()...)
		var root string
		var err error
		if r == nil {
			root, err = a.published(ctx, &p)
		} else if root, err = a.tree(ctx, r); err != nil {
			err = fmt.Errorf("%w: project %s: %w", errSoftware, p.Name, err)
		}
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	for _, c := range classes {
		if c.ResourceName == "" && c.Src == "" {
			continue // named for the record; the environment has it
		}
		name := c.ResourceName
		if name == "" {
			name = c.Name
		}
		var root string
		var err error
		r := steering.FindResource(resources, name)
		pin, pinned := a.pins.Find(c.External())
		switch {
		case r != nil:
			root, err = a.tree(ctx, r)
		case pinned:
			root, err = a.pinnedTree(ctx, pin)
		default:
			return nil, fmt.Errorf("%w: class %s: no resource of the document has the local name %s; give its tarball as a resource with a checksum", errSoftware, c.Name, name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: class %s: %w", errSoftware, c.Name, err)
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// isSoftware tells whether a resource is a tarball that a project or class
// anywhere in the task names, or an image, and so not a file of the working directory.
func (a *Attempt) isSoftware(r *steering.ExpandedResource, projects []steering.ExpandedProject, classes []steering.ExpandedClass) bool {
	if names(r, projects, classes) || names(r, a.task.Projects, a.task.Classes) || a.isImage(r) {
		return true
	}
	for i := range a.task.Trays {
		t := &a.task.Trays[i]
		if names(r, t.Projects, t.Classes) {
			return true
		}
		for j := range t.Modules {
			if names(r, t.Modules[j].Projects, t.Modules[j].Classes) {
				return true
			}
		}
	}
	return false
}

func names(r *steering.ExpandedResource, projects []steering.ExpandedProject, classes []steering.ExpandedClass) bool {
	one := []steering.ExpandedResource{*r}
	for _, p := range projects {
		if steering.FindResource(one, p.ResourceNames()...) != nil {
			return true
		}
	}
	for _, c := range classes {
		if c.ResourceName == "" && c.Src == "" {
			continue
		}
		if steering.FindResource(one, c.Name, c.ResourceName) != nil {
			return true
		}
	}
	return false
}

// tree unpacks a resource through the cache.
func (a *Attempt) tree(ctx context.Context, r *steering.ExpandedResource) (string, error) {
	d, err := protocol.ParseDigest(r.Checksum)
	if err != nil {
		return "", fmt.Errorf("resource %s: checksum: %w", r.Local, err)
	}
	return a.unpacked(ctx, d, a.Mover.Sources(d, r.Remote)...)
}

// unpacked has the tree of a tarball unpacked and keeps it in use until the attempt
// is over. Where the cache has no room, the attempt has it in its own directory.
func (a *Attempt) unpacked(ctx context.Context, d protocol.Digest, from ...cache.Source) (string, error) {
	e, err := a.Cache.Tree(ctx, d, from)
	if errors.Is(err, cache.ErrNoSpace) {
		a.Logger.Warn("cache is full; unpacking past it", "digest", d, "err", err)
		return a.ownTree(ctx, d, from)
	}
	if err != nil {
		return "", err
	}
	a.inUse = append(a.inUse, e)
	return e.Path, nil
}

// ownTree is a tree in the attempt's directory.
func (a *Attempt) ownTree(ctx context.Context, d protocol.Digest, sources []cache.Source) (string, error) {
	dir := filepath.Join(a.Dir, "software", d.Hex())
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // unpacked for an earlier tray
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	// Beside and renamed: what an error leaves is not taken for the tree.
	if err := a.Cache.Unpack(ctx, d, sources, dir+".part"); err != nil {
		return "", err
	}
	return dir, os.Rename(dir+".part", dir)
}

// sound refuses what a payload did in software that went bad meanwhile.
func (a *Attempt) sound() error {
	for _, e := range a.inUse {
		if !e.Intact() {
			return fmt.Errorf("%w: %v was found to be damaged while the task ran from it", errSoftware, e.Digest)
		}
	}
	return nil
}

// resourceInput is a resource that is a plain file, as an input.
func resourceInput(r *steering.ExpandedResource) stage.Input {
	local := r.Local
	if local == "" {
		local = filepath.Base(r.Remote)
	}
	return stage.Input{
		URL: r.Remote, Local: local, Checksum: r.Checksum, Compression: stage.Compression(r.Compression),
		Cached: r.Cache.Or(strings.HasPrefix(r.Checksum, "sha256:")), Optional: r.Transfer == steering.TransferMaybe,
	}
}
