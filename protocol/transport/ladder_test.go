package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// nobody is an address at which nobody answers.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestAddressesAreFoundElsewhere has a client whose coordinators have all moved: it asks
// who else knows, and believes that no longer than until a coordinator says better.
func TestAddressesAreFoundElsewhere(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	old, asked := nobody(t), 0
	cl := newTestClient(t, ca, s, func(c *ClientConfig) {
		c.Addresses, c.HandshakeTimeout = []string{old}, time.Second
		c.Elsewhere = func() []string {
			asked++
			return []string{"not an address", old, s.Addr().String()}
		}
	})
	for range 2 {
		if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{old, s.Addr().String()}; asked != 1 || !slices.Equal(cl.Addresses(), want) {
		t.Errorf("asked %d times, knows %q, want once and %q", asked, cl.Addresses(), want)
	}
	if err := cl.SetAddresses([]string{s.Addr().String()}); err != nil || len(cl.Addresses()) != 1 {
		t.Errorf("coordinators say %v, the client knows %q: %v", s.Addr(), cl.Addresses(), err)
	}
}

// TestARelayIsTheLastRung has a client that reaches nothing but a relay, and has the
// relay tell it that its coordinator has moved.
func TestARelayIsTheLastRung(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, ca, http.HandlerFunc(who), nil)
	text, err := NewRelayKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseRelayKey(text)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", key.TLS())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = l.Close() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { relayFor(c, key, s.Addr().String()) })
		}
	})
	cl := newTestClient(t, ca, s, func(c *ClientConfig) {
		c.Addresses, c.HandshakeTimeout = []string{"coordinator.invalid:4433"}, 5*time.Second
		c.Relay = key.Issue(l.Addr().String(), "l1", time.Now().Add(time.Hour))
		c.DialUDP = func(context.Context) (net.PacketConn, error) { return nil, errors.New("no route") }
		c.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != l.Addr().String() {
				return nil, errors.New("no way out")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	defer cl.Close()
	if err := cl.CallCBOR(withDeadline(t), "GET", "/who", nil, nil); err != nil {
		t.Fatal(err)
	}
	rung, why := cl.Way()
	if rung != RungRelay || !strings.Contains(why, "no route") || !strings.Contains(why, "no way out") {
		t.Errorf("Way() = %v because of %q", rung, why)
	}
}

// relayFor is a relay that carries to one address alone and tells it to everybody.
func relayFor(c net.Conn, key *RelayKey, to string) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if _, _, err := key.Admit(r, time.Now()); err != nil || r.Host != to {
		fmt.Fprintf(c, "HTTP/1.1 403 Forbidden\r\n%s: %s\r\nContent-Length: 0\r\n\r\n", RelayCoordinators, to)
		return
	}
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, far)
		_ = c.Close()
	}()
	_, _ = io.Copy(far, c)
	_ = far.Close()
	<-back
}
