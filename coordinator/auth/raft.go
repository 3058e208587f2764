package auth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"floe/protocol"
	"floe/protocol/transport"
)

// raftProtocol keeps Raft's connections apart from those of the API.
const raftProtocol = "floe-raft/1"

func raftName(cluster string) string { return "raft." + cluster }

// TLSForRaft returns what Raft's own listener and dialer need. Both sides must
// show a coordinator's certificate of the cluster, of a node that member accepts;
// nil accepts every coordinator. Pilots and sites hold certificates of the same
// root: the role decides.
func (c *Cluster) TLSForRaft(member func(protocol.NodeID) bool) (server, client *tls.Config) {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{raftProtocol}, SessionTicketsDisabled: true,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		VerifyConnection: func(s tls.ConnectionState) error { return c.checkPeer(&s, member) },
	}
	server = base.Clone()
	server.GetCertificate = c.ServerCertificate
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, c.Pool()
	client = base.Clone()
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate() }
	client.RootCAs, client.ServerName = c.Pool(), raftName(c.cluster)
	return server, client
}

func (c *Cluster) checkPeer(s *tls.ConnectionState, member func(protocol.NodeID) bool) error {
	if s.NegotiatedProtocol != raftProtocol {
		return fmt.Errorf("raft: peer speaks %q, want %s", s.NegotiatedProtocol, raftProtocol)
	}
	if len(s.VerifiedChains) == 0 {
		return errors.New("raft: no verified certificate")
	}
	id, err := transport.IdentityOf(s.VerifiedChains[0][0])
	switch {
	case err != nil:
		return fmt.Errorf("raft: %w", err)
	case id.Kind != transport.Coordinator || id.Cluster != c.cluster:
		return fmt.Errorf("raft: %v is no coordinator of %s", id, c.cluster)
	case member != nil && !member(id.Node):
		return fmt.Errorf("raft: %s is not a member", id.Node)
	}
	return nil
}

// RaftPeer is the coordinator at the other end of a connection of Raft's; empty
// where it is not known.
func RaftPeer(c net.Conn) protocol.NodeID {
	t, ok := c.(*tls.Conn)
	if !ok {
		return ""
	}
	chain := t.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return ""
	}
	id, err := transport.IdentityOf(chain[0])
	if err != nil || id.Kind != transport.Coordinator {
		return ""
	}
	return id.Node
}
