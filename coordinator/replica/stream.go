package replica

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// StreamLayer carries raft's connections: a listener and a dialer. Tests pass an
// in-memory one, coordinators NewTLSStreamLayer. Dial may be called concurrently;
// Close ends Accept.
type StreamLayer interface {
	Accept() (net.Conn, error)
	Close() error
	Dial(address string, timeout time.Duration) (net.Conn, error)
}

// severable is the StreamLayer raft sees. It keeps hold of every connection so that
// the fuse can cut all of them at once: closing raft's transport alone leaves
// accepted connections open, and an answer in preparation could still leave.
type severable struct {
	layer   StreamLayer
	address address

	mu      sync.Mutex
	conns   map[net.Conn]struct{} // guarded by mu
	severed bool                  // guarded by mu
}

func newSeverable(layer StreamLayer, addr string) *severable {
	return &severable{layer: layer, address: address(addr), conns: map[net.Conn]struct{}{}}
}

// Accept returns the next connection of a peer.
func (s *severable) Accept() (net.Conn, error) {
	c, err := s.layer.Accept()
	if err != nil {
		return nil, err
	}
	return s.hold(c)
}

// Dial connects to a peer.
func (s *severable) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	s.mu.Lock()
	severed := s.severed
	s.mu.Unlock()
	if severed {
		return nil, net.ErrClosed
	}
	c, err := s.layer.Dial(string(target), timeout)
	if err != nil {
		return nil, err
	}
	return s.hold(c)
}

// Addr is the address peers know this member by, which may differ from the one it
// listens on.
func (s *severable) Addr() net.Addr { return s.address }

// Close cuts everything; it may be called more than once.
func (s *severable) Close() error {
	s.mu.Lock()
	conns := s.conns
	s.conns, s.severed = map[net.Conn]struct{}{}, true
	s.mu.Unlock()
	for c := range conns {
		cut(c)
	}
	err := s.layer.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// disconnect cuts the connections that match.
func (s *severable) disconnect(match func(net.Conn) bool) {
	s.mu.Lock()
	var found []net.Conn
	for c := range s.conns {
		if match(c) {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		cut(c)
	}
}

// cut closes the raw connection: TLS would first try to send a notice.
func cut(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.Close()
}

func (s *severable) hold(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.severed {
		cut(c)
		return nil, net.ErrClosed
	}
	s.conns[c] = struct{}{}
	return &heldConn{Conn: c, holder: s}, nil
}

// heldConn leaves its holder when closed.
type heldConn struct {
	net.Conn
	holder *severable
}

// Close closes the connection.
func (c *heldConn) Close() error {
	c.holder.mu.Lock()
	delete(c.holder.conns, c.Conn)
	c.holder.mu.Unlock()
	return c.Conn.Close()
}

// address is a member's address as a net.Addr.
type address string

func (a address) Network() string { return "raft" }
func (a address) String() string  { return string(a) }
