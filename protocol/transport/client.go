package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"floe/protocol"
)

// ClientConfig says whom a Client talks to, as whom, and how.
type ClientConfig struct {
	Cluster string
	// Door is the policy to ask for; zero is DoorPeople.
	Door Door
	// ServerName overrides the door's name, for a public certificate.
	ServerName string
	// Addresses are coordinators, or relays to them, as host:port; any order.
	Addresses []string
	// Pins are the SHA-256 of the public keys of the cluster's roots, as in tokens.
	// Without any, Roots decide; nil Roots are the system's.
	Pins  []protocol.Digest
	Roots *x509.CertPool
	// Certificate returns what to show to servers that ask; nil has none. It is
	// asked with each request: a session under another certificate is replaced, so
	// that a renewed one is in use at once.
	Certificate func() (*tls.Certificate, error)
	// Bearer returns the token to send as Authorization with each request; nil and
	// the empty string send none. It is asked after the server was verified.
	Bearer func() string
	// DialTCP and DialUDP open sockets; nil opens real ones.
	DialTCP func(ctx context.Context, network, address string) (net.Conn, error)
	DialUDP func(ctx context.Context) (net.PacketConn, error)
	// DisableQUIC leaves the first rung out.
	DisableQUIC bool
	// Proxy finds the proxy for a request, as http.ProxyFromEnvironment does; nil
	// leaves its rung out. Relay is the pass for the site's relay; nil leaves the last
	// rung out.
	Proxy func(*http.Request) (*url.URL, error)
	Relay *RelayPass
	// Elsewhere returns addresses of coordinators that others know, as those that a
	// site's passes have heard of. It is asked when nobody answers at the known ones;
	// nil knows none.
	Elsewhere func() []string
	// HandshakeTimeout bounds one attempt on one rung; default 10 s.
	HandshakeTimeout time.Duration
	// HeadStart is how long a rung is tried before the next is tried beside it;
	// default 500 ms. A lower rung is used only if it is ready first.
	HeadStart time.Duration
	// RetryTop is how long a lower rung is used before the ladder is climbed from
	// the top again; default 15 min.
	RetryTop time.Duration
	// KeepAlive is how often an idle QUIC connection is kept open; default 25 s with
	// a fifth of jitter.
	KeepAlive time.Duration
	UserAgent string
	Logger    *slog.Logger
}

// Validate returns all that is wrong with the config, joined.
func (c *ClientConfig) Validate() error {
	var errs []error
	if err := CheckCluster(c.Cluster); err != nil {
		errs = append(errs, err)
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("logger must be set"))
	}
	if c.Door.holder() != 0 && c.Certificate == nil {
		errs = append(errs, fmt.Errorf("door %v needs a certificate", c.Door))
	}
	return errors.Join(append(errs, checkAddresses(c.Addresses))...)
}

// top is the best rung that may be tried.
func (c *ClientConfig) top() Rung {
	if c.DisableQUIC {
		return RungTCP
	}
	return RungQUIC
}

func checkAddresses(addresses []string) error {
	var errs []error
	for _, a := range addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("address %q: want host:port", a))
		}
	}
	return errors.Join(errs...)
}

func (c *ClientConfig) serverName() string {
	if c.ServerName != "" {
		return c.ServerName
	}
	return c.Door.ServerName(c.Cluster)
}

// leaderDeaf is how long an unreachable leader is not tried first again.
const leaderDeaf = 2 * time.Minute

// Client reaches the coordinators of a cluster. It keeps one session, to the
// leader where that is known, and climbs down the ladder as it must. Its methods
// may be called concurrently; Close it when done.
type Client struct {
	config ClientConfig
	dialer dialer
	// connecting holds one token: whoever has it may connect, the others wait for
	// the session that comes of it.
	connecting chan struct{}

	mu        sync.Mutex
	announced []string // as SetAddresses was last given them
	addresses []string // shuffled, so that pilots spread over coordinators
	untried   []string // those of addresses that were only suggested, until they are tried
	leader    string
	// A leader that could not be reached from here is not preferred until then:
	// followers forward.
	deafLeader string
	deafUntil  time.Time
	broken     string // address whose session broke last: it is tried last
	current    *session
	rung       Rung      // that worked last; 0 before any did
	why        string    // the rungs above did not
	fellAt     time.Time // when the client last climbed from the top, and came to a lower rung
	closed     bool

	authorities []*x509.Certificate // of the last server that was verified by a pin
}

