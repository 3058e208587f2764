package replica

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority issues a CA and returns a function that issues leaves.
func authority(t *testing.T) (*x509.CertPool, func() tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool, func() tls.Certificate {
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(2), DNSNames: []string{"peer.test"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, parsed, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
}

// Peers with a certificate of the cluster exchange bytes; strangers reach nobody and
// delay nobody.
func TestTLSStreamLayer(t *testing.T) {
	pool, issue := authority(t)
	otherPool, issueOther := authority(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	layer := NewTLSStreamLayer(listener, nil,
		&tls.Config{Certificates: []tls.Certificate{issue()}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
		&tls.Config{Certificates: []tls.Certificate{issue()}, RootCAs: pool, ServerName: "peer.test", MinVersion: tls.VersionTLS13})
	defer layer.Close()
	go func() {
		for {
			c, err := layer.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	address := layer.Addr().String()

	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, config := range map[string]*tls.Config{
		"no certificate":    {RootCAs: pool, ServerName: "peer.test"},
		"other authority":   {RootCAs: pool, ServerName: "peer.test", Certificates: []tls.Certificate{issueOther()}},
		"trusts no one":     {RootCAs: otherPool, ServerName: "peer.test", Certificates: []tls.Certificate{issue()}},
		"asks another name": {RootCAs: pool, ServerName: "pilot.test", Certificates: []tls.Certificate{issue()}},
	} {
		c, err := tls.Dial("tcp", address, config)
		if err == nil { // in TLS 1.3 the client learns of its refusal on its first read
			c.Write([]byte("x"))
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if err == nil {
			t.Errorf("%s: was served", name)
		}
	}

	c, err := layer.Dial(address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 5)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("echo = %q, %v", got, err)
	}
	layer.Close() // also ends the handshake of the silent stranger
	if _, err := layer.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v, want net.ErrClosed", err)
	}
}

// A member that stops while it dials one that nobody answers for does not wait for it.
func TestCloseEndsDials(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialling := make(chan struct{})
	layer := NewTLSStreamLayer(listener, func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}, &tls.Config{MinVersion: tls.VersionTLS13}, &tls.Config{ServerName: "peer.test", MinVersion: tls.VersionTLS13})
	failed := make(chan error, 1)
	go func() {
		_, err := layer.Dial("192.0.2.1:1", time.Hour)
		failed <- err
	}()
	<-dialling
	layer.Close()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("Dial = %v, want context.Canceled", err)
	}
}

// Severing cuts every connection, dialled or accepted, and lets no new one in.
func TestSever(t *testing.T) {
	near, far := net.Pipe()
	s := newSeverable(&oneConn{conn: near, closed: make(chan struct{})}, "c1:4433")
	c, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a write passed after the cut")
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the peer read after the cut")
	}
	if _, err := s.Dial("c2:4433", time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after the cut = %v, want net.ErrClosed", err)
	}
	if s.Addr().String() != "c1:4433" {
		t.Errorf("Addr = %v, want the advertised one", s.Addr())
	}
}

// oneConn is a layer that accepts one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) { return l.conn, nil }
func (l *oneConn) Close() error              { close(l.closed); return nil }
func (l *oneConn) Dial(string, time.Duration) (net.Conn, error) {
	return nil, errors.New("dialled")
}
