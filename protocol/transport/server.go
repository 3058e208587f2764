package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/time/rate"

	"floe/protocol"
)

// ServerConfig says what a Server serves and where.
type ServerConfig struct {
	Cluster string
	// Addr is host:port; port 0 takes a free one, the same for UDP and TCP.
	Addr string
	// ListenTCP and ListenUDP open the sockets; nil opens real ones. The address
	// given to ListenUDP has the port that ListenTCP got.
	ListenTCP func(addr string) (net.Listener, error)
	ListenUDP func(addr string) (net.PacketConn, error)
	// DisableQUIC and DisableTCP leave one of the two out.
	DisableQUIC, DisableTCP bool
	// Certificate is asked once for each handshake, so that renewed certificates
	// are used at once. The chain must end in the cluster's root, which clients pin.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ClientCAs are the roots of the clients' certificates; asked once for each
	// handshake. While it returns the same pool, connections share what is made of it.
	ClientCAs func() *x509.CertPool
	Handler   http.Handler
	// BodyLimit is the largest body of a request in bytes; nil is
	// protocol.MaxExchangeBytes for all.
	BodyLimit func(*http.Request) int64
	// AddressKey, the same on all coordinators, lets a client's proof of address
	// hold at all of them and tells it quickly that one has restarted. Zero is random.
	AddressKey [32]byte
	Limits     Limits
	Logger     *slog.Logger
}

// Validate returns all that is wrong with the config, joined.
func (c *ServerConfig) Validate() error {
	var errs []error
	if err := CheckCluster(c.Cluster); err != nil {
		errs = append(errs, err)
	}
	if c.Certificate == nil || c.ClientCAs == nil || c.Handler == nil || c.Logger == nil {
		errs = append(errs, errors.New("certificate, client CAs, handler and logger must be set"))
	}
	if c.DisableQUIC && c.DisableTCP {
		errs = append(errs, errors.New("both QUIC and TCP are disabled"))
	}
	return errors.Join(errs...)
}

// Server serves one handler over HTTP/3 and over HTTP/2 and 1.1. Its methods may
// be called concurrently.
type Server struct {
	config ServerConfig
	limits Limits
	gate   *gate
	budget *budget
	links  links
	altSvc string

	tcp    net.Listener
	udp    net.PacketConn
	http   *http.Server
	quic   *quic.Transport
	http3  *http3.Server
	quicLn *quic.Listener

	panics, overQUIC, overTCP, overdue atomic.Uint64
}

// Stats are counts since the server began, and what it holds now.
type Stats struct {
	QUICRequests, TCPRequests uint64
	Panics                    uint64 // handlers that panicked
	Refused                   uint64 // strangers' connections over the limits
	Delayed                   uint64 // handshakes that had to wait for others
	Overdue                   uint64 // requests under a certificate that had ended
	Connections, Strangers    int    // now
}

// NewServer opens the sockets and serves nothing before Run. A server that is
// not run must be closed.
func NewServer(c ServerConfig) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("transport server: %w", err)
	}
	s := &Server{config: c, limits: c.Limits.withDefaults(), budget: newBudget()}
	s.links.all = make(map[*link]struct{})
	s.gate = newGate(&s.limits)
	if err := s.listen(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// listen opens both sockets on one port number. Where the port is for us to
// choose, one that is free for TCP may be taken for UDP: then another is tried.
func (s *Server) listen() error {
	const tries = 16
	_, port, err := net.SplitHostPort(s.config.Addr)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", s.config.Addr, err)
	}
	for try := 1; ; try++ {
		err = s.listenOnce()
		if err == nil || port != "0" || try == tries {
			return err
		}
		s.closeSockets()
		s.tcp, s.udp = nil, nil
	}
}

func (s *Server) listenOnce() error {
	addr := s.config.Addr
	if !s.config.DisableTCP {
		open := s.config.ListenTCP
		if open == nil {
			open = func(a string) (net.Listener, error) { return net.Listen("tcp", a) }
		}
		ln, err := open(addr)
		if err != nil {
			return fmt.Errorf("listen on tcp %s: %w", addr, err)
		}
		s.tcp = ln
		host, _, _ := net.SplitHostPort(addr) // checked by listen
		if _, port, err := net.SplitHostPort(ln.Addr().String()); err == nil {
			addr = net.JoinHostPort(host, port)
		}
	}
	if s.config.DisableQUIC {
		return nil
	}
	open := s.config.ListenUDP
	if open == nil {
		open = func(a string) (net.PacketConn, error) { return net.ListenPacket("udp", a) }
	}
	conn, err := open(addr)
	if err != nil {
		return fmt.Errorf("listen on udp %s: %w", addr, err)
	}
	s.udp = conn
	if p := addrPortOf(conn.LocalAddr()); p.Port() != 0 {
		s.altSvc = fmt.Sprintf(`h3=":%d"; ma=86400`, p.Port())
	}
	return nil
}

