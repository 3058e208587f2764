package pilot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"floe/pilot/hardware"
	"floe/pilot/payload"
	"floe/protocol"
	"floe/protocol/steering"
)

// imageTags are all tags that speak of images.
var imageTags = []string{protocol.ImageTreeTag, protocol.ImageSIFTag}

// findImages finds out how this node runs images, and has the pilot advertise that,
// whatever the site's tags promise.
func (p *Pilot) findImages(ctx context.Context, o *hardware.Options) {
	o.Tags = slices.DeleteFunc(slices.Clone(o.Tags), func(tag string) bool { return slices.Contains(imageTags, tag) })
	if p.config.Isolation == 0 {
		return // as it is, see Config
	}
	images, said := payload.FindImages(ctx, p.scratch, p.isolation)
	for _, what := range said {
		p.logger.Info("images were tried", "state", what)
	}
	p.images = images
	o.Tags = append(o.Tags, images.Tags()...)
	for _, tag := range p.config.Tags {
		if slices.Contains(imageTags, tag) && !slices.Contains(o.Tags, tag) {
			p.logger.Warn("the site says that its nodes run images which this one does not", "state", tag)
		}
	}
}

// container finds the image of a tray: on the node, or as a project is found, through
// the cache. It returns nil for a tray that names none.
func (a *Attempt) container(ctx context.Context, t *steering.ExpandedTray) (*payload.Image, error) {
	image, err := steering.ParseImage(t.Container)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errDocument, err)
	case image == nil:
		return nil, nil
	case image.Path != "":
		return &payload.Image{Path: image.Path, Name: t.Container}, nil
	}
	r := image.FindResource(slices.Concat(t.Resources, a.task.Resources))
	key := t.Container
	if r != nil {
		key += " " + r.Checksum
	}
	if found := a.containers[key]; found != nil {
		return found, nil
	}
	path := ""
	switch {
	case r == nil:
		path, err = a.published(ctx, &image.Project)
	case r.IsSIF():
		path, err = a.imageFile(ctx, r)
	default:
		if path, err = a.tree(ctx, r); err != nil {
			err = fmt.Errorf("%w: container %s: %w", errSoftware, t.Container, err)
		}
	}
	if err != nil {
		return nil, err
	}
	found := &payload.Image{Path: single(path), Name: t.Container}
	if a.containers == nil {
		a.containers = make(map[string]*payload.Image)
	}
	a.containers[key] = found
	return found, nil
}

// imageFile has an image that is a single file, and keeps it in use until the attempt
// is over. It is there whole, or not at all.
func (a *Attempt) imageFile(ctx context.Context, r *steering.ExpandedResource) (string, error) {
	d, err := protocol.ParseDigest(r.Checksum)
	if err != nil {
		return "", fmt.Errorf("%w: resource %s: checksum: %w", errSoftware, r.Local, err)
	}
	e, err := a.Cache.Blob(ctx, d, a.Mover.Sources(d, r.Remote))
	if err != nil {
		return "", fmt.Errorf("%w: container %s: %w", errSoftware, r.Local, err)
	}
	a.inUse = append(a.inUse, e)
	return e.Path, nil
}

// single is the one file that a published tree holds where that is an image, or else
// the tree.
func single(tree string) string {
	entries, err := os.ReadDir(tree)
	if err == nil && len(entries) == 1 && entries[0].Type().IsRegular() && strings.HasSuffix(entries[0].Name(), ".sif") {
		return filepath.Join(tree, entries[0].Name())
	}
	return tree
}

// isImage tells whether a resource is an image that a tray runs in.
func (a *Attempt) isImage(r *steering.ExpandedResource) bool {
	one := []steering.ExpandedResource{*r}
	return slices.ContainsFunc(a.task.Trays, func(t steering.ExpandedTray) bool {
		image, err := steering.ParseImage(t.Container)
		return err == nil && image != nil && image.FindResource(one) != nil
	})
}

// findImages finds out how this machine runs images, if a task names one, with a
// directory below scratch.
func (r *localRun) findImages(ctx context.Context, scratch string) {
	named := func(t steering.ExpandedTray) bool { return t.Container != "" }
	if !slices.ContainsFunc(r.expanded.Tasks, func(t steering.ExpandedTask) bool { return slices.ContainsFunc(t.Trays, named) }) {
		return
	}
	isolation, err := payload.FindIsolation(scratch, payload.Places{})
	if err != nil {
		r.Logger.Warn("unpacked images need apptainer or singularity here", "err", err)
	}
	// The payload itself is not isolated: the program makes all namespaces there are.
	found, said := payload.FindImages(ctx, scratch, nil)
	switch {
	case found == nil && isolation == nil:
		r.Logger.Warn("no image runs here", "err", strings.Join(said, "; "))
		return
	case found == nil:
		found = &payload.Images{}
	}
	found.Own = isolation
	r.images = found
}
