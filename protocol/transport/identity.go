package transport

import (
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"floe/protocol"
)

// Kind is what sort of party speaks.
type Kind uint8

// The kinds of callers.
const (
	Anonymous   Kind = iota + 1 // nobody known: no certificate
	User                        // a person, named by a token that the handler checked
	Site                        // a glidein pass or relay
	Pilot                       // a pilot
	Coordinator                 // another coordinator
)

var kinds = [...]string{"", "anonymous", "user", "site", "pilot", "coordinator"}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kinds) {
		return fmt.Sprintf("invalid kind %d", uint8(k))
	}
	return kinds[k]
}

// Identity is what a certificate of a cluster says about its holder.
type Identity struct {
	Cluster string
	Kind    Kind             // Site, Pilot or Coordinator
	Site    protocol.SiteID  // of a site or pilot
	Pilot   protocol.PilotID // of a pilot
	Node    protocol.NodeID  // of a coordinator
}

// MaxClusterName is the longest name of a cluster: with the longest door before
// it, it is still one DNS name with room for a domain.
const MaxClusterName = 63

// CheckCluster refuses a name that cannot stand in a ClientHello: clusters are
// lower-case DNS names, such as icecube or prod.example.org.
func CheckCluster(name string) error {
	if name == "" || len(name) > MaxClusterName {
		return fmt.Errorf("cluster %.70q: want 1 to %d bytes", name, MaxClusterName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("cluster %q: want words of lower-case letters, digits and inner hyphens, joined by dots", name)
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return fmt.Errorf("cluster %q: character %q; use lower-case letters, digits and hyphens", name, c)
			}
		}
	}
	return nil
}

// Check refuses an identity that has no text form.
func (id Identity) Check() error {
	if err := CheckCluster(id.Cluster); err != nil {
		return err
	}
	switch id.Kind {
	case Site:
		return protocol.CheckName("site", string(id.Site))
	case Pilot:
		if err := protocol.CheckName("site", string(id.Site)); err != nil {
			return err
		}
		return protocol.CheckName("pilot", string(id.Pilot))
	case Coordinator:
		return protocol.CheckName("node", string(id.Node))
	}
	return fmt.Errorf("identity: %v has no certificate", id.Kind)
}

// URL is the identity as it stands in a certificate.
func (id Identity) URL() *url.URL {
	u := &url.URL{Scheme: "spiffe", Host: id.Cluster}
	switch id.Kind {
	case Site:
		u.Path = "/site/" + string(id.Site)
	case Pilot:
		u.Path = "/site/" + string(id.Site) + "/pilot/" + string(id.Pilot)
	case Coordinator:
		u.Path = "/coordinator/" + string(id.Node)
	}
	return u
}

func (id Identity) String() string { return id.URL().String() }

// ParseIdentity reads the form that String writes and no other: names are never
// escaped, so nothing but the text itself is accepted.
func ParseIdentity(text string) (Identity, error) {
	rest, ok := strings.CutPrefix(text, "spiffe://")
	cluster, path, found := strings.Cut(rest, "/")
	if !ok || !found {
		return Identity{}, fmt.Errorf("identity %.80q: want spiffe://<cluster>/<role>/<name>", text)
	}
	id := Identity{Cluster: cluster}
	switch p := strings.Split(path, "/"); {
	case len(p) == 2 && p[0] == "site":
		id.Kind, id.Site = Site, protocol.SiteID(p[1])
	case len(p) == 4 && p[0] == "site" && p[2] == "pilot":
		id.Kind, id.Site, id.Pilot = Pilot, protocol.SiteID(p[1]), protocol.PilotID(p[3])
	case len(p) == 2 && p[0] == "coordinator":
		id.Kind, id.Node = Coordinator, protocol.NodeID(p[1])
	default:
		return Identity{}, fmt.Errorf("identity %.80q: no such role; want site/…, site/…/pilot/… or coordinator/…", text)
	}
	if err := id.Check(); err != nil {
		return Identity{}, fmt.Errorf("identity %.80q: %w", text, err)
	}
	return id, nil
}

// IdentityOf reads the identity of a verified certificate, which must carry
// exactly one URI.
func IdentityOf(leaf *x509.Certificate) (Identity, error) {
	if len(leaf.URIs) != 1 {
		return Identity{}, fmt.Errorf("certificate %q: %d URIs, want one", leaf.Subject.CommonName, len(leaf.URIs))
	}
	return ParseIdentity(leaf.URIs[0].String())
}

// Fingerprint is the SHA-256 of a certificate's public key: it names the key and
// outlives renewals, which keep the key.
func Fingerprint(cert *x509.Certificate) protocol.Digest {
	return protocol.DigestOf(cert.RawSubjectPublicKeyInfo)
}

// spkiOfEd25519 is what an Ed25519 key is written behind in a certificate. Source:
// RFC 8410, section 10.1.
const spkiOfEd25519 = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

// KeyFingerprint is Fingerprint of a certificate for the key; zero where the key is
// none.
func KeyFingerprint(key ed25519.PublicKey) protocol.Digest {
	if len(key) != ed25519.PublicKeySize {
		return protocol.Digest{}
	}
	var spki [len(spkiOfEd25519) + ed25519.PublicKeySize]byte
	copy(spki[copy(spki[:], spkiOfEd25519):], key)
	return protocol.DigestOf(spki[:])
}
