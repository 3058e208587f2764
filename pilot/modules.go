package pilot

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"floe/protocol"
	"floe/protocol/steering"
)

// fetchPins reads what the URLs of external modules stand for. Their code was fetched
// when the dataset was submitted; a job asks nobody but the coordinators for it.
func (a *Attempt) fetchPins(ctx context.Context) error {
	a.pins = &protocol.ModulePins{}
	if a.Lease.Modules.IsZero() {
		return nil
	}
	err := a.readPins(ctx)
	if err != nil {
		return fmt.Errorf("%w: external modules: %w", errFramework, err)
	}
	return nil
}

func (a *Attempt) readPins(ctx context.Context) error {
	r, err := a.Mover.Open(ctx, protocol.BlobURL(a.Lease.Modules))
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, protocol.MaxModulePins+1))
	if err != nil {
		return err
	}
	if protocol.DigestOf(b) != a.Lease.Modules {
		return fmt.Errorf("the list is not the one with digest %v", a.Lease.Modules)
	}
	a.pins, err = protocol.DecodeModulePins(b)
	return err
}

// pinnedTree is where a pinned module is unpacked.
func (a *Attempt) pinnedTree(ctx context.Context, pin *protocol.ModulePin) (string, error) {
	return a.unpacked(ctx, pin.Digest, a.Mover.Source(protocol.BlobURL(pin.Digest)))
}

// placeModules gives modules whose src was fetched at submission the file or folder
// in its place, as a class of their own: so it can be imported from, and is shown to
// the payload.
func (a *Attempt) placeModules(ctx context.Context) error {
	for i := range a.task.Trays {
		for j := range a.task.Trays[i].Modules {
			m := &a.task.Trays[i].Modules[j]
			pin, ok := a.pins.Find(m.Src)
			if !ok {
				continue
			}
			root, err := a.pinnedTree(ctx, pin)
			if err != nil {
				return fmt.Errorf("%w: module %s: %w", errSoftware, pin.Pinned, err)
			}
			m.Classes = append(m.Classes, steering.ExpandedClass{Name: m.Src, Src: m.Src})
			m.Src = filepath.Join(root, filepath.FromSlash(pin.Path))
		}
	}
	return nil
}
