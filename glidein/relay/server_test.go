package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"floe/protocol"
	"floe/protocol/transport"
)

// echo is a far side that says back what it hears.
func echo(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			serving.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return l.Addr().String()
}

func newKey(t testing.TB) *transport.RelayKey {
	t.Helper()
	text, err := transport.NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := transport.ParseRelayKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rig is a relay that serves.
type rig struct {
	key     *transport.RelayKey
	server  *Server
	address string
	stopped chan struct{}
}

func newRig(t testing.TB, coordinators, storage []string, limits Limits) *rig {
	t.Helper()
	r := &rig{key: newKey(t), stopped: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	r.server = NewServer(Config{
		Key: r.key, Coordinators: func() []string { return coordinators }, Storage: storage, Limits: limits, Stop: stop,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return transport.DialOut(ctx, nil, address)
		},
		Status: Status{Version: "1"}, Logger: slog.New(slog.DiscardHandler),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	go func() {
		defer close(r.stopped)
		if err := r.server.Run(ctx, l); err != nil {
			t.Errorf("Run = %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-r.stopped })
	return r
}

func (r *rig) pass(launch protocol.LaunchID) *transport.RelayPass {
	return r.key.Issue(r.address, launch, time.Now().Add(time.Hour))
}

// talk sends a word through a tunnel and hears it back.
func talk(c net.Conn, word string) error {
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	back := make([]byte, len(word))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != word {
		return fmt.Errorf("heard %q, want %q", back, word)
	}
	return nil
}

func TestATunnelCarriesBothWays(t *testing.T) {
	far := echo(t)
	r := newRig(t, []string{far, "coordinator.example.org:4433"}, nil, Limits{})
	var told []string
	c, err := r.pass("l1").Tunnel(t.Context(), nil, far, func(a []string) { told = a })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	big := strings.Repeat("0123456789abcdef", 1<<14)
	go func() { _, _ = io.WriteString(c, big) }()
	back := make([]byte, len(big))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != big {
		t.Fatalf("%d bytes did not come back as they were: %v", len(big), err)
	}
	if want := []string{far, "coordinator.example.org:4433"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if f := r.server.ledger.figures(); f.Tunnels != 1 || f.Pilots != 1 || f.Bytes != uint64(2*len(big)) {
		t.Errorf("figures %+v", f)
	}
	// What the client has ended, the far side hears, and the other way round.
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(back); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
}

func TestStorageThatIsListedIsReached(t *testing.T) {
	far := echo(t)
	r := newRig(t, nil, []string{far}, Limits{})
	c, err := r.pass("l1").Tunnel(t.Context(), nil, far, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := talk(c, "hello"); err != nil {
		t.Error(err)
	}
}

// TestWhoIsRefused names everybody that a relay carries nothing for.
func TestWhoIsRefused(t *testing.T) {
	far, other := echo(t), echo(t)
	r := newRig(t, []string{far}, nil, Limits{})
	foreign := newKey(t).Issue(r.address, "l1", time.Now().Add(time.Hour))
	foreign.Pin = r.pass("l1").Pin // one who knows the relay, and has no pass of its site
	renamed := r.pass("l1")
	renamed.Launch = "l2"
	longer := r.pass("l1")
	longer.Expires += 3600
	for name, c := range map[string]struct {
		pass *transport.RelayPass
		to   string
		want string
	}{
		"another address":         {r.pass("l1"), other, "403"},
		"the machine itself":      {r.pass("l1"), "localhost:22", "403"},
		"an address without port": {r.pass("l1"), "127.0.0.1", "403"},
		"a pass of another site":  {foreign, far, "407"},
		"a pass of another job":   {renamed, far, "407"},
		"a pass made to last":     {longer, far, "407"},
		"a pass that has ended":   {r.key.Issue(r.address, "l1", time.Now().Add(-time.Second)), far, "407"},
		"a relay of another site": {newKey(t).Issue(r.address, "l1", time.Now().Add(time.Hour)), far, "not the relay of this site"},
		"no address":              {r.pass("l1"), StatusPath, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tunnel, err := c.pass.Tunnel(t.Context(), nil, c.to, nil)
			if err == nil {
				_ = tunnel.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Tunnel = %v, want %s", err, c.want)
			}
		})
	}
}

func TestACoordinatorThatIsDownIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := l.Addr().String()
	_ = l.Close()
	r := newRig(t, []string{down}, nil, Limits{})
	if _, err := r.pass("l1").Tunnel(t.Context(), nil, down, nil); err == nil || !strings.Contains(err.Error(), "502") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Tunnel = %v, want 502 and why", err)
	}
}

func TestOnlyTheSiteAsksAndStops(t *testing.T) {
	r := newRig(t, nil, nil, Limits{})
	ask := func(launch protocol.LaunchID, method, path string) string {
		c, err := r.pass(launch).Dial(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://relay"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.pass(launch).Authorize(request.Header)
		if err := request.Write(c); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil && len(answer) == 0 {
			t.Fatal(err)
		}
		return string(answer)
	}
	for _, path := range []string{StatusPath, StopPath} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if got := ask("l1", method, path); !strings.HasPrefix(got, "HTTP/1.1 405 ") {
				t.Errorf("a pilot's %s %s = %.40q, want 405", method, path, got)
			}
		}
	}
	if got := ask(PassName, http.MethodGet, StatusPath); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, `"version":"1"`) {
		t.Errorf("status = %q", got)
	}
	if got := ask(PassName, http.MethodPost, StopPath); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("stop = %q", got)
	}
	<-r.stopped
}

// TestAFloodStarvesNobody has one pilot job, and somebody without a pass, take all that
// they can get. Another pilot is served all the same.
func TestAFloodStarvesNobody(t *testing.T) {
	far := echo(t)
	r := newRig(t, []string{far}, nil, Limits{Tunnels: 8, TunnelsPerPilot: 4, Strangers: 64, StrangersPerHost: 16})
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	var refused error
	for range 20 {
		c, err := r.pass("greedy").Tunnel(t.Context(), nil, far, nil)
		if err != nil {
			refused = err
			continue
		}
		held = append(held, c)
	}
	if len(held) != 4 || refused == nil || !strings.Contains(refused.Error(), "429") {
		t.Fatalf("one pilot has %d tunnels, then %v; want 4, then 429", len(held), refused)
	}
	stranger := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range 40 {
		c, err := stranger.DialContext(t.Context(), "tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c) // and says nothing
	}
	for i := range 4 {
		c, err := r.pass("modest").Tunnel(t.Context(), nil, far, nil)
		if err != nil {
			t.Fatalf("tunnel %d of another pilot: %v", i, err)
		}
		held = append(held, c)
		if err := talk(c, "still here"); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.pass("third").Tunnel(t.Context(), nil, far, nil); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("beyond all tunnels: %v, want 429", err)
	}
	// What the greedy one gives back, others may have.
	_ = held[0].Close()
	for {
		c, err := r.pass("third").Tunnel(t.Context(), nil, far, nil)
		if err == nil {
			held = append(held, c)
			break
		}
		if !strings.Contains(err.Error(), "429") {
			t.Fatal(err)
		}
	}
}

func TestBytesAreBounded(t *testing.T) {
	far := echo(t)
	r := newRig(t, []string{far}, nil, Limits{Bytes: 1000})
	c, err := r.pass("l1").Tunnel(t.Context(), nil, far, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := talk(c, strings.Repeat("x", 400)); err != nil {
		t.Fatal(err)
	}
	if err := talk(c, strings.Repeat("x", 400)); err == nil {
		t.Error("1600 bytes passed, limit 1000")
	}
	if _, err := r.pass("l1").Tunnel(t.Context(), nil, far, nil); err == nil || !strings.Contains(err.Error(), "used up") {
		t.Errorf("another tunnel: %v, want it used up", err)
	}
	if c, err := r.pass("l2").Tunnel(t.Context(), nil, far, nil); err != nil {
		t.Errorf("another pilot: %v", err)
	} else {
		_ = c.Close()
	}
}

func TestASilentTunnelIsClosed(t *testing.T) {
	far := echo(t)
	r := newRig(t, []string{far}, nil, Limits{Idle: 50 * time.Millisecond})
	c, err := r.pass("l1").Tunnel(t.Context(), nil, far, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of a tunnel through which nothing passes", n)
	}
}

func TestAccountsAreForgottenWhenTheirPassHasEnded(t *testing.T) {
	l := newLedger(&Limits{Tunnels: 10, TunnelsPerPilot: 10, Bytes: 10})
	now := time.Unix(1_000_000, 0)
	for i := range 1000 {
		a, err := l.open(protocol.LaunchID(fmt.Sprint(i)), now.Add(time.Minute), now)
		if err != nil {
			t.Fatal(err)
		}
		l.close(a)
		now = now.Add(time.Minute)
	}
	if n := len(l.accounts); n > 70 {
		t.Errorf("%d accounts are kept, of which all but one have ended", n)
	}
	if l.tunnels != 0 || l.pilots != 0 {
		t.Errorf("%d tunnels of %d pilots", l.tunnels, l.pilots)
	}
}

// request is a client that has said all it will.
type request struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (r *request) Read(p []byte) (int, error)    { return r.in.Read(p) }
func (r *request) Write(p []byte) (int, error)   { return r.out.Write(p) }
func (*request) SetDeadline(time.Time) error     { return nil }
func (*request) SetReadDeadline(time.Time) error { return nil }
func (*request) Close() error                    { return nil }

// FuzzRequest sends anything in place of a request: nothing but what a good pass asks
// for is connected to, and every answer is whole.
func FuzzRequest(f *testing.F) {
	key := newKey(f)
	good := func(launch protocol.LaunchID) string {
		h := http.Header{}
		key.Issue("relay:1", launch, time.Now().Add(time.Hour)).Authorize(h)
		return "Proxy-Authorization: " + h.Get("Proxy-Authorization") + "\r\n"
	}
	for _, s := range []string{
		"", "\x00\x01", "CONNECT", "CONNECT coordinator:1 HTTP/1.1\r\n\r\n",
		"CONNECT coordinator:1 HTTP/1.1\r\nHost: coordinator:1\r\n" + good("l1") + "\r\n",
		"CONNECT elsewhere:1 HTTP/1.1\r\nHost: coordinator:1\r\n" + good("l1") + "\r\n",
		"CONNECT coordinator:1 HTTP/1.1\r\n" + good("l1") + "\r\nearly",
		"GET " + StatusPath + " HTTP/1.1\r\nHost: x\r\n" + good(PassName) + "\r\n",
		"POST " + StopPath + " HTTP/1.1\r\nHost: x\r\n" + good("l1") + "\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic OTk5OTk5OTk5OTkubDE6c2VjcmV0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var reached []string
		s := NewServer(Config{
			Key: key, Coordinators: func() []string { return []string{"coordinator:1"} }, Stop: func() {}, Logger: slog.New(slog.DiscardHandler),
			Dial: func(_ context.Context, address string) (net.Conn, error) {
				reached = append(reached, address)
				return nil, errors.New("nobody there")
			},
		})
		c := &request{in: bytes.NewReader(data)}
		s.speak(t.Context(), c, "somebody", func() {})
		for _, a := range reached {
			if a != "coordinator:1" {
				t.Errorf("connected to %q", a)
			}
		}
		if len(reached) > 0 && !bytes.Contains(bytes.ToLower(data), []byte("basic ")) {
			t.Error("connected without a pass")
		}
		if answer := c.out.Bytes(); len(answer) > 0 && (!bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) || !bytes.Contains(answer, []byte("\r\n\r\n"))) {
			t.Errorf("answer %q", answer)
		}
		if f := s.ledger.figures(); f.Tunnels != 0 {
			t.Errorf("%d tunnels stay", f.Tunnels)
		}
	})
}
