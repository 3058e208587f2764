package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"floe/protocol"
	"floe/protocol/transport"

	"golang.org/x/time/rate"
)

// Config of a server.
type Config struct {
	Key *transport.RelayKey
	// Coordinators are the addresses that the site knows now, asked for each tunnel.
	Coordinators func() []string
	// Storage are other addresses, host:port, that pilots may reach.
	Storage []string
	// Dial connects to one of them; see transport.DialOut.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Limits Limits
	// Status is what is told of the process, to which figures are added.
	Status Status
	// Stop ends the process when the site's pass says so.
	Stop   func()
	Logger *slog.Logger
}

// Status is what a relay says of itself.
type Status struct {
	Version string `json:"version"`
	// Address is where pilots reach the relay; with Listen, Storage and Stage it
	// is what the relay was started with.
	Address string    `json:"address"`
	Listen  string    `json:"listen"`
	Storage []string  `json:"storage,omitempty"`
	Stage   string    `json:"stage,omitempty"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Figures
}

// Figures are what a relay has done since it was started, and holds now.
type Figures struct {
	Tunnels int    `json:"tunnels"`
	Pilots  int    `json:"pilots"` // that hold tunnels
	Opened  uint64 `json:"opened"`
	Refused uint64 `json:"refused"`
	Failed  uint64 `json:"failed"` // tunnels to where nobody answered
	Bytes   uint64 `json:"bytes"`
}

// PassName stands for a pilot job's name in the pass of the site itself, who may ask for
// the status and stop the relay. No launch lease has such a name.
const PassName protocol.LaunchID = "_site"

// Paths that the site's own pass may ask for.
const (
	StatusPath = "/v1/status"
	StopPath   = "/v1/stop"
)

// Server is a relay. Run serves.
type Server struct {
	config  Config
	storage map[string]bool
	limits  Limits
	ledger  *ledger
	refusal rate.Sometimes // of log lines
}

// NewServer makes a server.
func NewServer(c Config) *Server {
	s := &Server{config: c, storage: map[string]bool{}, limits: c.Limits.withDefaults(), refusal: rate.Sometimes{First: 20, Interval: 10 * time.Second}}
	for _, a := range c.Storage {
		s.storage[strings.ToLower(a)] = true
	}
	s.ledger = newLedger(&s.limits)
	return s
}

// Run serves connections of l until ctx ends, and cuts off those under way: their
// clients connect anew. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("relay: %w", err)
		case err != nil: // as out of descriptors: some will be free again
			s.config.Logger.Warn("connection not taken", "err", err)
			pause := time.NewTimer(100 * time.Millisecond)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
			}
			continue
		}
		from := hostOf(conn.RemoteAddr())
		if !s.ledger.arrive(from) {
			_ = conn.Close()
			continue
		}
		serving.Go(func() {
			shown := sync.OnceFunc(func() { s.ledger.depart(from) })
			defer shown()
			cut := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer cut()
			defer conn.Close()
			s.serve(ctx, conn, shown)
		})
	}
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// serve speaks with one client. shown is called when it has shown a pass.
func (s *Server) serve(ctx context.Context, raw net.Conn, shown func()) {
	from := raw.RemoteAddr().String()
	_ = raw.SetDeadline(time.Now().Add(s.limits.Handshake))
	conn := tls.Server(raw, s.config.Key.TLS())
	if err := conn.HandshakeContext(ctx); err != nil {
		s.refused("not a pilot", from, "", err)
		return
	}
	s.speak(ctx, conn, from, shown)
}

// speak reads a request and does what it asks.
func (s *Server) speak(ctx context.Context, conn net.Conn, from string, shown func()) {
	const maxHeader = 8 << 10
	in := bufio.NewReader(io.LimitReader(conn, maxHeader))
	r, err := http.ReadRequest(in)
	if err != nil {
		s.refused("no request", from, "", err)
		return
	}
	launch, expires, err := s.config.Key.Admit(r, time.Now())
	if err != nil {
		s.refuse(conn, from, launch, http.StatusProxyAuthRequired, err)
		return
	}
	shown()
	switch {
	case launch == PassName && r.Method == http.MethodGet && r.URL.Path == StatusPath:
		status := s.config.Status
		status.Figures = s.ledger.figures()
		s.answer(conn, http.StatusOK, "application/json", status)
	case launch == PassName && r.Method == http.MethodPost && r.URL.Path == StopPath:
		s.answer(conn, http.StatusOK, "application/json", s.config.Status)
		s.config.Stop()
	case r.Method != http.MethodConnect || in.Buffered() > 0:
		s.refuse(conn, from, launch, http.StatusMethodNotAllowed, fmt.Errorf("%.20q: want CONNECT, and nothing after it", r.Method))
	default:
		s.connect(ctx, conn, from, launch, expires, r.Host)
	}
}

// connect opens a tunnel and keeps it until it ends.
func (s *Server) connect(ctx context.Context, conn net.Conn, from string, launch protocol.LaunchID, expires time.Time, target string) {
	target = strings.ToLower(target)
	if !s.allowed(target) {
		s.refuse(conn, from, launch, http.StatusForbidden, fmt.Errorf("%.100q is no address of a coordinator, and no storage that this site lists", target))
		return
	}
	account, err := s.ledger.open(launch, expires, time.Now())
	if err != nil {
		s.refuse(conn, from, launch, http.StatusTooManyRequests, err)
		return
	}
	defer s.ledger.close(account)
	dialing, cancel := context.WithTimeout(ctx, s.limits.Dial)
	far, err := s.config.Dial(dialing, target)
	cancel()
	if err != nil {
		s.ledger.failed.Add(1)
		_ = conn.SetDeadline(time.Now().Add(s.limits.Handshake))
		s.refuse(conn, from, launch, http.StatusBadGateway, err)
		return
	}
	defer far.Close()
	cut := context.AfterFunc(ctx, func() { _ = far.Close() })
	defer cut()
	_ = conn.SetDeadline(time.Now().Add(s.limits.Handshake))
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\n", s.known()); err != nil {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	s.ledger.opened.Add(1)
	s.config.Logger.Debug("tunnel", "launch", launch, "from", from, "to", target)
	carry(conn, far, s.limits.Idle, account.spend)
}

// allowed tells whether an address may be reached. Names are compared as they are
// written: nothing is looked up.
func (s *Server) allowed(target string) bool {
	if transport.CheckAddress(target) != nil {
		return false
	}
	if s.storage[target] {
		return true
	}
	for _, a := range s.config.Coordinators() {
		if strings.ToLower(a) == target {
			return true
		}
	}
	return false
}

// known is the header that tells the coordinators' addresses.
func (s *Server) known() string {
	var good []string
	for _, a := range s.config.Coordinators() {
		if transport.CheckAddress(a) == nil {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return ""
	}
	return transport.RelayCoordinators + ": " + strings.Join(good, ",") + "\r\n"
}

// refused notes a client that was not served.
func (s *Server) refused(why, from string, launch protocol.LaunchID, err error) {
	s.ledger.refused.Add(1)
	s.refusal.Do(func() {
		s.config.Logger.Warn("refused", "why", why, "from", from, "launch", launch, "err", err)
	})
}

// refuse tells a client why it is not served.
func (s *Server) refuse(w io.Writer, from string, launch protocol.LaunchID, status int, err error) {
	s.refused(http.StatusText(status), from, launch, err)
	text := err.Error()
	text = text[:min(len(text), 280)] + "\n"
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %s\r\nConnection: close\r\n%s\r\n%s",
		status, http.StatusText(status), strconv.Itoa(len(text)), s.knownTo(launch), text) // who has gone does not hear it
}

// knownTo tells addresses to those who showed a pass.
func (s *Server) knownTo(launch protocol.LaunchID) string {
	if launch == "" {
		return ""
	}
	return s.known()
}

func (s *Server) answer(w io.Writer, status int, kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is ours
	}
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), kind, len(body), body)
}
