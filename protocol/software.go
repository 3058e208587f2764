package protocol

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// MaxSoftwareBytes is the largest build that coordinators keep themselves; a larger
// one has a URL. Source: coordinator/blob, the largest durable file.
const MaxSoftwareBytes = 4 * GB

// PilotSoftware is the name under which the pilot itself is published.
const PilotSoftware = "floe-pilot"

// SoftwareID names one build of the catalog.
type SoftwareID struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Platform string `json:"platform"`
}

func (id SoftwareID) String() string {
	return id.Name + " " + id.Version + " for " + id.Platform
}

// Check refuses an id with a part that has no such form.
func (id SoftwareID) Check() error {
	if err := CheckName("software", id.Name); err != nil {
		return err
	}
	if err := CheckName("version", id.Version); err != nil {
		return err
	}
	_, err := ParsePlatform(id.Platform)
	return err
}

// Build says what a publisher made: which bytes are which software. It is what the
// publisher signs.
type Build struct {
	Cluster   string `cbor:"1,keyasint" json:"cluster" doc:"the only cluster that it is published in"`
	Name      string `cbor:"2,keyasint" json:"name"`
	Version   string `cbor:"3,keyasint" json:"version"`
	Platform  string `cbor:"4,keyasint" json:"platform"`
	Publisher UserID `cbor:"5,keyasint" json:"publisher"`
	// Digest and Size are the tarball's.
	Digest Digest   `cbor:"6,keyasint" json:"digest"`
	Size   ByteSize `cbor:"7,keyasint" json:"size"`
	// Manifest lists the files of the tarball (cache/pack).
	Manifest Digest   `cbor:"8,keyasint" json:"manifest"`
	Files    uint32   `cbor:"9,keyasint" json:"files"`
	Unpacked ByteSize `cbor:"10,keyasint" json:"unpacked" doc:"bytes of all files"`
}

// ID is what the build is known by.
func (b *Build) ID() SoftwareID { return SoftwareID{b.Name, b.Version, b.Platform} }

// SignedBuild is a build as the catalog holds it.
type SignedBuild struct {
	Build     Build        `cbor:"1,keyasint" json:"build"`
	Key       PublisherKey `cbor:"2,keyasint" json:"key"`
	Signature []byte       `cbor:"3,keyasint" json:"signature" doc:"Ed25519, over \"floe software 1\\n\" and the build in CBOR"`
	// URL is where the tarball is; empty is the coordinators' blob store. It is not
	// signed: the digest says which bytes it must give.
	URL string `cbor:"4,keyasint,omitempty" json:"url,omitempty" maxLength:"2048"`
}

