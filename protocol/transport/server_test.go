package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"floe/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testCluster = "test"
	nodeURI     = "spiffe://test/coordinator/n1"
	pilotURI    = "spiffe://test/site/zeuthen/pilot/p-1"
	siteURI     = "spiffe://test/site/zeuthen"
)

// startServer runs a server on a free loopback port until the test ends.
func startServer(t *testing.T, ca *testCA, handler http.Handler, change func(*ServerConfig)) *Server {
	t.Helper()
	cert := ca.leaf(t, nodeURI, time.Hour, ServerNames(testCluster)...)
	c := ServerConfig{
		Cluster: testCluster, Addr: "127.0.0.1:0", Handler: handler,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		ClientCAs:   ca.pool,
		Logger:      slog.New(slog.DiscardHandler),
		Limits:      Limits{Drain: 2 * time.Second},
	}
	if change != nil {
		change(&c)
	}
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil after its context ended", err)
		}
	})
	return s
}

func newTestClient(t *testing.T, ca *testCA, s *Server, change func(*ClientConfig)) *Client {
	t.Helper()
	c := ClientConfig{Cluster: testCluster, Pins: []protocol.Digest{ca.pin()}, Logger: slog.New(slog.DiscardHandler)}
	c.HeadStart = 50 * time.Millisecond
	if s != nil {
		c.Addresses = []string{s.Addr().String()}
	}
	if change != nil {
		change(&c)
	}
	cl, err := NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func as(door Door, cert *tls.Certificate) func(*ClientConfig) {
	return func(c *ClientConfig) {
		c.Door = door
		c.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	}
}

func withDeadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// overBoth runs the test over QUIC and over TCP.
func overBoth(t *testing.T, f func(t *testing.T, only func(*ServerConfig))) {
	t.Run("quic", func(t *testing.T) { f(t, func(c *ServerConfig) { c.DisableTCP = true }) })
	t.Run("tcp", func(t *testing.T) { f(t, func(c *ServerConfig) { c.DisableQUIC = true }) })
}

// echo is a message with a shape of its own.
type echo struct {
	Text string `cbor:"1,keyasint" json:"text"`
}

// who answers with the caller's identity.
func who(w http.ResponseWriter, r *http.Request) {
	c := CallerOf(r.Context())
	_ = WriteCBOR(w, echo{fmt.Sprintf("%v %v site=%s pilot=%s node=%s key=%t over %s",
		c.Kind, c.Door, c.Site, c.Pilot, c.Node, !c.KeyFingerprint.IsZero(), c.Transport)})
}

func TestCallerIsWhatTheCertificateSays(t *testing.T) {
	ca := newCA(t)
	tests := []struct {
		name string
		door Door
		uri  string
		want string
	}{
		{"pilot", DoorPilot, pilotURI, "pilot pilot site=zeuthen pilot=p-1 node= key=true over "},
		{"site", DoorSite, siteURI, "site site site=zeuthen pilot= node= key=true over "},
		{"peer", DoorPeer, "spiffe://test/coordinator/n2", "coordinator peer site= pilot= node=n2 key=true over "},
		{"enrol asks for none", DoorEnrol, pilotURI, "anonymous enrol site= pilot= node= key=false over "},
		{"people are not asked", DoorPeople, pilotURI, "anonymous api site= pilot= node= key=false over "},
	}
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(who), only)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				cl := newTestClient(t, ca, s, as(test.door, ca.leaf(t, test.uri, time.Hour)))
				var got echo
				if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, &got); err != nil {
					t.Fatal(err)
				}
				want := test.want + map[Rung]string{RungQUIC: "quic", RungTCP: "tcp"}[cl.Rung()]
				if got.Text != want {
					t.Errorf("caller = %q, want %q", got.Text, want)
				}
			})
		}
	})
}

