package federation

import (
	"context"
	"fmt"
	"io"
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

// listener takes streams at a port.
type listener struct {
	nic    *nic
	port   uint16
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *nic) listenTCP(address string) (net.Listener, error) {
	port, err := portOf(address)
	if err != nil {
		return nil, err
	}
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.listeners[port] != nil {
		return nil, fmt.Errorf("listen tcp %v:%d: %w", c.addr, port, syscall.EADDRINUSE)
	}
	l := &listener{nic: c, port: port, accept: make(chan net.Conn, 128), closed: make(chan struct{})}
	c.listeners[port] = l
	return l, nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.nic.dead:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.nic.network.mu.Lock()
		delete(l.nic.listeners, l.port)
		l.nic.network.mu.Unlock()
	})
	return nil
}

func (l *listener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.nic.addr, l.port))
}

func portOf(address string) (uint16, error) {
	a, err := netip.ParseAddrPort(address)
	return a.Port(), err
}

// dialTCP opens a stream. Where nobody answers it waits for ctx, as connect(2)
// does; where a host has no such listener it is refused.
func (c *nic) dialTCP(ctx context.Context, _, address string) (net.Conn, error) {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	n := c.network
	for {
		n.mu.Lock()
		there, out := n.passLocked(c.addr, target.Addr())
		back, in := n.passLocked(target.Addr(), c.addr)
		host := n.hosts[target.Addr()]
		reached := out && in && host != nil && !host.frozen && !c.frozen && !c.killed
		changed := n.changed
		n.mu.Unlock()
		if reached {
			wait := time.NewTimer(there + back)
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
				return nil, ctx.Err()
			}
			return c.connect(target)
		}
		select {
		case <-changed:
		case <-c.dead:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", address, ctx.Err())
		}
	}
}

func (c *nic) connect(target netip.AddrPort) (net.Conn, error) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	host := n.hosts[target.Addr()]
	if c.killed {
		return nil, net.ErrClosed
	}
	var l *listener
	if host != nil && !host.killed {
		l = host.listeners[target.Port()]
	}
	if l == nil {
		return nil, fmt.Errorf("dial %v: %w", target, syscall.ECONNREFUSED)
	}
	c.ports++
	near, far := &conn{nic: c}, &conn{nic: host}
	near.peer, far.peer = far, near
	near.local, near.remote = netip.AddrPortFrom(c.addr, c.ports), target
	far.local, far.remote = near.remote, near.local
	for _, k := range []*conn{near, far} {
		k.signal = make(chan struct{})
		k.nic.conns[k] = struct{}{}
	}
	select {
	case l.accept <- far:
		return near, nil
	default:
		return nil, fmt.Errorf("dial %v: %w", target, syscall.ECONNREFUSED)
	}
}

// conn is one end of a stream. All fields are guarded by network.mu.
type conn struct {
	nic           *nic
	peer          *conn
	local, remote netip.AddrPort

	segments []segment // on their way to this end, in order
	ended    time.Time // when the end of the stream arrives; zero is not yet
	closed   bool      // by its owner
	failed   error
	signal   chan struct{} // closed and replaced when something changed

	readBy, writeBy time.Time
}

type segment struct {
	data []byte
	at   time.Time // when it arrives
}

func (k *conn) signalLocked() {
	close(k.signal)
	k.signal = make(chan struct{})
}

func (k *conn) failLocked(err error) {
	if k.failed == nil {
		k.failed = err
	}
	delete(k.nic.conns, k)
	k.signalLocked()
}

func (k *conn) Read(b []byte) (int, error) {
	n := k.nic.network
	for {
		n.mu.Lock()
		got, at, done, err := k.readLocked(b)
		signal, changed := k.signal, n.changed
		n.mu.Unlock()
		if done {
			return got, err
		}
		wake, stop := alarm(at)
		select {
		case <-signal:
		case <-changed:
		case <-wake:
		}
		stop()
	}
}