// Check refuses what no catalog can hold. It does not look at the signature.
func (b *SignedBuild) Check() error {
	x := &b.Build
	if err := x.ID().Check(); err != nil {
		return err
	}
	if err := CheckName("publisher", string(x.Publisher)); err != nil {
		return err
	}
	switch {
	case len(b.Key) != ed25519.PublicKeySize || len(b.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("%v: key of %d bytes and signature of %d, want %d and %d", x.ID(), len(b.Key), len(b.Signature), ed25519.PublicKeySize, ed25519.SignatureSize)
	case x.Digest.IsZero() || x.Manifest.IsZero() || x.Size <= 0:
		return fmt.Errorf("%v: digest, manifest or size is missing", x.ID())
	case x.Size > MaxByteSize || x.Unpacked < 0 || x.Unpacked > MaxByteSize:
		return fmt.Errorf("%v: size out of range", x.ID())
	case b.URL == "" && x.Size > MaxSoftwareBytes:
		return fmt.Errorf("%v: %v, of which coordinators keep at most %v; put it into a storage area and give its URL", x.ID(), x.Size, MaxSoftwareBytes)
	case len(b.URL) > MaxURL:
		return fmt.Errorf("%v: URL longer than %d bytes", x.ID(), MaxURL)
	}
	if b.URL != "" {
		if u, err := url.Parse(b.URL); err != nil || u.Scheme == "" || u.User != nil {
			return fmt.Errorf("%v: URL %.80q: want an absolute one without user and password", x.ID(), b.URL)
		}
	}
	return nil
}

// PublisherKey is the public half of the Ed25519 key that a person signs builds with.
type PublisherKey []byte

const publisherKeyPrefix = "ed25519:"

// String writes the key as ed25519: and base64.
func (k PublisherKey) String() string {
	return publisherKeyPrefix + base64.RawURLEncoding.EncodeToString(k)
}

// MarshalText writes String's form.
func (k PublisherKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads String's form.
func (k *PublisherKey) UnmarshalText(text []byte) error {
	b, found := strings.CutPrefix(string(text), publisherKeyPrefix)
	key, err := base64.RawURLEncoding.Strict().DecodeString(b)
	if !found || err != nil || len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("publisher's key %.60q: want %s and 43 letters of base64, as floe software key shows it", text, publisherKeyPrefix)
	}
	*k = key
	return nil
}

// Publisher is a key that the cluster's root has certified for a person.
type Publisher struct {
	User UserID       `json:"user"`
	Key  PublisherKey `json:"key"`
	// Certificate is in DER, signed by the root itself.
	Certificate []byte `json:"certificate"`
	Added       int64  `json:"added" doc:"unix milliseconds"`
	Revoked     int64  `json:"revoked,omitempty" doc:"unix milliseconds; 0 while it is good"`
}

// PublisherList answers GET /v1/publishers.
type PublisherList struct {
	Publishers []Publisher `json:"publishers"`
}

// PutPublisherRequest is POST /v1/publishers: a certified key becomes known, or a
// known one is revoked.
type PutPublisherRequest struct {
	Certificate []byte       `json:"certificate,omitempty" doc:"DER, by the cluster's root; to make a key known"`
	Revoke      PublisherKey `json:"revoke,omitempty" doc:"a known key, to revoke it"`
	Retire      bool         `json:"retire,omitempty" doc:"with revoke: retire what it signed, too"`
	Reason      string       `json:"reason,omitempty" maxLength:"4096"`
}

// PublishRequest is POST /v1/software. Tarball and manifest are in the blob store
// by then; with a URL only the manifest.
type PublishRequest struct {
	SignedBuild
	Group  GroupID `json:"group,omitempty" maxLength:"128" doc:"of a name that is new: whose members may publish under it, too"`
	Reason string  `json:"reason,omitempty" maxLength:"4096"`
}

// Software is one build of the catalog.
type Software struct {
	SignedBuild
	Group     GroupID `json:"group,omitempty"`
	Published int64   `json:"published" doc:"unix milliseconds"`
	Retired   int64   `json:"retired,omitempty" doc:"unix milliseconds; 0 while it is active"`
}

// PublishReply answers a PublishRequest.
type PublishReply struct {
	Software
	// Before says that the same bytes had been published under the same names.
	Before bool `json:"before,omitempty"`
}

// SoftwarePage is a page of the catalog, in order of name, version and platform.
type SoftwarePage struct {
	Software []Software `json:"software"`
	Next     string     `json:"next,omitempty"`
}

// SoftwareProof is one version with all that it takes to verify it.
type SoftwareProof struct {
	Software   []Software  `json:"software"`
	Publishers []Publisher `json:"publishers" doc:"of its builds"`
	Root       []byte      `json:"root" doc:"the cluster's root certificate, DER"`
}

// SoftwareAction is POST /v1/software/{name}/{version}/actions.
type SoftwareAction struct {
	Action   string `json:"action" enum:"retire,restore"`
	Platform string `json:"platform,omitempty" maxLength:"128" doc:"one build; without it all"`
	Reason   string `json:"reason,omitempty" maxLength:"4096"`
}
