package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"floe/protocol"
)

func TestNothingIsSentToTheWrongServer(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	impostor := func(uri string, root *testCA) func(*ServerConfig) {
		cert := root.leaf(t, uri, time.Hour, ServerNames(testCluster)...)
		return func(c *ServerConfig) {
			c.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
		}
	}
	tests := []struct {
		name   string
		change func(*ServerConfig)
	}{
		{"another root", impostor(nodeURI, other)},
		{"a pilot's certificate", impostor(pilotURI, ca)},
		{"another cluster's coordinator", impostor("spiffe://other/coordinator/n1", ca)},
	}
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				var served atomic.Int32
				s := startServer(t, ca, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }),
					func(c *ServerConfig) { only(c); test.change(c) })
				cl := newTestClient(t, ca, s, func(c *ClientConfig) { c.Bearer = func() string { return "secret" } })
				err := cl.CallJSON(withDeadline(t), "POST", "/", echo{"secret"}, nil, Idempotent())
				if !errors.Is(err, ErrUntrusted) {
					t.Errorf("err = %v, want ErrUntrusted", err)
				}
				if n := served.Load(); n != 0 {
					t.Errorf("%d requests reached the impostor", n)
				}
			})
		}
	})
}

func TestRootPoolInsteadOfPin(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	cl := newTestClient(t, ca, s, func(c *ClientConfig) { c.Pins, c.Roots = nil, ca.pool() })
	if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil); err != nil {
		t.Error(err)
	}
	cl = newTestClient(t, ca, s, func(c *ClientConfig) { c.Pins, c.Roots = nil, x509.NewCertPool() })
	if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil, Idempotent()); !untrusted(err) {
		t.Errorf("err = %v, want an untrusted certificate", err)
	}
}

func TestClientFallsBackToTCPAndSaysSo(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), func(c *ServerConfig) { c.DisableQUIC = true })
	var log syncBuffer
	cl := newTestClient(t, ca, s, func(c *ClientConfig) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 3 {
		if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if cl.Rung() != RungTCP {
		t.Errorf("Rung() = %v, want tcp", cl.Rung())
	}
	if n := strings.Count(log.String(), "udp blocked, using tcp"); n != 1 {
		t.Errorf("log tells the fallback %d times, want once:\n%s", n, log.String())
	}
}

func TestClientReturnsToQUIC(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	var blocked atomic.Bool
	blocked.Store(true)
	cl := newTestClient(t, ca, s, func(c *ClientConfig) {
		c.RetryTop, c.HeadStart = time.Nanosecond, 10*time.Second
		c.DialUDP = func(context.Context) (net.PacketConn, error) {
			if blocked.Load() {
				return nil, errors.New("no route")
			}
			return net.ListenUDP("udp", nil)
		}
	})
	for _, want := range []Rung{RungTCP, RungQUIC} {
		if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil); err != nil {
			t.Fatal(err)
		}
		if cl.Rung() != want {
			t.Errorf("Rung() = %v, want %v", cl.Rung(), want)
		}
		blocked.Store(false)
	}
}

func TestClientPassesAProxy(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	var connects atomic.Int32
	var authorization atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization.Store(r.Header.Get("Proxy-Authorization"))
		far, err := net.Dial("tcp", r.Host)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer far.Close()
		connects.Add(1)
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		_, _ = io.Copy(near, far)
	}))
	defer proxy.Close()
	proxyURL, _ := url.Parse(proxy.URL)
	proxyURL.User = url.UserPassword("me", "pw")
	cl := newTestClient(t, ca, s, func(c *ClientConfig) {
		as(DoorPilot, ca.leaf(t, pilotURI, time.Hour))(c)
		c.DialUDP = func(context.Context) (net.PacketConn, error) { return nil, errors.New("no udp") }
		c.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != proxyURL.Host {
				return nil, errors.New("no route")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		c.Proxy = http.ProxyURL(proxyURL)
	})
	var got echo
	if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, &got); err != nil {
		t.Fatal(err)
	}
	if want := "pilot pilot site=zeuthen pilot=p-1 node= key=true over tcp"; got.Text != want {
		t.Errorf("caller = %q, want %q", got.Text, want)
	}
	if cl.Rung() != RungProxy || connects.Load() == 0 || authorization.Load() != "Basic bWU6cHc=" {
		t.Errorf("rung %v, %d connects, authorization %q", cl.Rung(), connects.Load(), authorization.Load())
	}
	cl.Close()
}

func TestNextAddressWhenOneIsDead(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	cl := newTestClient(t, ca, nil, func(c *ClientConfig) {
		c.Addresses = []string{dead.Addr().String(), s.Addr().String()}
		c.HandshakeTimeout = 300 * time.Millisecond
	})
	cl.SetLeader(dead.Addr().String())
	if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil); err != nil {
		t.Error(err)
	}
}

// Who has just died is not asked first who leads now.
func TestTheAddressOfABrokenSessionIsTriedLast(t *testing.T) {
	ca := newCA(t)
	cl := newTestClient(t, ca, nil, func(c *ClientConfig) { c.Addresses = []string{"a:1", "b:1", "c:1"} })
	cl.SetLeader("b:1")
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if order := cl.orderLocked(); order[0] != "b:1" || len(order) != 3 {
		t.Errorf("addresses are tried as %v, want the leader's first", order)
	}
	s := &session{address: "b:1", close: func() {}, users: 1}
	cl.current = s
	cl.mu.Unlock()
	cl.release(s, true)
	cl.mu.Lock()
	if order := cl.orderLocked(); order[2] != "b:1" || len(order) != 3 {
		t.Errorf("addresses are tried as %v, want the broken one's last", order)
	}
}

