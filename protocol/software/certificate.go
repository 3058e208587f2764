package software

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"floe/protocol"
)

// ErrUntrusted is in the chain of every error that says that something is not
// what a publisher of the cluster made.
var ErrUntrusted = errors.New("not trusted")

// errUnlisted: it is signed by a publisher of the cluster whom the site does not list.
var errUnlisted = fmt.Errorf("%w: signed by a publisher whom this site does not list", ErrUntrusted)

func untrusted(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUntrusted, fmt.Errorf(format, args...))
}

// CertificateLife is how long a publisher may publish by one certificate. What was
// published stays good.
const CertificateLife = 2 * 366 * 24 * time.Hour

// clockSkew is how far behind the clock may be where a certificate is looked at.
const clockSkew = 10 * time.Minute

// Certify has the cluster's root say that a key is a person's. It needs the root's
// key, which lies where the cluster was made and nowhere else.
func Certify(root *x509.Certificate, rootKey crypto.Signer, cluster string, user protocol.UserID, key protocol.PublisherKey) ([]byte, error) {
	if err := protocol.CheckName("publisher", string(user)); err != nil {
		return nil, err
	}
	if len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("publisher's key of %d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // documented never to fail
	serial[0] &= 0x7f
	now := time.Now()
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: string(user)}, URIs: []*url.URL{publisherURL(cluster, user)},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(CertificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}, root, ed25519.PublicKey(key), rootKey)
}

func publisherURL(cluster string, user protocol.UserID) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: cluster, Path: "/publisher/" + string(user)}
}

// Certificate is a publisher's certificate that was found to be the root's.
type Certificate struct {
	User   protocol.UserID
	Key    protocol.PublisherKey
	Leaf   *x509.Certificate
	Bytes  []byte
	issuer string // the cluster
}

// Trust is what somebody believes.
type Trust struct {
	Cluster string
	// Pin is the digest of the root's public key, as tokens carry it.
	Pin protocol.Digest
	// Publishers are the only keys to trust; empty is all that the root certified.
	Publishers []protocol.PublisherKey
}

// Certificate reads a publisher's certificate, which must be signed by the root
// that the pin names. Dates are not looked at; see Certificate.Good.
func (t *Trust) Certificate(root, der []byte) (*Certificate, error) {
	authority, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, untrusted("root certificate: %w", err)
	}
	if got := protocol.DigestOf(authority.RawSubjectPublicKeyInfo); got != t.Pin {
		return nil, untrusted("root certificate is of the key %v, want %v", got, t.Pin)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, untrusted("publisher's certificate: %w", err)
	}
	if err := leaf.CheckSignatureFrom(authority); err != nil {
		return nil, untrusted("publisher's certificate is not the root's own: %w", err)
	}
	if leaf.IsCA || len(leaf.URIs) != 1 || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return nil, untrusted("certificate of %s is no publisher's", leaf.Subject.CommonName)
	}
	prefix := publisherURL(t.Cluster, "").String()
	user, found := strings.CutPrefix(leaf.URIs[0].String(), prefix)
	if !found || protocol.CheckName("publisher", user) != nil {
		return nil, untrusted("certificate is of %.100s, not of a publisher of cluster %s", leaf.URIs[0], t.Cluster)
	}
	key, is := leaf.PublicKey.(ed25519.PublicKey)
	if !is {
		return nil, untrusted("publisher's key is %T, want Ed25519", leaf.PublicKey)
	}
	return &Certificate{User: protocol.UserID(user), Key: protocol.PublisherKey(key), Leaf: leaf, Bytes: der, issuer: t.Cluster}, nil
}

// Good tells whether somebody may publish by the certificate at a time.
func (c *Certificate) Good(now time.Time) error {
	if now.Add(clockSkew).Before(c.Leaf.NotBefore) || now.After(c.Leaf.NotAfter) {
		return untrusted("certificate of %s is good from %s to %s; an administrator can certify the key again",
			c.User, c.Leaf.NotBefore.UTC().Format(time.DateOnly), c.Leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

// Verify tells whether a build is what the certificate's holder signed.
func (t *Trust) Verify(b *protocol.SignedBuild, c *Certificate) error {
	x := &b.Build
	switch {
	case len(t.Publishers) > 0 && !slices.ContainsFunc(t.Publishers, func(k protocol.PublisherKey) bool { return slices.Equal(k, b.Key) }):
		return fmt.Errorf("%w: %v: %s, by the key %v", errUnlisted, x.ID(), x.Publisher, b.Key)
	case x.Cluster != t.Cluster || c.issuer != t.Cluster:
		return untrusted("%v: signed for cluster %q, not for %q", x.ID(), x.Cluster, t.Cluster)
	case x.Publisher != c.User || !slices.Equal(b.Key, c.Key):
		return untrusted("%v: signed by %s, and the certificate is of %s", x.ID(), x.Publisher, c.User)
	}
	signed, err := signedBytes(x)
	if err != nil {
		return err
	}
	if !ed25519.Verify(ed25519.PublicKey(c.Key), signed, b.Signature) {
		return untrusted("%v: the signature is not that of %s", x.ID(), x.Publisher)
	}
	return nil
}

// Sign signs a build.
func Sign(key ed25519.PrivateKey, b protocol.Build) (*protocol.SignedBuild, error) {
	signed, err := signedBytes(&b)
	if err != nil {
		return nil, err
	}
	return &protocol.SignedBuild{
		Build: b, Key: protocol.PublisherKey(key.Public().(ed25519.PublicKey)), Signature: ed25519.Sign(key, signed),
	}, nil
}

const signatureContext = "floe software 1\n"

func signedBytes(b *protocol.Build) ([]byte, error) {
	return protocol.AppendMarshal([]byte(signatureContext), b)
}