func (s *Server) closeSockets() {
	if s.tcp != nil {
		_ = s.tcp.Close()
	}
	if s.udp != nil {
		_ = s.udp.Close()
	}
}

// Addr is the address in use, or that was in use when Run had ended.
func (s *Server) Addr() net.Addr {
	if s.tcp != nil {
		return s.tcp.Addr()
	}
	return s.udp.LocalAddr()
}

// Close frees the sockets of a server that was never run.
func (s *Server) Close() { s.closeSockets() }

// Run serves until ctx ends or a socket fails, then lets requests in progress
// finish for Limits.Drain and closes everything. It returns nil when ctx ended.
func (s *Server) Run(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		s.closeSockets()
		return err
	}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	if s.tcp != nil {
		serving.Go(func() {
			err := s.http.ServeTLS(gatedListener{s.tcp, s.gate}, "", "")
			failed <- fmt.Errorf("serve tcp %v: %w", s.tcp.Addr(), err)
		})
	}
	if s.udp != nil {
		serving.Go(func() {
			err := s.http3.ServeListener(s.quicLn)
			failed <- fmt.Errorf("serve quic %v: %w", s.udp.LocalAddr(), err)
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.drain()
	serving.Wait()
	s.closeSockets()
	return err
}

func (s *Server) prepare() error {
	s.http = &http.Server{
		Handler:           s.handler("tcp"),
		TLSConfig:         serverTLS(&s.config, "h2", "http/1.1"),
		ReadHeaderTimeout: s.limits.FirstRequest,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    s.limits.HeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: max(s.limits.Streams, s.limits.PeerStreams), SendPingTimeout: quicIdle},
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
		ConnContext:       s.linkTCP,
	}
	if s.udp == nil {
		return nil
	}
	flood := rate.NewLimiter(rate.Limit(s.limits.RetryAbove), s.limits.RetryAbove)
	s.quic = &quic.Transport{
		Conn:                             s.udp,
		DisableVersionNegotiationPackets: true,
		VerifySourceAddress:              func(net.Addr) bool { return !flood.Allow() },
		ConnContext:                      s.admitQUIC,
	}
	if s.config.AddressKey != [32]byte{} {
		reset, token := addressKeys(s.config.AddressKey)
		s.quic.StatelessResetKey, s.quic.TokenGeneratorKey = &reset, &token
	}
	s.http3 = &http3.Server{
		Handler:        s.handler("quic"),
		MaxHeaderBytes: s.limits.HeaderBytes,
		ConnContext:    s.linkQUIC,
		Logger:         slog.New(quiet{s.config.Logger.Handler()}),
	}
	// Listen, not ListenEarly: no connection is seen before its handshake is over,
	// so its caller is known from the beginning.
	ln, err := s.quic.Listen(serverTLS(&s.config, http3.NextProtoH3), serverQUIC(&s.limits, s.budget))
	if err != nil {
		return fmt.Errorf("listen on quic %v: %w", s.udp.LocalAddr(), err)
	}
	s.quicLn = ln
	return nil
}

func (s *Server) drain() {
	// The context of Run has ended: what is left has its own end.
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.Drain)
	defer cancel()
	var draining sync.WaitGroup
	draining.Go(func() {
		_ = s.http.Shutdown(ctx) // what did not finish is closed below
		_ = s.http.Close()
	})
	if s.http3 != nil {
		draining.Go(func() {
			_ = s.http3.Shutdown(ctx)
			_ = s.http3.Close()
			_ = s.quicLn.Close()
			_ = s.quic.Close()
		})
	}
	draining.Wait()
}

// Disconnect closes the connections whose caller satisfies match, with the
// requests on them, and returns how many: for revocation.
func (s *Server) Disconnect(match func(Caller) bool) int {
	found := s.links.matching(match)
	for _, l := range found {
		l.close()
	}
	return len(found)
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	st := Stats{
		QUICRequests: s.overQUIC.Load(), TCPRequests: s.overTCP.Load(), Panics: s.panics.Load(),
		Overdue: s.overdue.Load(), Connections: s.links.count(),
	}
	st.Strangers, st.Refused = s.gate.counts()
	st.Delayed = s.gate.turnstile.delayed.Load()
	return st
}

type passKey struct{}

var errStrangers = errors.New("too many connections without a certificate")

// admitQUIC runs on the first packet of a connection, in the goroutine that opens
// connections and does nothing else: while it waits, the packets of those that stand
// go their way.
func (s *Server) admitQUIC(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	p := s.gate.admit(addrPortOf(info.RemoteAddr))
	if p == nil {
		return nil, errStrangers
	}
	context.AfterFunc(ctx, p.release)
	return context.WithValue(ctx, passKey{}, p), nil
}