// readLocked reads what has arrived, or tells when to look again; zero is when
// something changes.
func (k *conn) readLocked(b []byte) (got int, at time.Time, done bool, err error) {
	now := time.Now()
	cut := k.nic.network.ways[way{k.peer.nic.addr, k.nic.addr}].cut || k.peer.nic.frozen
	switch {
	case k.closed:
		return 0, at, true, net.ErrClosed
	case !k.readBy.IsZero() && !now.Before(k.readBy):
		return 0, at, true, os.ErrDeadlineExceeded
	case k.nic.frozen:
		return 0, at, false, nil
	case len(k.segments) > 0 && !cut:
		s := &k.segments[0]
		if now.Before(s.at) {
			return 0, earlier(s.at, k.readBy), false, nil
		}
		got = copy(b, s.data)
		if s.data = s.data[got:]; len(s.data) == 0 {
			k.segments = k.segments[1:]
		}
		return got, at, true, nil
	case k.failed != nil:
		return 0, at, true, k.failed
	case !k.ended.IsZero() && !cut && len(k.segments) == 0:
		if now.Before(k.ended) {
			return 0, earlier(k.ended, k.readBy), false, nil
		}
		return 0, at, true, io.EOF
	}
	return 0, k.readBy, false, nil
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// Write takes everything at once, as if buffers were endless: net/http writes with a
// mutex held, and time would stand still while others wait for that.
func (k *conn) Write(b []byte) (int, error) {
	n := k.nic.network
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case k.closed:
		return 0, net.ErrClosed
	case k.failed != nil:
		return 0, k.failed
	case !k.writeBy.IsZero() && !time.Now().Before(k.writeBy):
		return 0, os.ErrDeadlineExceeded
	case k.peer.nic.killed && n.hosts[k.remote.Addr()] != nil, k.peer.closed:
		// Its host is there, and knows nothing of this stream.
		k.failLocked(syscall.ECONNRESET)
		return 0, syscall.ECONNRESET
	}
	k.sendLocked(b)
	return len(b), nil
}

func (k *conn) sendLocked(b []byte) {
	p := k.peer
	p.segments = append(p.segments, segment{data: append([]byte(nil), b...), at: k.arrivalLocked()})
	p.signalLocked()
}

// arrivalLocked is when what is sent now arrives: not before what was sent earlier.
func (k *conn) arrivalLocked() time.Time {
	n, p := k.nic.network, k.peer
	took, _ := n.passLocked(k.nic.addr, p.nic.addr) // over a cut it is held until the way is whole
	for n.lostLocked(k.nic.addr, p.nic.addr) {
		took += resend
	}
	at := time.Now().Add(took)
	if l := len(p.segments); l > 0 && at.Before(p.segments[l-1].at) {
		at = p.segments[l-1].at
	}
	return at
}

func (k *conn) Close() error {
	k.nic.network.mu.Lock()
	defer k.nic.network.mu.Unlock()
	if k.closed {
		return net.ErrClosed
	}
	k.closed = true
	delete(k.nic.conns, k)
	if k.failed == nil && k.peer.ended.IsZero() {
		k.peer.ended = k.arrivalLocked()
	}
	k.signalLocked()
	k.peer.signalLocked()
	return nil
}

func (k *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(k.local) }
func (k *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(k.remote) }

func (k *conn) SetDeadline(t time.Time) error {
	k.nic.network.mu.Lock()
	defer k.nic.network.mu.Unlock()
	k.readBy, k.writeBy = t, t
	k.signalLocked()
	return nil
}

func (k *conn) SetReadDeadline(t time.Time) error {
	k.nic.network.mu.Lock()
	defer k.nic.network.mu.Unlock()
	k.readBy = t
	k.signalLocked()
	return nil
}

func (k *conn) SetWriteDeadline(t time.Time) error {
	k.nic.network.mu.Lock()
	defer k.nic.network.mu.Unlock()
	k.writeBy = t
	k.signalLocked()
	return nil
}