func TestDoorsRefuseWrongCertificates(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	tests := []struct {
		name string
		door Door
		cert *tls.Certificate
	}{
		{"none", DoorPilot, &tls.Certificate{}},
		{"site's at the pilots' door", DoorPilot, ca.leaf(t, siteURI, time.Hour)},
		{"pilot's at the peers' door", DoorPeer, ca.leaf(t, pilotURI, time.Hour)},
		{"expired", DoorPilot, ca.leaf(t, pilotURI, -time.Minute)},
		{"of another cluster's name", DoorPilot, ca.leaf(t, "spiffe://other/site/a/pilot/b", time.Hour)},
		{"of another root", DoorPilot, other.leaf(t, pilotURI, time.Hour)},
		{"no identity", DoorPilot, ca.leaf(t, "https://example.org/", time.Hour)},
	}
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		var served atomic.Int32
		s := startServer(t, ca, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }), only)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				cl := newTestClient(t, ca, s, as(test.door, test.cert))
				if err := cl.CallCBOR(withDeadline(t), "GET", "/", nil, nil); err == nil {
					t.Error("call succeeded")
				}
			})
		}
		if n := served.Load(); n != 0 {
			t.Errorf("%d requests reached the handler", n)
		}
	})
}

func TestCertificateThatEndsDuringTheConnection(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(who), only)
		var mu sync.Mutex
		cert := ca.leaf(t, pilotURI, 2*time.Second)
		cl := newTestClient(t, ca, s, func(c *ClientConfig) {
			c.Door = DoorPilot
			c.Certificate = func() (*tls.Certificate, error) {
				mu.Lock()
				defer mu.Unlock()
				return cert, nil
			}
		})
		ctx := withDeadline(t)
		for {
			err := cl.CallCBOR(ctx, "GET", "/who", nil, nil)
			if err == nil {
				continue
			}
			if protocol.CodeOf(err) != protocol.CodeUnauthorized {
				t.Fatalf("err = %v, want unauthorized", err)
			}
			break
		}
		mu.Lock()
		cert = ca.leaf(t, pilotURI, time.Hour)
		mu.Unlock()
		if err := cl.CallCBOR(ctx, "GET", "/who", nil, nil); err != nil {
			t.Errorf("with the renewed certificate: %v", err)
		}
	})
}

func TestBodyOverTheLimitIsRefused(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var v []byte
			WriteError(w, r, ReadCBOR(r, 1<<30, &v))
		}), func(c *ServerConfig) { only(c); c.BodyLimit = func(*http.Request) int64 { return 100 } })
		cl := newTestClient(t, ca, s, nil)
		if err := cl.CallCBOR(withDeadline(t), "POST", "/", make([]byte, 200), nil); protocol.CodeOf(err) != protocol.CodeTooLarge {
			t.Errorf("declared length: %v, want too-large", err)
		}
		body, _ := protocol.Marshal(make([]byte, 200))
		r, _ := http.NewRequest("POST", "/", io.MultiReader(bytes.NewReader(body)))
		r.Header.Set("Content-Type", TypeCBOR)
		resp, err := cl.Do(withDeadline(t), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := ResponseError(resp); protocol.CodeOf(err) != protocol.CodeTooLarge {
			t.Errorf("undeclared length: %v, want too-large", err)
		}
	})
}

func TestSlowBodyIsGivenUp(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		gone := make(chan error, 1)
		s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			gone <- err
		}), func(c *ServerConfig) { only(c); c.Limits.Patience = 50 * time.Millisecond })
		cl := newTestClient(t, ca, s, nil)
		slow, feed := io.Pipe()
		defer feed.Close()
		r, _ := http.NewRequest("POST", "/", slow)
		ctx, cancel := context.WithCancel(withDeadline(t))
		defer cancel()
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			if resp, err := cl.Do(ctx, r); err == nil {
				_ = resp.Body.Close()
			}
		}()
		if _, err := feed.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-gone; err == nil {
			t.Error("the body ended without an error")
		}
		cancel()
		_ = feed.Close()
		<-finished
	})
}

func TestPanicEndsItsRequestOnly(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/early":
				panic("early")
			case "/late":
				_, _ = io.WriteString(w, strings.Repeat("x", 1<<16))
				w.(http.Flusher).Flush()
				panic("late")
			}
			who(w, r)
		}), only)
		cl := newTestClient(t, ca, s, nil)
		ctx := withDeadline(t)
		err := cl.CallCBOR(ctx, "GET", "/early", nil, nil)
		var e *protocol.Error
		if !errors.As(err, &e) || e.Code != protocol.CodeInternal || strings.Contains(e.Message, "early") {
			t.Errorf("before the reply: %v, want internal without details", err)
		}
		r, _ := http.NewRequest("GET", "/late", nil)
		resp, err := cl.Do(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(resp.Body); err == nil {
			t.Error("the broken reply looks whole")
		}
		_ = resp.Body.Close()
		if err := cl.CallCBOR(ctx, "GET", "/who", nil, nil); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if n := s.Stats().Panics; n != 2 {
			t.Errorf("Stats().Panics = %d, want 2", n)
		}
	})
}

