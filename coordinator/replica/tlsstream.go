package replica

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	// handshakeLimit is how long a connecting peer may take to prove who it is.
	handshakeLimit = 10 * time.Second

	// maxHandshakes bounds strangers: more than this at once are closed unread.
	// Members open a handful of connections each.
	maxHandshakes = 32
)

// TLSStreamLayer carries raft over TLS on a TCP port of its own. Who may connect,
// and to whom, is decided by the two configurations: both must verify the other
// side's certificate and its role.
type TLSStreamLayer struct {
	listener       net.Listener
	server, client *tls.Config
	dial           func(ctx context.Context, network, address string) (net.Conn, error)
	ready          chan net.Conn   // peers that proved who they are
	slots          chan struct{}   // one per handshake under way
	life           context.Context //nolint:containedctx // of the layer: it ends with Close
	end            context.CancelFunc
	closed         chan struct{}
	close          sync.Once
	work           sync.WaitGroup
	err            error // of the listener; written before closed is closed
}

// NewTLSStreamLayer takes over a TCP listener; dial opens connections, nil those of
// the machine. The server configuration must demand client certificates; the
// client's ServerName, if empty, is taken from the address.
func NewTLSStreamLayer(listener net.Listener, dial func(ctx context.Context, network, address string) (net.Conn, error), server, client *tls.Config) *TLSStreamLayer {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	l := &TLSStreamLayer{
		listener: listener, server: server, client: client, dial: dial,
		ready: make(chan net.Conn), slots: make(chan struct{}, maxHandshakes), closed: make(chan struct{}),
		err: net.ErrClosed,
	}
	l.life, l.end = context.WithCancel(context.Background())
	l.work.Go(l.listen)
	return l
}

// listen accepts and hands each connection to a goroutine of its own, so that a
// stranger who connects and says nothing delays nobody.
func (l *TLSStreamLayer) listen() {
	for {
		raw, err := l.listener.Accept()
		if err != nil {
			l.shut(err)
			return
		}
		select {
		case l.slots <- struct{}{}:
			l.work.Go(func() { l.handshake(raw) })
		default:
			raw.Close()
		}
	}
}

func (l *TLSStreamLayer) handshake(raw net.Conn) {
	defer func() { <-l.slots }()
	ctx, cancel := context.WithTimeout(l.life, handshakeLimit)
	defer cancel()
	conn := tls.Server(raw, l.server)
	if conn.HandshakeContext(ctx) != nil {
		raw.Close()
		return
	}
	select {
	case l.ready <- conn:
	case <-l.closed:
		raw.Close()
	}
}

// Accept returns the next peer whose handshake succeeded.
func (l *TLSStreamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.closed:
		return nil, l.err
	}
}

// Dial connects and shakes hands within the timeout. Close ends it: raft waits for
// those who dial before it is shut down, and a host that is cut off answers nobody.
func (l *TLSStreamLayer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.life, timeout)
	defer cancel()
	raw, err := l.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := l.client
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			raw.Close()
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// Addr is the address the listener is bound to.
func (l *TLSStreamLayer) Addr() net.Addr { return l.listener.Addr() }

// Close ends Accept and pending handshakes, and waits for them. Accepted
// connections stay open; they belong to their receiver.
func (l *TLSStreamLayer) Close() error {
	l.shut(net.ErrClosed)
	err := l.listener.Close()
	l.work.Wait()
	return err
}

func (l *TLSStreamLayer) shut(err error) {
	l.close.Do(func() {
		l.err = err
		close(l.closed)
		l.end()
	})
}
