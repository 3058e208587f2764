package transport

import (
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

// gate counts the connections of strangers, in all and by network, and refuses
// those above the limits before any cryptography is done for them. What it lets in
// comes through a turnstile.
type gate struct {
	limit, perNet int
	turnstile     *turnstile

	mu      sync.Mutex
	total   int
	nets    map[netip.Prefix]int
	refused uint64
}

// pass is a stranger's place. It is given back once, by release, when the
// connection has shown who it is or has ended, whichever is first.
type pass struct {
	gate *gate
	net  netip.Prefix
	once sync.Once
	// leave ends the handshake's turn; it may be called more than once.
	leave func()
}

func newGate(l *Limits) *gate {
	return &gate{limit: l.Strangers, perNet: l.StrangersPerNet, turnstile: newTurnstile(l), nets: make(map[netip.Prefix]int)}
}

// admit waits until a handshake may begin, and returns nil where the limits are
// reached.
func (g *gate) admit(remote netip.AddrPort) *pass {
	network := networkOf(remote.Addr())
	leave := g.turnstile.enter()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.limit || g.nets[network] >= g.perNet {
		g.refused++
		leave()
		return nil
	}
	g.total++
	g.nets[network]++
	return &pass{gate: g, net: network, leave: leave}
}

// arrived says that the handshake is done.
func (p *pass) arrived() {
	if p != nil {
		p.leave()
	}
}

func (p *pass) release() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		p.leave()
		g := p.gate
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		if g.nets[p.net]--; g.nets[p.net] == 0 {
			delete(g.nets, p.net)
		}
	})
}

func (g *gate) counts() (strangers int, refused uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total, g.refused
}

func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil { // no address at all, as in some simulated networks
		return netip.Prefix{}
	}
	return p
}

func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort()
	case *net.TCPAddr:
		return a.AddrPort()
	}
	p, _ := netip.ParseAddrPort(a.String()) // the zero address where there is none
	return p
}

// gatedListener closes the connections of strangers above the limits.
type gatedListener struct {
	net.Listener
	gate *gate
}

type gatedConn struct {
	net.Conn
	pass  *pass
	ended func() // set before the connection is served
}

func (l gatedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if p := l.gate.admit(addrPortOf(c.RemoteAddr())); p != nil {
			return &gatedConn{Conn: c, pass: p}, nil
		}
		_ = c.Close()
	}
}

// Close is called at least once by whoever served the connection.
func (c *gatedConn) Close() error {
	c.pass.release()
	if c.ended != nil {
		c.ended()
	}
	return c.Conn.Close()
}

// budget bounds the receive windows of all connections together: when it is
// used up, windows stay as they are and uploads get slower.
type budget struct {
	mu    sync.Mutex
	left  int64
	taken map[*quic.Conn]int64
}

func newBudget() *budget {
	return &budget{left: receiveBudget, taken: make(map[*quic.Conn]int64)}
}

// allow runs under locks of the connection: it may not call it.
func (b *budget) allow(c *quic.Conn, delta uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delta > uint64(b.left) {
		return false
	}
	b.left -= int64(delta)
	b.taken[c] += int64(delta)
	return true
}

func (b *budget) release(c *quic.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += b.taken[c]
	delete(b.taken, c)
}
