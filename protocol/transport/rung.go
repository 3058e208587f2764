package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Rung is a way to reach a coordinator, the best first.
type Rung uint8

// The rungs of the ladder.
const (
	RungQUIC  Rung = iota + 1 // HTTP/3 over UDP
	RungTCP                   // HTTP/2 over TCP
	RungProxy                 // HTTP/2 through HTTP CONNECT
	RungRelay                 // HTTP/2 through the site's relay
)

var rungs = [...]string{"", "quic", "tcp", "proxy", "relay"}

func (r Rung) String() string {
	if int(r) >= len(rungs) {
		return fmt.Sprintf("invalid rung %d", uint8(r))
	}
	return rungs[r]
}

// session is one established way to one coordinator.
type session struct {
	address string
	rung    Rung
	climbed bool             // from the top of the ladder
	why     string           // the rungs above that were tried did not stand
	cert    *tls.Certificate // shown to the server; nil without
	trip    http.RoundTripper
	alive   func() bool
	close   func()

	// Guarded by the mutex of the client.
	users   int
	retired bool
}

// dialer makes sessions. One UDP socket serves all QUIC connections of a client.
type dialer struct {
	config    *ClientConfig
	tls       *tls.Config
	suggested func(addresses []string) // hears what relays say of coordinators' addresses

	mu   sync.Mutex
	udp  net.PacketConn
	quic *quic.Transport
}

func (d *dialer) dial(ctx context.Context, rung Rung, address string, cert *tls.Certificate) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.HandshakeTimeout)
	defer cancel()
	conf := d.tls.Clone()
	if cert != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	var s *session
	var err error
	switch rung {
	case RungQUIC:
		conf.NextProtos = []string{http3.NextProtoH3}
		s, err = d.dialQUIC(ctx, address, conf)
	default:
		conf.NextProtos = []string{"h2", "http/1.1"}
		s, err = d.dialTCP(ctx, rung, address, conf)
	}
	if err != nil {
		return nil, fmt.Errorf("%v %s: %w", rung, address, err)
	}
	s.address, s.rung, s.cert = address, rung, cert
	return s, nil
}

func (d *dialer) dialQUIC(ctx context.Context, address string, conf *tls.Config) (*session, error) {
	tr, err := d.transport(ctx)
	if err != nil {
		return nil, err
	}
	targets, err := resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, target := range targets {
		// Each address gets its share of the time, so that a dead one, often the
		// IPv6 one, leaves some for the next.
		share, cancel := shareOf(ctx, len(targets)-i)
		conn, err := tr.Dial(share, net.UDPAddrFromAddrPort(target), conf, clientQUIC(d.config.KeepAlive))
		cancel()
		if err == nil {
			go guard(conn)
			h3 := &http3.Transport{}
			return &session{
				trip:  h3.NewClientConn(conn),
				alive: func() bool { return conn.Context().Err() == nil },
				close: func() { _ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") },
			}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// guard closes a connection whose server leaves packets unanswered for quicSilence.
// A process that was killed and a host that lost power say no word, and QUIC itself
// waits for quicIdle. It returns when the connection has ended.
func guard(conn *quic.Conn) {
	tick := time.NewTicker(quicSilence / 4)
	defer tick.Stop()
	var s silence
	for {
		select {
		case <-tick.C:
		case <-conn.Context().Done():
			return
		}
		if now := conn.ConnectionStats(); s.lasts(time.Now(), now.PacketsSent, now.PacketsReceived) {
			_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "the server is silent")
			return
		}
	}
}

// silence is what is known of a server by the packets sent to it and received.
type silence struct {
	sent, received uint64    // when it was heard last
	since          time.Time // something sent after that is unanswered; zero when nothing is
}

// lasts takes the packets sent and received until now, and tells whether something
// sent is unanswered for quicSilence.
func (s *silence) lasts(now time.Time, sent, received uint64) bool {
	switch {
	case received != s.received:
		*s = silence{sent: sent, received: received}
	case sent <= s.sent+1:
		// One packet may be an acknowledgement, which nobody answers; what wants an
		// answer is sent again.
	case s.since.IsZero():
		s.since = now
	}
	return !s.since.IsZero() && now.Sub(s.since) >= quicSilence
}

// transport opens the UDP socket when it is first needed.
func (d *dialer) transport(ctx context.Context) (*quic.Transport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quic != nil {
		return d.quic, nil
	}
	open := d.config.DialUDP
	if open == nil {
		open = func(context.Context) (net.PacketConn, error) { return net.ListenUDP("udp", nil) }
	}
	conn, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open udp socket: %w", err)
	}
	d.udp, d.quic = conn, &quic.Transport{Conn: conn}
	return d.quic, nil
}

// closeUDP closes the socket; the next QUIC connection opens another.
func (d *dialer) closeUDP() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quic != nil {
		_ = d.quic.Close()
		_ = d.udp.Close()
		d.quic, d.udp = nil, nil
	}
}

// resolve returns the addresses behind host:port, one of each family first.
func resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip, uint16(port))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var first [2]bool
	var targets, rest []netip.AddrPort
	for _, ip := range ips {
		target := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		family := 0
		if target.Addr().Is6() {
			family = 1
		}
		if first[family] {
			rest = append(rest, target)
			continue
		}
		first[family] = true
		targets = append(targets, target)
	}
	return append(targets, rest...), nil
}

// shareOf gives one of n attempts its part of the time that is left.
func shareOf(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}
