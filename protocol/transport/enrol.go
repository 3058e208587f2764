package transport

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// NewCSR makes the DER certificate request for a key. It names nobody: who the
// holder is, the coordinator decides by ticket, token or present certificate.
func NewCSR(key crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return csr, nil
}

// AssembleCertificate joins a chain in PEM, leaf first, with the leaf's key. The
// result has Leaf set.
func AssembleCertificate(chain []byte, key crypto.Signer) (*tls.Certificate, error) {
	cert := &tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert.Certificate = append(cert.Certificate, block.Bytes)
		}
	}
	if len(cert.Certificate) == 0 {
		return nil, fmt.Errorf("certificate chain: nothing in PEM")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("certificate chain: %w", err)
	}
	mine, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil || !bytes.Equal(mine, leaf.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("certificate chain: the leaf is for another key")
	}
	cert.Leaf = leaf
	return cert, nil
}