// NewClient makes a client; it connects with the first request.
func NewClient(c ClientConfig) (*Client, error) {
	setDefault(&c.Door, DoorPeople)
	setDefault(&c.HandshakeTimeout, quicHandshake)
	setDefault(&c.HeadStart, 500*time.Millisecond)
	setDefault(&c.RetryTop, 15*time.Minute)
	setDefault(&c.KeepAlive, quicKeepAlive*4/5+rand.N(quicKeepAlive*2/5))
	setDefault(&c.UserAgent, "floe")
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("transport client: %w", err)
	}
	cl := &Client{config: c, connecting: make(chan struct{}, 1)}
	cl.dialer = dialer{config: &cl.config, tls: clientTLS(&cl.config, cl.setAuthorities), suggested: cl.suggest}
	if err := cl.SetAddresses(c.Addresses); err != nil {
		return nil, fmt.Errorf("transport client: %w", err)
	}
	return cl, nil
}

// Authorities are those that signed the certificate of the last coordinator that was
// reached, the issuing one first; none before that, and none without pins. They sign
// the certificates of pilots and sites, too.
func (c *Client) Authorities() []*x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.authorities
}

func (c *Client) setAuthorities(chain []*x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.authorities = chain
}

// SetAddresses replaces the addresses, as answers bring them. A session in use
// stays until it fails. An empty list is ignored.
func (c *Client) SetAddresses(addresses []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Equal(c.announced, addresses) {
		return nil // each answer to a pilot names them
	}
	if err := checkAddresses(addresses); err != nil || len(addresses) == 0 {
		return err
	}
	c.announced = slices.Clone(addresses)
	if sameMembers(c.addresses, addresses) {
		return nil
	}
	c.addresses, c.untried = slices.Clone(addresses), nil
	rand.Shuffle(len(c.addresses), func(i, j int) {
		c.addresses[i], c.addresses[j] = c.addresses[j], c.addresses[i]
	})
	return nil
}

func sameMembers(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// SetLeader makes the next request go to the leader, over a new session if the
// present one leads elsewhere. Requests in progress end where they began. An
// empty or malformed address is ignored: it is a hint.
func (c *Client) SetLeader(address string) {
	if address == "" || checkAddresses([]string{address}) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if address == c.deafLeader && time.Now().Before(c.deafUntil) {
		return
	}
	c.leader = address
	if c.current != nil && c.current.address != address {
		c.retireLocked(c.current)
	}
}

// Addresses returns the addresses known.
func (c *Client) Addresses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.addresses)
}

// Rung returns the way in use, or the last that worked; zero before any did.
func (c *Client) Rung() Rung {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rung
}

// Way returns the way in use, or the last that worked, and why those above did not when
// they were last tried; zero and empty before any did.
func (c *Client) Way() (rung Rung, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rung, c.why
}

// Address returns the coordinator that the session in use leads to; empty without
// a session.
func (c *Client) Address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return ""
	}
	return c.current.address
}

// Close ends all sessions and the requests on them.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	s := c.current
	c.current = nil
	c.mu.Unlock()
	if s != nil {
		s.close()
	}
	c.dialer.closeUDP()
}

var errClosed = errors.New("client is closed")