func TestDisconnectClosesMatchingConnections(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		parked := make(chan struct{}, 2)
		s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			parked <- struct{}{}
			<-r.Context().Done()
		}), only)
		calls := make(map[string]chan error)
		for _, uri := range []string{pilotURI, "spiffe://test/site/zeuthen/pilot/p-2"} {
			cl := newTestClient(t, ca, s, as(DoorPilot, ca.leaf(t, uri, time.Hour)))
			calls[uri] = make(chan error, 1)
			ctx, cancel := context.WithCancel(withDeadline(t))
			t.Cleanup(cancel)
			go func() { calls[uri] <- cl.CallCBOR(ctx, "GET", "/", nil, nil) }()
			<-parked
		}
		if n := s.Disconnect(func(c Caller) bool { return c.Pilot == "p-1" }); n != 1 {
			t.Errorf("Disconnect = %d, want 1", n)
		}
		if err := <-calls[pilotURI]; err == nil {
			t.Error("the revoked pilot's request succeeded")
		}
		select {
		case err := <-calls["spiffe://test/site/zeuthen/pilot/p-2"]:
			t.Errorf("the other pilot's request ended: %v", err)
		default:
		}
	})
}

func TestStrangersAreBounded(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(who), func(c *ServerConfig) { only(c); c.Limits.StrangersPerNet = 1 })
		ctx := withDeadline(t)
		first := newTestClient(t, ca, s, nil)
		if err := first.CallCBOR(ctx, "GET", "/", nil, nil); err != nil {
			t.Fatal(err)
		}
		second := newTestClient(t, ca, s, func(c *ClientConfig) { c.HandshakeTimeout = time.Second })
		if err := second.CallCBOR(ctx, "GET", "/", nil, nil); err == nil {
			t.Error("a second stranger was let in")
		}
		first.Close()
		// A pilot is a stranger only until its first request.
		pilot := newTestClient(t, ca, s, as(DoorPilot, ca.leaf(t, pilotURI, time.Hour)))
		if err := pilot.CallCBOR(ctx, "GET", "/", nil, nil, Idempotent()); err != nil {
			t.Fatal(err)
		}
		third := newTestClient(t, ca, s, nil)
		if err := third.CallCBOR(ctx, "GET", "/", nil, nil, Idempotent()); err != nil {
			t.Error(err)
		}
		if s.Stats().Refused == 0 {
			t.Error("no refusal was counted")
		}
	})
}

// TestWhoShowsATokenIsNoStranger has one who was welcome leave its place to another.
func TestWhoShowsATokenIsNoStranger(t *testing.T) {
	ca := newCA(t)
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/refused" {
				WriteError(w, r, protocol.Errorf(protocol.CodeForbidden, "no"))
				return
			}
			who(w, r)
		})
		s := startServer(t, ca, handler, func(c *ServerConfig) { only(c); c.Limits.StrangersPerNet = 1 })
		ctx := withDeadline(t)
		first := newTestClient(t, ca, s, nil)
		if err := first.CallCBOR(ctx, "POST", "/refused", nil, nil); err == nil {
			t.Fatal("not refused")
		}
		if n := s.Stats().Strangers; n != 1 {
			t.Errorf("after a refusal: %d strangers, want 1", n)
		}
		if err := first.CallCBOR(ctx, "POST", "/", nil, nil); err != nil {
			t.Fatal(err)
		}
		second := newTestClient(t, ca, s, nil)
		if err := second.CallCBOR(ctx, "GET", "/", nil, nil, Idempotent()); err != nil {
			t.Error(err)
		}
	})
}

