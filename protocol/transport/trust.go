package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/quic-go/quic-go"

	"floe/protocol"
)

// ErrUntrusted is in the chain of an error where a server could not prove to be
// a coordinator of the cluster. Nothing was sent to it.
var ErrUntrusted = errors.New("not a coordinator of this cluster")

// pinned verifies a server's chain against the pins: the digests of the public
// keys of acceptable roots. The chain must hold the root itself, because a pin
// cannot stand in for it. Pins outlive a root that is issued again for its key.
// Returned are the authorities of the chain, the issuing one first.
func verifyPinned(s *tls.ConnectionState, cluster, serverName string, pins []protocol.Digest) ([]*x509.Certificate, error) {
	if len(s.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: no certificate", ErrUntrusted)
	}
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range s.PeerCertificates[1:] {
		if cert.IsCA && slices.Contains(pins, Fingerprint(cert)) {
			roots.AddCert(cert)
			found = true
		} else {
			others.AddCert(cert)
		}
	}
	if !found {
		return nil, fmt.Errorf("%w: its chain does not hold the pinned root %v; is the token from another cluster?", ErrUntrusted, pins)
	}
	return verifyCoordinator(s.PeerCertificates[0], cluster, x509.VerifyOptions{
		Roots: roots, Intermediates: others, DNSName: serverName,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func verifyCoordinator(leaf *x509.Certificate, cluster string, o x509.VerifyOptions) ([]*x509.Certificate, error) {
	chains, err := leaf.Verify(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	id, err := IdentityOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if id.Kind != Coordinator || id.Cluster != cluster {
		return nil, fmt.Errorf("%w: it is %v", ErrUntrusted, id)
	}
	return chains[0][1:], nil
}

// clientTLS verifies by the pins where there are any, else by the roots, as for
// a public certificate on the people's door. The authorities of a server that was
// verified by a pin are told.
func clientTLS(c *ClientConfig, verified func([]*x509.Certificate)) *tls.Config {
	t := baseTLS()
	t.ServerName = c.serverName()
	if len(c.Pins) > 0 {
		t.InsecureSkipVerify = true // VerifyConnection does it, against the pins
		t.VerifyConnection = func(s tls.ConnectionState) error {
			authorities, err := verifyPinned(&s, c.Cluster, t.ServerName, c.Pins)
			if err == nil {
				verified(authorities)
			}
			return err
		}
	} else {
		t.RootCAs = c.Roots
	}
	return t
}

// untrusted tells whether err means that the server is the wrong one, which
// another rung would not change.
func untrusted(err error) bool {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.Is(err, ErrUntrusted) || errors.As(err, &invalid) || errors.As(err, &unknown) || errors.As(err, &host)
}

// refusedUs tells whether the server ended the handshake because of our
// certificate, or the lack of one. In TLS 1.3 that shows only after our side of
// the handshake is done, on the first request.
func refusedUs(err error) bool {
	var transport *quic.TransportError
	if errors.As(err, &transport) {
		return transport.Remote && transport.ErrorCode.IsCryptoError()
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
