package federation

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

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
