package federation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// network carries packets and streams between hosts in virtual time. A fault is a
// property of the way from one host to another, or of a host: what is lost, held
// up or delayed is told when it is sent, and again when it would arrive.
type network struct {
	mu      sync.Mutex
	rand    *rand.Rand          // guarded by mu
	hosts   map[netip.Addr]*nic // guarded by mu: who has the address now
	ways    map[way]fault       // guarded by mu
	changed chan struct{}       // guarded by mu; closed and replaced when a fault ends
}

// way is a direction between two hosts.
type way struct{ from, to netip.Addr }

// fault is what is wrong with a way.
type fault struct {
	cut   bool
	loss  float64 // of packets; streams are delayed instead
	delay time.Duration
}

// Round trips are a few milliseconds; a lost segment of a stream is sent again.
const (
	latency    = 2 * time.Millisecond
	jitter     = time.Millisecond
	resend     = 200 * time.Millisecond
	socketFull = 1024 // packets a socket holds
)

func newNetwork(seed uint64) *network {
	return &network{
		rand: rand.New(rand.NewPCG(seed, 0x6e6574)), hosts: map[netip.Addr]*nic{}, ways: map[way]fault{}, changed: make(chan struct{}),
	}
}

// nic is the network as one process has it, until it is killed.
type nic struct {
	network *network
	addr    netip.Addr
	dead    chan struct{}

	// Guarded by network.mu.
	killed    bool
	frozen    bool
	outbox    []func() // packets of a frozen process
	ports     uint16   // handed out so far
	listeners map[uint16]*listener
	sockets   map[uint16]*socket
	conns     map[*conn]struct{}
}

// attach gives a new process the address. What an earlier one left open there is
// reset when it is next spoken to.
func (n *network) attach(addr netip.Addr) *nic {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &nic{
		network: n, addr: addr, dead: make(chan struct{}), ports: 40000,
		listeners: map[uint16]*listener{}, sockets: map[uint16]*socket{}, conns: map[*conn]struct{}{},
	}
	n.hosts[addr] = c
	n.changedLocked()
	return c
}

// kill takes a process off the network for good: it hears nothing and is not heard
// any more. Its host resets its streams, unless the host has lost power, too.
func (c *nic) kill(power bool) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.killed {
		return
	}
	c.killed = true
	close(c.dead)
	for k := range c.conns {
		if !power {
			k.peer.failLocked(syscall.ECONNRESET)
		}
		k.failLocked(net.ErrClosed)
	}
	if power {
		delete(n.hosts, c.addr)
	}
	n.changedLocked()
}

func (c *nic) alive() bool {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return !c.killed
}

// freeze holds up everything to and from a process, or lets it go.
func (c *nic) freeze(frozen bool) {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.frozen = frozen; !frozen {
		for _, send := range c.outbox {
			send()
		}
		c.outbox = nil
	}
	c.network.changedLocked()
}

// set puts a fault on the ways from the one hosts to the others, or ends it.
func (n *network) set(f fault, from, to []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			if a != b {
				n.ways[way{a, b}] = f
			}
		}
	}
	n.changedLocked()
}

// heal ends the faults of all ways.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.ways)
	n.changedLocked()
}

func (n *network) changedLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// passLocked tells how long something takes now; false when it does not arrive.
func (n *network) passLocked(from, to netip.Addr) (time.Duration, bool) {
	f := n.ways[way{from, to}]
	return latency + f.delay + time.Duration(n.rand.Int64N(int64(jitter))), !f.cut
}

// lostLocked draws whether one packet is lost.
func (n *network) lostLocked(from, to netip.Addr) bool {
	f := n.ways[way{from, to}]
	return f.loss > 0 && n.rand.Float64() < f.loss
}

// socket is a UDP socket.
type socket struct {
	nic  *nic
	port uint16
	in   chan packet

	mu       sync.Mutex
	deadline time.Time     // guarded by mu
	moved    chan struct{} // guarded by mu: the deadline
	closed   chan struct{}
	once     sync.Once
}

type packet struct {
	from net.Addr
	data []byte
}

func (c *nic) listenUDP(address string) (net.PacketConn, error) {
	port, err := portOf(address)
	if err != nil {
		return nil, err
	}
	return c.openUDP(port)
}

func (c *nic) openUDP(port uint16) (net.PacketConn, error) {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.killed {
		return nil, net.ErrClosed
	}
	if port == 0 {
		c.ports++
		port = c.ports
	}
	if c.sockets[port] != nil {
		return nil, fmt.Errorf("listen udp %v:%d: %w", c.addr, port, syscall.EADDRINUSE)
	}
	s := &socket{nic: c, port: port, in: make(chan packet, socketFull), moved: make(chan struct{}), closed: make(chan struct{})}
	c.sockets[port] = s
	return s, nil
}

func (c *nic) dialUDP(context.Context) (net.PacketConn, error) { return c.openUDP(0) }

func (s *socket) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.nic.addr, s.port))
}

func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
	}
	target := to.(*net.UDPAddr).AddrPort()
	n := s.nic.network
	n.mu.Lock()
	defer n.mu.Unlock()
	p := packet{from: s.LocalAddr(), data: append([]byte(nil), b...)}
	switch {
	case s.nic.killed:
	case !s.nic.frozen:
		n.sendLocked(p, s.nic.addr, target)
	case len(s.nic.outbox) < socketFull:
		s.nic.outbox = append(s.nic.outbox, func() { n.sendLocked(p, s.nic.addr, target) })
	}
	return len(b), nil
}

func (n *network) sendLocked(p packet, from netip.Addr, to netip.AddrPort) {
	took, passes := n.passLocked(from, to.Addr())
	if passes && !n.lostLocked(from, to.Addr()) {
		time.AfterFunc(took, func() { n.deliver(p, from, to) })
	}
}

func (n *network) deliver(p packet, from netip.Addr, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	host := n.hosts[to.Addr()]
	if host == nil || host.killed || n.ways[way{from, to.Addr()}].cut {
		return
	}
	if s := host.sockets[to.Port()]; s != nil {
		select {
		case s.in <- p:
		default: // the socket is full
		}
	}
}

func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		s.mu.Lock()
		deadline, moved := s.deadline, s.moved
		s.mu.Unlock()
		n := s.nic.network
		n.mu.Lock()
		in, changed := s.in, n.changed
		if s.nic.frozen {
			in = nil
		}
		n.mu.Unlock()
		late, stop := alarm(deadline)
		select {
		case p := <-in:
			stop()
			return copy(b, p.data), p.from, nil
		case <-changed:
		case <-moved:
		case <-late:
			stop()
			return 0, nil, os.ErrDeadlineExceeded
		case <-s.closed:
			stop()
			return 0, nil, net.ErrClosed
		case <-s.nic.dead:
			stop()
			return 0, nil, net.ErrClosed
		}
		stop()
	}
}

// alarm is a channel that tells at a time; zero is never.
func alarm(at time.Time) (<-chan time.Time, func()) {
	if at.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(at))
	return t.C, func() { t.Stop() }
}

func (s *socket) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.nic.network.mu.Lock()
		delete(s.nic.sockets, s.port)
		s.nic.network.mu.Unlock()
	})
	return nil
}

func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	close(s.moved)
	s.moved = make(chan struct{})
	return nil
}

func (s *socket) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
func (s *socket) SetReadBuffer(int) error          { return nil } // quic-go asks for it
func (s *socket) SetWriteBuffer(int) error         { return nil }
