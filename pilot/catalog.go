package pilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"floe/cache"
	"floe/protocol"
	"floe/protocol/software"
	"floe/protocol/steering"
)

// Catalog is where an attempt has metaprojects from that its document gives no
// resource for.
type Catalog struct {
	// Bill gives the bill of software of a digest.
	Bill func(ctx context.Context, d protocol.Digest) (*software.Bill, error)
	// Proof gives a version as the catalog has it now, with what proves it.
	Proof func(ctx context.Context, name, version string) (*protocol.SoftwareProof, error)
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
	if errors.Is(err, software.ErrUntrusted) {
		builds, err = a.Catalog.provenAnew(ctx, bill, name, version, err)
	}
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
		// No fault of the node, the task or the software: they do not go together, and
		// another host is better.
		return "", fmt.Errorf("%w: project %s %s: no build runs here: %s", errSoftware, name, version, strings.Join(why, "; "))
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

// provenAnew verifies the builds of a bill by what the catalog says of them now: a
// record that was restored into another cluster has bills of the former root. The
// bytes must be the same. Where that fails, too, the error says why both did.
func (c *Catalog) provenAnew(ctx context.Context, bill *software.Bill, name, version string, why error) ([]protocol.SignedBuild, error) {
	proof, err := c.Proof(ctx, name, version)
	if err != nil {
		return nil, fmt.Errorf("%w; and asked again: %w", why, err)
	}
	var builds []protocol.SignedBuild
	for i := range bill.Builds {
		old := &bill.Builds[i].Build
		if old.Name != name || old.Version != version {
			continue
		}
		k := slices.IndexFunc(proof.Software, func(x protocol.Software) bool {
			return x.Build.ID() == old.ID() && x.Build.Digest == old.Digest && x.Build.Size == old.Size
		})
		if k < 0 {
			return nil, why
		}
		if _, err := c.Trust.Proven(proof, &proof.Software[k].SignedBuild); err != nil {
			return nil, fmt.Errorf("%w; and as the catalog has it now: %w", why, err)
		}
		builds = append(builds, proof.Software[k].SignedBuild)
	}
	return builds, nil
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