// Do sends one request, whose URL holds path and query only, and returns the
// response whatever its status. It tries every address and rung to get a session,
// but sends the request once: an error after that leaves its fate unknown.
// The caller closes the body.
func (c *Client) Do(ctx context.Context, r *http.Request) (*http.Response, error) {
	s, err := c.acquire(ctx)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
	}
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.Host = "https", c.config.serverName(), ""
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", c.config.UserAgent)
	}
	if c.config.Bearer != nil && out.Header.Get("Authorization") == "" {
		if token := c.config.Bearer(); token != "" {
			out.Header.Set("Authorization", "Bearer "+token)
		}
	}
	resp, err := s.trip.RoundTrip(out)
	if err != nil {
		// One cancelled request says nothing about the session; any other error does.
		c.release(s, ctx.Err() == nil)
		if refusedUs(err) {
			err = protocol.Errorf(protocol.CodeUnauthorized, "the coordinator refused this certificate at %s: %v", c.config.serverName(), err)
		}
		return nil, fmt.Errorf("%s %s at %s over %v: %w", r.Method, r.URL.Path, s.address, s.rung, err)
	}
	resp.Body = &sessionBody{ReadCloser: resp.Body, done: func() { c.release(s, false) }}
	return resp, nil
}

// sessionBody keeps its session until it is closed.
type sessionBody struct {
	io.ReadCloser
	once sync.Once
	done func()
}

func (b *sessionBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.done)
	return err
}

// acquire returns the session in use, or connects.
func (c *Client) acquire(ctx context.Context) (*session, error) {
	var cert *tls.Certificate
	if c.config.Certificate != nil {
		var err error
		if cert, err = c.config.Certificate(); err != nil {
			return nil, fmt.Errorf("own certificate: %w", err)
		}
	}
	if s, err := c.use(cert); s != nil || err != nil {
		return s, err
	}
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s, err := c.use(cert); s != nil || err != nil {
		return s, err // another request has connected meanwhile
	}
	s, err := c.connect(ctx, cert)
	if err != nil {
		return nil, err
	}
	return s, c.adopt(s)
}

// use takes the present session, unless it has ended, shows another certificate
// or a better rung is due.
func (c *Client) use(cert *tls.Certificate) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	s := c.current
	if s == nil {
		return nil, nil
	}
	alive := s.alive()
	if !alive || s.cert != cert || s.rung > c.config.top() && c.retryTopLocked() {
		if c.retireLocked(s); !alive {
			c.brokeLocked(s)
		}
		return nil, nil
	}
	s.users++
	return s, nil
}

func (c *Client) retryTopLocked() bool { return time.Since(c.fellAt) >= c.config.RetryTop }

// release gives a session back; a broken one is not used again.
func (c *Client) release(s *session, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	if broken {
		c.retireLocked(s)
		c.brokeLocked(s)
	}
	if s.retired && s.users == 0 {
		s.close()
	}
}

// brokeLocked has the address of a session that broke be tried last.
func (c *Client) brokeLocked(s *session) {
	c.broken = s.address
	if c.leader == s.address {
		c.leader = "" // whoever answers next knows
	}
}

// retireLocked takes a session out of use; it is closed when its last user is done.
func (c *Client) retireLocked(s *session) {
	if c.current == s {
		c.current = nil
	}
	if !s.retired && s.users == 0 {
		s.close()
	}
	s.retired = true
}

// adopt makes s the session in use, takes it for the caller and says so when the
// way has changed. It asks nothing of s: one that was refused at once must tell
// its first user why.
func (c *Client) adopt(s *session) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		s.close()
		return errClosed
	}
	before := c.rung
	c.rung, c.current = s.rung, s
	switch {
	case s.climbed:
		c.why, c.fellAt = s.why, time.Now()
	case before != s.rung: // further down than what was remembered
		c.why = strings.TrimPrefix(c.why+"; "+s.why, "; ")
	}
	why := c.why
	if c.broken == s.address {
		c.broken = ""
	}
	s.users++
	if c.leader != "" && c.leader != s.address {
		c.deafLeader, c.deafUntil = c.leader, time.Now().Add(leaderDeaf)
		c.leader = ""
	}
	c.mu.Unlock()
	log := c.config.Logger.With("rung", s.rung.String(), "address", s.address)
	switch {
	case before == s.rung:
	case s.rung == RungRelay:
		log.Warn("no way out from here, using the site's relay", "err", why)
	case s.rung == RungProxy:
		log.Warn("direct connections blocked, using proxy", "err", why)
	case s.rung == RungTCP && !c.config.DisableQUIC:
		log.Warn("udp blocked, using tcp", "err", why)
	default:
		log.Info("connected")
	}
	return nil
}
