package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"floe/protocol"
)

// WithinSite is how a site and its pilots speak without a coordinator between them:
// each side shows the certificate that it has from the cluster, and takes nobody of
// another site.
type WithinSite struct {
	Cluster string
	Site    func() protocol.SiteID
	// Certificate is what this side shows.
	Certificate func() (*tls.Certificate, error)
	// Authorities are those that sign certificates of the cluster, as coordinators have
	// shown them; see Client.Authorities.
	Authorities func() []*x509.Certificate
}

// Server is for the site: only its own pilots are let in.
func (w *WithinSite) Server() *tls.Config {
	t := baseTLS()
	t.NextProtos = []string{"http/1.1"}
	t.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.Certificate() }
	t.ClientAuth = tls.RequireAnyClientCert // VerifyConnection does the rest
	t.VerifyConnection = func(s tls.ConnectionState) error { return w.verify(&s, Pilot) }
	return t
}

// Client is for a pilot: it speaks to the holder of its site's certificate.
func (w *WithinSite) Client() *tls.Config {
	t := baseTLS()
	t.NextProtos = []string{"http/1.1"}
	t.InsecureSkipVerify = true // VerifyConnection does it: a site is known by its identity, not by a host's name
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return w.Certificate() }
	t.VerifyConnection = func(s tls.ConnectionState) error { return w.verify(&s, Site) }
	return t
}

// verify takes only a party of a kind, of this cluster and site.
func (w *WithinSite) verify(s *tls.ConnectionState, want Kind) error {
	if len(s.PeerCertificates) == 0 {
		return fmt.Errorf("%w: no certificate", ErrUntrusted)
	}
	leaf, roots := s.PeerCertificates[0], x509.NewCertPool()
	for _, a := range w.Authorities() {
		roots.AddCert(a)
	}
	// Sites have certificates of clients: what they are is said by their identity.
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	id, err := IdentityOf(leaf)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if id.Cluster != w.Cluster || id.Kind != want || id.Site != w.Site() {
		return fmt.Errorf("%w: it is %v, want a %v of site %s of %s", ErrUntrusted, id, want, w.Site(), w.Cluster)
	}
	return nil
}
