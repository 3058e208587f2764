package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// dialTCP makes the first connection itself, so that it knows whether the rung
// holds, and lets http.Transport make further ones when it needs them.
func (d *dialer) dialTCP(ctx context.Context, rung Rung, address string, conf *tls.Config) (*session, error) {
	made := &tcpConns{open: make(map[*tcpConn]struct{})}
	first, err := d.connectTLS(ctx, rung, address, conf, made)
	if err != nil {
		return nil, err
	}
	ready := make(chan net.Conn, 1)
	ready <- first
	tr := &http.Transport{
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   quicIdle,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: quicIdle / 2},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case c := <-ready:
				return c, nil
			default:
			}
			ctx, cancel := context.WithTimeout(ctx, d.config.HandshakeTimeout)
			defer cancel()
			return d.connectTLS(ctx, rung, address, conf, made)
		},
	}
	return &session{
		trip:  tr,
		alive: func() bool { return true }, // the pool replaces connections that ended
		close: made.close,
	}, nil
}

// tcpConns are the open connections of one session. http.Transport closes idle
// ones only, but closing a client ends its requests.
type tcpConns struct {
	mu     sync.Mutex
	open   map[*tcpConn]struct{}
	closed bool
}

type tcpConn struct {
	net.Conn
	all *tcpConns
}

func (t *tcpConns) track(raw net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	c := &tcpConn{raw, t}
	t.open[c] = struct{}{}
	return c, nil
}

func (c *tcpConn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

func (t *tcpConns) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.open {
		_ = c.Conn.Close()
	}
	clear(t.open)
}

func (d *dialer) connectTLS(ctx context.Context, rung Rung, address string, conf *tls.Config, made *tcpConns) (net.Conn, error) {
	raw, err := d.connect(ctx, rung, address)
	if err != nil {
		return nil, err
	}
	if raw, err = made.track(raw); err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