func TestCallGoesToTheLeader(t *testing.T) {
	ca := newCA(t)
	leader := startServer(t, ca, http.HandlerFunc(who), nil)
	follower := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, r, &protocol.Error{Code: protocol.CodeNotLeader, Message: "no", Leader: leader.Addr().String()})
	}), nil)
	cl := newTestClient(t, ca, follower, nil)
	for range 2 {
		if err := cl.CallCBOR(withDeadline(t), "POST", "/v1/x", echo{"x"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := follower.Stats().QUICRequests + follower.Stats().TCPRequests; n != 1 {
		t.Errorf("the follower was asked %d times, want once", n)
	}
}

func TestCallRepeatsWhatIsIdempotentOnly(t *testing.T) {
	ca := newCA(t)
	tests := []struct {
		code  protocol.Code
		opts  []CallOption
		tries int32
		want  protocol.Code
	}{
		{protocol.CodeUnknown, []CallOption{Idempotent()}, 2, protocol.CodeOK},
		{protocol.CodeBusy, []CallOption{Idempotent()}, 2, protocol.CodeOK},
		{protocol.CodeUnknown, nil, 1, protocol.CodeUnknown},
		{protocol.CodeBusy, nil, 1, protocol.CodeBusy},
		{protocol.CodeStale, []CallOption{Idempotent()}, 1, protocol.CodeStale},
		{protocol.CodeInternal, []CallOption{Idempotent()}, 1, protocol.CodeInternal},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%v/%d", test.code, test.tries), func(t *testing.T) {
			var tries atomic.Int32
			s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var in echo
				if err := ReadCBOR(r, 1000, &in); err != nil || in.Text != "x" {
					t.Errorf("body %+v, %v", in, err)
				}
				if tries.Add(1) == 1 {
					WriteError(w, r, protocol.Errorf(test.code, "not now"))
					return
				}
				_ = WriteCBOR(w, echo{"done"})
			}), nil)
			cl := newTestClient(t, ca, s, nil)
			err := cl.CallCBOR(withDeadline(t), "POST", "/", echo{"x"}, nil, test.opts...)
			if got := protocol.CodeOf(err); got != test.want || tries.Load() != test.tries {
				t.Errorf("code %v after %d tries, want %v after %d (%v)", got, tries.Load(), test.want, test.tries, err)
			}
		})
	}
}

func TestIdempotentCallOutlivesARestart(t *testing.T) {
	ca := newCA(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cl := newTestClient(t, ca, nil, func(c *ClientConfig) {
		c.Addresses = []string{addr}
		c.HandshakeTimeout = 200 * time.Millisecond
	})
	done := make(chan error, 1)
	ctx := withDeadline(t)
	go func() { done <- cl.CallCBOR(ctx, "GET", "/who", nil, nil, Idempotent()) }()
	startServer(t, ca, http.HandlerFunc(who), func(c *ServerConfig) { c.Addr = addr })
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFilesStreamBothWays(t *testing.T) {
	ca := newCA(t)
	const size = 24 << 20
	overBoth(t, func(t *testing.T, only func(*ServerConfig)) {
		s := startServer(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			if _, err := io.Copy(w, r.Body); err != nil {
				t.Error(err)
			}
		}), func(c *ServerConfig) {
			only(c)
			c.BodyLimit = func(*http.Request) int64 { return size }
		})
		cl := newTestClient(t, ca, s, nil)
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		r, _ := http.NewRequest("PUT", "/v1/blobs/x", io.MultiReader(bytes.NewReader(data))) // of unknown length
		resp, err := cl.Do(withDeadline(t), r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
		}
	})
}

func TestSilenceOfAServer(t *testing.T) {
	type look struct {
		at             time.Duration
		sent, received uint64
		want           bool
	}
	for _, test := range []struct {
		what  string
		looks []look
	}{
		{"an idle connection", []look{{0, 10, 10, false}, {time.Hour, 10, 10, false}}},
		{"a last acknowledgement", []look{{0, 10, 10, false}, {time.Second, 11, 10, false}, {time.Hour, 11, 10, false}}},
		{"a request long after that has as long to be answered", []look{
			{0, 10, 10, false},
			{time.Second, 11, 10, false},
			{time.Minute, 12, 10, false},
			{time.Minute + quicSilence - 1, 13, 10, false},
			{time.Minute + quicSilence, 14, 11, false},
		}},
		{"nor does what was answered before count", []look{
			{0, 12, 10, false},
			{quicSilence, 14, 11, false},
			{quicSilence + time.Second, 16, 11, false},
			{2*quicSilence + time.Second - 1, 16, 11, false},
		}},
		{"a request that is sent again, and never answered", []look{
			{0, 10, 10, false},
			{time.Second, 11, 10, false},
			{2 * time.Second, 13, 10, false},
			{2*time.Second + quicSilence, 15, 10, true},
		}},
	} {
		var s silence
		began := time.Now()
		for _, l := range test.looks {
			if got := s.lasts(began.Add(l.at), l.sent, l.received); got != l.want {
				t.Errorf("%s: after %v, %d sent, %d received: %t, want %t", test.what, l.at, l.sent, l.received, got, l.want)
			}
		}
	}
}
