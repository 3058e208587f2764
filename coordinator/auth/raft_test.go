package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"testing"

	"floe/protocol"
	"floe/protocol/transport"
)

// shake connects client to server and returns what each side says of the other.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	ln := listen(t)
	done := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		conn := tls.Server(raw, server)
		if err := conn.Handshake(); err != nil {
			done <- err
			return
		}
		_, err = conn.Write([]byte{1})
		done <- err
	}()
	conn, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // in TLS 1.3 a refusal comes after the handshake
		_ = conn.Close()
	}
	return <-done, err
}

func TestRaftTakesCoordinatorsOnly(t *testing.T) {
	a := newCluster(t, "test", "n1")
	b := join(t, a, "n2")
	stranger := newCluster(t, "test", "n2")
	member := func(n protocol.NodeID) bool { return n == "n1" || n == "n2" }
	none := func(protocol.NodeID) bool { return false }

	aServer, _ := a.TLSForRaft(member)
	_, bClient := b.TLSForRaft(member)
	if s, c := shake(t, aServer, bClient); s != nil || c != nil {
		t.Errorf("two coordinators: server %v, client %v", s, c)
	}
	_, pilotClient := a.TLSForRaft(nil)
	pilotClient.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		chain, _, err := a.CertifyPilot(csrOf(t, key), "a", "p-1")
		if err != nil {
			return nil, err
		}
		return transport.AssembleCertificate(chain, key)
	}
	_, strangerClient := stranger.TLSForRaft(nil)
	strictServer, _ := a.TLSForRaft(none)
	apiClient := bClient.Clone()
	apiClient.NextProtos = nil
	for what, pair := range map[string][2]*tls.Config{
		"a pilot":                  {aServer, pilotClient},
		"another root":             {aServer, strangerClient},
		"a node that is no member": {strictServer, bClient},
		"a client of another kind": {aServer, apiClient},
		"no certificate":           {aServer, {RootCAs: a.Pool(), ServerName: raftName("test"), NextProtos: []string{raftProtocol}}},
	} {
		if s, c := shake(t, pair[0], pair[1]); s == nil || c == nil {
			t.Errorf("%s: server %v, client %v, want both refused", what, s, c)
		}
	}
	_, strictClient := b.TLSForRaft(none)
	if _, c := shake(t, aServer, strictClient); c == nil {
		t.Error("a client connected to a server that is no member")
	}
	strangerServer, _ := stranger.TLSForRaft(nil)
	if _, c := shake(t, strangerServer, bClient); c == nil {
		t.Error("a client connected to a server of another root")
	}
}
