package pilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"floe/cache"
	"floe/protocol"
	"floe/protocol/software"
	"floe/protocol/steering"
)

// errNoBuild: none of the builds that a dataset may use runs on this node. It is no
// fault of the node, the task or the software: they do not go together.
var errNoBuild = errors.New("no build runs here")

// Catalog is where an attempt has metaprojects from that its document gives no
// resource for.
type Catalog struct {
	// Bill gives the bill of software of a digest.
	Bill func(ctx context.Context, d protocol.Digest) (*software.Bill, error)
	// Trust is what the pilot believes, Node what it measured, without cards.
	Trust software.Trust
	Node  software.Node
}

// published unpacks the build of a project that is best on this node, after it was
// found to be what its publisher signed.
func (a *Attempt) published(ctx context.Context, p *steering.ExpandedProject) (string, error) {
	name, version := p.Software()
	if a.Catalog == nil || a.Lease.Software.IsZero() {
		return "", fmt.Errorf("%w: project %s: no resource of the document has the local name %s", errSoftware, name, strings.Join(p.ResourceNames(), " or "))
	}
	bill, err := a.Catalog.Bill(ctx, a.Lease.Software)
	if err != nil {
		return "", fmt.Errorf("%w: bill of software: %w", errFramework, err)
	}
	if version == "" {
		version = bill.Only(name)
	}
	builds, err := bill.Version(&a.Catalog.Trust, name, version)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errSoftware, err)
	}
	if len(builds) == 0 {
		return "", fmt.Errorf("%w: project %s %s: not among the software that the dataset was submitted with", errSoftware, name, version)
	}
	node := a.Catalog.Node
	node.GPUs = a.GPUs
	best, why := software.Choose(builds, &node)
	if best == nil {
		return "", fmt.Errorf("%w: project %s %s: %s", errNoBuild, name, version, strings.Join(why, "; "))
	}
	a.Logger.Info("software chosen", "name", best.Build.ID().String(), "digest", best.Build.Digest)
	address := best.URL
	if address == "" {
		address = protocol.BlobURL(best.Build.Digest)
	}
	root, err := a.unpacked(ctx, best.Build.Digest, bounded(a.Mover.Source(address), best.Build.Size))
	if err != nil {
		return "", fmt.Errorf("%w: project %v: %w", errSoftware, best.Build.ID(), err)
	}
	return root, nil
}

// bounded is a source that gives no more than a file is known to have: one that does
// not end would fill the disk before its digest is known.
func bounded(s cache.Source, size protocol.ByteSize) cache.Source {
	open := s.Open
	s.Open = func(ctx context.Context) (io.ReadCloser, error) {
		in, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return &boundedReader{in, int64(size)}, nil
	}
	return s
}

type boundedReader struct {
	io.ReadCloser
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one byte more shows what is too long
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: more bytes than were published", cache.ErrMismatch)
	}
	return n, err
}