// linkQUIC runs after the handshake.
func (s *Server) linkQUIC(ctx context.Context, c *quic.Conn) context.Context {
	p, _ := ctx.Value(passKey{}).(*pass)
	p.arrived()
	l := &link{
		remote: addrPortOf(c.RemoteAddr()), pass: p,
		close: func() { _ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "") },
	}
	state := c.ConnectionState().TLS
	l.caller, l.known = callerOf(&state, s.config.Cluster, "quic", l.remote), true
	if l.caller.Kind != Anonymous {
		p.release()
	}
	s.links.add(l)
	l.watch(s.limits.FirstRequest)
	context.AfterFunc(c.Context(), func() {
		s.links.remove(l)
		s.budget.release(c)
	})
	return context.WithValue(ctx, linkKey{}, l)
}

// linkTCP runs before the handshake, on what ServeTLS made of a gatedConn.
func (s *Server) linkTCP(ctx context.Context, c net.Conn) context.Context {
	g := c.(*tls.Conn).NetConn().(*gatedConn)
	// Below TLS, whose farewell would wait for a peer that does not read.
	l := &link{remote: addrPortOf(c.RemoteAddr()), close: func() { _ = g.Close() }}
	l.pass = g.pass
	g.ended = func() { s.links.remove(l) }
	s.links.add(l)
	l.watch(2 * s.limits.FirstRequest)
	return context.WithValue(ctx, linkKey{}, l)
}

// handler wraps the handler of the config in all that every request needs. Its frame
// is small: it lies on the stack of every request that is parked.
func (s *Server) handler(transport string) http.Handler {
	requests := &s.overTCP
	if transport == "quic" {
		requests = &s.overQUIC
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		out := &writer{ResponseWriter: w, limits: &s.limits}
		defer s.recover(out, r)
		r, end := s.receive(transport, out, r)
		if end != nil {
			defer end()
		}
		if r != nil {
			s.config.Handler.ServeHTTP(out, r)
		}
	})
}

// welcome tells whether a request that was answered has shown that its client belongs
// here: without a certificate, nobody changes anything who has no token.
func welcome(w *writer, r *http.Request) bool {
	return r.Method == http.MethodPost && w.status/100 == 2
}

// receive finds out who speaks and bounds what they send. It returns the request as
// the handler takes it, or nil where it has refused it; end, where there is one, is
// called in any case.
func (s *Server) receive(transport string, w *writer, r *http.Request) (served *http.Request, end func()) {
	read := func() Caller { return callerOf(r.TLS, s.config.Cluster, transport, remoteOf(r)) }
	var caller Caller
	if l := linkOf(r.Context()); l == nil {
		caller = read()
	} else {
		var active int
		caller, active = l.begin(read)
		end = func() { l.end(s.limits.Idle, welcome(w, r)) }
		if caller.Kind != Coordinator && active > s.limits.Streams {
			WriteError(w, r, &protocol.Error{
				Code: protocol.CodeBusy, RetryAfter: 1,
				Message: fmt.Sprintf("more than %d requests at once on one connection", s.limits.Streams),
			})
			return nil, end
		}
	}
	if transport == "tcp" && s.altSvc != "" {
		w.Header().Set("Alt-Svc", s.altSvc)
	}
	if !caller.NotAfter.IsZero() && time.Now().After(caller.NotAfter) {
		s.overdue.Add(1)
		if transport == "tcp" {
			w.Header().Set("Connection", "close") // HTTP/3 has no such header; there Idle ends it
		}
		WriteError(w, r, protocol.Errorf(protocol.CodeUnauthorized,
			"certificate ended at %s: renew it", caller.NotAfter.UTC().Format(time.RFC3339)))
		return nil, end
	}
	limit := int64(protocol.MaxExchangeBytes)
	if s.config.BodyLimit != nil {
		limit = s.config.BodyLimit(r)
	}
	if r.ContentLength > limit {
		WriteError(w, r, protocol.Errorf(protocol.CodeTooLarge, "body of %d bytes, at most %d", r.ContentLength, limit))
		return nil, end
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w.ResponseWriter, newSteadyBody(w.ResponseWriter, r.Body, &s.limits), limit)
	}
	return r.WithContext(WithCaller(r.Context(), caller)), end
}

// recover ends a request whose handler panicked: with an error if the reply has
// not begun, else by breaking it off, so that nobody takes it for whole.
func (s *Server) recover(w *writer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
		s.panics.Add(1)
		s.config.Logger.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
		if !w.begun {
			WriteError(w, r, protocol.Errorf(protocol.CodeInternal, "internal error"))
			return
		}
	}
	panic(http.ErrAbortHandler) // what net/http and http3 take as: break the reply off
}

func remoteOf(r *http.Request) netip.AddrPort {
	p, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero address where there is none
	return p
}