func TestRunLetsRequestsFinish(t *testing.T) {
	ca := newCA(t)
	for _, quic := range []bool{true, false} {
		t.Run(fmt.Sprintf("quic=%t", quic), func(t *testing.T) {
			begun, finish := make(chan struct{}), make(chan struct{})
			cert := ca.leaf(t, nodeURI, time.Hour, ServerNames(testCluster)...)
			s, err := NewServer(ServerConfig{
				Cluster: testCluster, Addr: "127.0.0.1:0", DisableQUIC: !quic, DisableTCP: quic,
				Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
				ClientCAs:   ca.pool, Logger: slog.New(slog.DiscardHandler),
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(begun)
					<-finish
					who(w, r)
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ran, called := make(chan error, 1), make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			cl := newTestClient(t, ca, s, nil)
			go func() { called <- cl.CallCBOR(t.Context(), "GET", "/", nil, nil) }()
			<-begun
			cancel()
			close(finish)
			if err := <-called; err != nil {
				t.Errorf("the request in progress: %v", err)
			}
			cl.Close()
			if err := <-ran; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

func TestBothTransportsShareThePortAndAnnounceIt(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	cl := newTestClient(t, ca, s, func(c *ClientConfig) { c.DisableQUIC = true })
	r, _ := http.NewRequest("GET", "/", nil)
	resp, err := cl.Do(withDeadline(t), r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	_, port, _ := net.SplitHostPort(s.Addr().String())
	if want := `h3=":` + port + `"; ma=86400`; resp.Header.Get("Alt-Svc") != want || resp.ProtoMajor != 2 {
		t.Errorf("Alt-Svc = %q over %s, want %q over HTTP/2", resp.Header.Get("Alt-Svc"), resp.Proto, want)
	}
}

func TestConfigMistakesAreToldAtOnce(t *testing.T) {
	_, err := NewServer(ServerConfig{Cluster: "Bad_Name", DisableQUIC: true, DisableTCP: true})
	for _, want := range []string{"Bad_Name", "logger", "disabled"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewServer error %v does not mention %q", err, want)
		}
	}
	_, err = NewClient(ClientConfig{Cluster: "-", Door: DoorPilot, Addresses: []string{"nohost"}})
	for _, want := range []string{`"-"`, "logger", "nohost", "certificate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewClient error %v does not mention %q", err, want)
		}
	}
}

func TestWriteErrorIsReadBack(t *testing.T) {
	want := &protocol.Error{Code: protocol.CodeBusy, Message: "later", RetryAfter: 7, Leader: "a:1", Details: []string{"x", "y"}}
	for _, accept := range []string{TypeCBOR, TypeJSON, ""} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		WriteError(w, r, fmt.Errorf("wrapped: %w", want))
		resp := w.Result()
		if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "7" {
			t.Errorf("Accept %q: status %d, Retry-After %q", accept, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		var got *protocol.Error
		if err := ResponseError(resp); !errors.As(err, &got) {
			t.Fatalf("Accept %q: %v", accept, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Accept %q: -want +got:\n%s", accept, d)
		}
	}
	w := httptest.NewRecorder()
	WriteError(w, httptest.NewRequest("GET", "/", nil), errors.New("password is 123"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "123") {
		t.Errorf("internals are told: %d %s", w.Code, w.Body)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestOneConnectionMayNotHoldTheServerBusy(t *testing.T) {
	ca := newCA(t)
	finish := make(chan struct{})
	parked := make(chan struct{}, 8)
	s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parked <- struct{}{}
		<-finish
		who(w, r)
	}), func(c *ServerConfig) { c.DisableQUIC, c.Limits.Streams = true, 2 })
	for _, test := range []struct {
		name string
		door Door
		uri  string
		want protocol.Code
	}{
		{"pilot", DoorPilot, pilotURI, protocol.CodeBusy},
		{"peer", DoorPeer, "spiffe://test/coordinator/n2", protocol.CodeOK},
	} {
		cl := newTestClient(t, ca, s, as(test.door, ca.leaf(t, test.uri, time.Hour)))
		ctx := withDeadline(t)
		done := make(chan error, 3)
		call := func() { done <- cl.CallCBOR(ctx, "GET", "/", nil, nil) }
		go call()
		<-parked
		go call()
		<-parked
		go call()
		if test.want == protocol.CodeBusy {
			if err := <-done; protocol.CodeOf(err) != test.want {
				t.Errorf("%s: the third request: %v, want busy", test.name, err)
			}
			finish <- struct{}{}
		} else {
			<-parked
			finish <- struct{}{}
			finish <- struct{}{}
		}
		finish <- struct{}{}
		for range cap(done) - map[bool]int{true: 1}[test.want == protocol.CodeBusy] {
			if err := <-done; err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}
