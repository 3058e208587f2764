package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// Lives of certificates. Source: research D2; the two authorities live long,
// because a cluster that ends by a date nobody remembers is the worse failure.
const (
	PilotLife       = time.Hour
	SiteLife        = 30 * 24 * time.Hour
	CoordinatorLife = 7 * 24 * time.Hour
	authorityLife   = 20 * 365 * 24 * time.Hour
	// clockSkew is how far behind a node's clock may be.
	clockSkew = 10 * time.Minute
)

// Authority signs certificates with the issuing key. Its methods may be called
// concurrently.
type Authority struct {
	cluster string
	root    *x509.Certificate
	issuing *x509.Certificate
	key     crypto.Signer
	issuers *x509.CertPool // issuing
}

// newAuthority checks that the pieces belong together.
func newAuthority(s *Secrets) (*Authority, error) {
	root, err := x509.ParseCertificate(s.Root)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	issuing, err := x509.ParseCertificate(s.Issuing)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate: %w", err)
	}
	if err := issuing.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("issuing certificate is not the root's: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(s.IssuingKey)
	if err != nil {
		return nil, fmt.Errorf("issuing key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(issuing.PublicKey) {
		return nil, errors.New("issuing key is not that of the issuing certificate")
	}
	issuers := x509.NewCertPool()
	issuers.AddCert(issuing)
	return &Authority{cluster: s.Cluster, root: root, issuing: issuing, key: key, issuers: issuers}, nil
}

// Pin is the digest of the root's public key, by which tokens name the cluster.
func (a *Authority) Pin() protocol.Digest { return transport.Fingerprint(a.root) }

// Root is the root's certificate in DER.
func (a *Authority) Root() []byte { return a.root.Raw }

// Issuers holds the issuing authority, for verifying clients: pilots and sites show
// their leaf alone. It is always the same pool.
func (a *Authority) Issuers() *x509.CertPool { return a.issuers }

// Pool holds the root, for verifying coordinators, which show a whole chain.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.root)
	return p
}

// CertifyPilot signs a pilot's key, which must be Ed25519, because reports are
// signed with it. It returns the leaf in PEM, and the key.
func (a *Authority) CertifyPilot(csr []byte, site protocol.SiteID, pilot protocol.PilotID) (chain []byte, key ed25519.PublicKey, err error) {
	public, err := requestedKey(csr)
	if err != nil {
		return nil, nil, err
	}
	key, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("pilot's key is %T, want Ed25519", public)
	}
	id := transport.Identity{Cluster: a.cluster, Kind: transport.Pilot, Site: site, Pilot: pilot}
	chain, err = a.certify(public, id, PilotLife, nil)
	return chain, key, err
}

// CertifySite signs a site's key. It returns the chain in PEM and the digest of
// the key, which names the holder.
func (a *Authority) CertifySite(csr []byte, site protocol.SiteID) (chain []byte, holder protocol.Digest, err error) {
	return a.certifyHolder(csr, transport.Identity{Cluster: a.cluster, Kind: transport.Site, Site: site}, SiteLife, nil)
}

// CertifyCoordinator signs a coordinator's key for its own use as server and
// client; a coordinator adds the names of its hosts itself (Cluster.Run). The
// chain ends in the root, which clients need to find.
func (a *Authority) CertifyCoordinator(csr []byte, node protocol.NodeID) (chain []byte, holder protocol.Digest, err error) {
	return a.certifyHolder(csr, a.coordinator(node), CoordinatorLife, nil)
}

func (a *Authority) coordinator(node protocol.NodeID) transport.Identity {
	return transport.Identity{Cluster: a.cluster, Kind: transport.Coordinator, Node: node}
}

// RenewSite is CertifySite for a site that shows its present certificate: the
// key must stay the same.
func (a *Authority) RenewSite(csr []byte, caller transport.Caller) ([]byte, error) {
	if caller.Kind != transport.Site {
		return nil, fmt.Errorf("renew: a %v is no site", caller.Kind)
	}
	chain, holder, err := a.CertifySite(csr, caller.Site)
	if err == nil && holder != caller.KeyFingerprint {
		return nil, errors.New("renew: the request is for another key than the one in use")
	}
	return chain, err
}

func (a *Authority) certifyHolder(csr []byte, id transport.Identity, life time.Duration, hosts []string) ([]byte, protocol.Digest, error) {
	public, err := requestedKey(csr)
	if err != nil {
		return nil, protocol.Digest{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, protocol.Digest{}, fmt.Errorf("certificate request: %w", err)
	}
	chain, err := a.certify(public, id, life, hosts)
	return chain, protocol.DigestOf(spki), err
}

// requestedKey returns the key of a request that was signed with it. All else in
// the request is ignored.
func requestedKey(der []byte) (any, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	switch key := csr.PublicKey.(type) {
	case ed25519.PublicKey:
		return key, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, fmt.Errorf("certificate request: key %T, want Ed25519 or ECDSA P-256", csr.PublicKey)
}

// certify signs a leaf for the identity that ends no later than its issuer, and
// returns what its holder shows: coordinators a chain, others the leaf, because
// coordinators know who issued it.
func (a *Authority) certify(public any, id transport.Identity, life time.Duration, hosts []string) ([]byte, error) {
	if err := id.Check(); err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: id.String()}, URIs: []*url.URL{id.URL()},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if leaf.NotAfter.After(a.issuing.NotAfter) {
		leaf.NotAfter = a.issuing.NotAfter
	}
	chain := [][]byte{nil}
	if id.Kind == transport.Coordinator {
		leaf.ExtKeyUsage = append(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		leaf.DNSNames = append(transport.ServerNames(a.cluster), raftName(a.cluster))
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				leaf.IPAddresses = append(leaf.IPAddresses, ip)
			} else {
				leaf.DNSNames = append(leaf.DNSNames, h)
			}
		}
		chain = append(chain, a.issuing.Raw, a.root.Raw)
	}
	var err error
	if chain[0], err = x509.CreateCertificate(rand.Reader, leaf, a.issuing, public, a.key); err != nil {
		return nil, fmt.Errorf("certify %v: %w", id, err)
	}
	return encodeChain(chain), nil
}

func encodeChain(chain [][]byte) []byte {
	var out bytes.Buffer
	for _, der := range chain {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a buffer takes all
	}
	return out.Bytes()
}

// newAuthorityCertificate signs a certificate that may sign depth further
// authorities and leaves: by itself where parent is nil.
func newAuthorityCertificate(name string, depth int, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	// ECDSA P-256, not Ed25519, which browsers do not take.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: depth, MaxPathLenZero: depth == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // documented never to fail
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}
