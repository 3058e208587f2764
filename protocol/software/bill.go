package software

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"floe/protocol"
)

// Bill lists the builds that the tasks of a dataset may use, with all that it takes
// to verify them. It is fixed at submission, kept as a file under its digest, and
// read by every attempt.
type Bill struct {
	// Root is the cluster's root certificate in DER, Certificates are those of the
	// builds' publishers, sorted.
	Root         []byte                 `cbor:"1,keyasint"`
	Certificates [][]byte               `cbor:"2,keyasint"`
	Builds       []protocol.SignedBuild `cbor:"3,keyasint"`
}

// Limits of a bill: what one dataset can sensibly use.
const (
	MaxBuilds    = 1024
	MaxBillBytes = 4 << 20
)

// Sort puts the builds in the order of their names, and certificates in that of
// their bytes.
func (b *Bill) Sort() {
	slices.SortFunc(b.Certificates, slices.Compare[[]byte])
	slices.SortFunc(b.Builds, func(x, y protocol.SignedBuild) int {
		p, q := x.Build.ID(), y.Build.ID()
		return cmp.Or(cmp.Compare(p.Name, q.Name), cmp.Compare(p.Version, q.Version), cmp.Compare(p.Platform, q.Platform))
	})
}

// Encode writes a bill; equal builds give equal bytes, whatever their order.
func (b *Bill) Encode() ([]byte, error) {
	b.Sort()
	if len(b.Builds) > MaxBuilds {
		return nil, fmt.Errorf("software of a dataset: %d builds, at most %d", len(b.Builds), MaxBuilds)
	}
	return protocol.Marshal(b)
}

// DecodeBill reads a bill. It verifies nothing.
func DecodeBill(text []byte) (*Bill, error) {
	if len(text) > MaxBillBytes {
		return nil, fmt.Errorf("bill of software: %d bytes, at most %d", len(text), MaxBillBytes)
	}
	b := new(Bill)
	if err := protocol.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("bill of software: %w", err)
	}
	if len(b.Builds) > MaxBuilds || len(b.Certificates) > MaxBuilds {
		return nil, fmt.Errorf("bill of software: %d builds, at most %d", len(b.Builds), MaxBuilds)
	}
	for i := range b.Builds {
		if err := b.Builds[i].Check(); err != nil {
			return nil, fmt.Errorf("bill of software: %w", err)
		}
	}
	return b, nil
}

// Version returns the verified builds of one version, without those of publishers
// whom the site does not list, unless there are no others. Where another does not
// verify, none is returned: something is wrong with the bill.
func (b *Bill) Version(t *Trust, name, version string) (builds []protocol.SignedBuild, err error) {
	var unlisted error
	for i := range b.Builds {
		x := &b.Builds[i]
		if x.Build.Name != name || x.Build.Version != version {
			continue
		}
		switch err := b.verify(t, x); {
		case errors.Is(err, errUnlisted):
			unlisted = err
		case err != nil:
			return nil, err
		default:
			builds = append(builds, *x)
		}
	}
	if len(builds) == 0 {
		return nil, unlisted
	}
	return builds, nil
}

// Verified are all builds of the bill, if every one of them verifies.
func (b *Bill) Verified(t *Trust) ([]protocol.SignedBuild, error) {
	for i := range b.Builds {
		if err := b.verify(t, &b.Builds[i]); err != nil {
			return nil, err
		}
	}
	return b.Builds, nil
}

// Only is the one version that the bill has of some software; empty where it has
// none or several.
func (b *Bill) Only(name string) (version string) {
	for i := range b.Builds {
		switch x := &b.Builds[i].Build; {
		case x.Name != name || x.Version == version:
		case version == "":
			version = x.Version
		default:
			return ""
		}
	}
	return version
}

func (b *Bill) verify(t *Trust, x *protocol.SignedBuild) error {
	_, err := t.prove(b.Root, b.Certificates, x)
	return err
}

// Proven verifies a build of a version as coordinators show it.
func (t *Trust) Proven(proof *protocol.SoftwareProof, x *protocol.SignedBuild) (*Certificate, error) {
	var certificates [][]byte
	for i := range proof.Publishers {
		certificates = append(certificates, proof.Publishers[i].Certificate)
	}
	return t.prove(proof.Root, certificates, x)
}

// prove finds the certificate by which a build verifies.
func (t *Trust) prove(root []byte, certificates [][]byte, x *protocol.SignedBuild) (*Certificate, error) {
	reason := untrusted("%v: no certificate of the key %v", x.Build.ID(), x.Key)
	for _, der := range certificates {
		c, err := t.Certificate(root, der)
		if err == nil && !slices.Equal(c.Key, x.Key) {
			continue
		}
		if err == nil {
			err = t.Verify(x, c)
		}
		if err == nil {
			return c, nil
		}
		reason = err // unless another certificate proves it
	}
	return nil, reason
}
