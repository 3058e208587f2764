package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"floe/protocol"
)

// simulated puts a server and a pilot's client on a network with 300 ms of round
// trip, in virtual time. A wire may be put between the client and the network.
func simulated(t *testing.T, handler http.Handler, f func(t *testing.T, cl *Client, s *Server), wires ...*wire) {
	synctest.Test(t, func(t *testing.T) {
		network := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
		link := simnet.NodeBiDiLinkSettings{Latency: 150 * time.Millisecond}
		serverAddr := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 443}
		serverConn := network.NewEndpoint(serverAddr, link)
		var clientConn net.PacketConn = network.NewEndpoint(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 2).To4(), Port: 5000}, link)
		for _, w := range wires {
			w.PacketConn, clientConn = clientConn, w
		}
		if err := network.Start(); err != nil {
			t.Fatal(err)
		}
		ca := newCA(t)
		cert := ca.leaf(t, nodeURI, 24*time.Hour, ServerNames(testCluster)...)
		s, err := NewServer(ServerConfig{
			Cluster: testCluster, Addr: "10.0.0.1:443", Handler: handler, DisableTCP: true,
			ListenUDP:   func(string) (net.PacketConn, error) { return serverConn, nil },
			Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
			ClientCAs:   ca.pool, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		pilot := ca.leaf(t, pilotURI, 24*time.Hour)
		cl, err := NewClient(ClientConfig{
			Cluster: testCluster, Door: DoorPilot, Addresses: []string{"10.0.0.1:443"}, Pins: []protocol.Digest{ca.pin()},
			Certificate: func() (*tls.Certificate, error) { return pilot, nil },
			DialUDP:     func(context.Context) (net.PacketConn, error) { return clientConn, nil },
			DialTCP: func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("no tcp in this network")
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		f(t, cl, s)
		cl.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
}

// wire is a network card whose wire can be cut: what is sent then, either way, is lost.
type wire struct {
	net.PacketConn
	cut atomic.Bool
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	if w.cut.Load() {
		return len(b), nil
	}
	return w.PacketConn.WriteTo(b, to)
}

// ReadFrom drops what a cut wire would not have brought: a dead server says
// nothing either, not even again what was not acknowledged.
func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := w.PacketConn.ReadFrom(b)
		if err != nil || !w.cut.Load() {
			return n, from, err
		}
	}
}

func TestDeadServerIsNoticed(t *testing.T) {
	park := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	var w wire
	simulated(t, park, func(t *testing.T, cl *Client, _ *Server) {
		for _, test := range []struct {
			what  string
			limit time.Duration // longer than it takes, shorter than QUIC's idle timeout
			cut   time.Duration // after this much of the request
		}{
			{"a request that never arrives", 8 * time.Second, 0},
			{"a parked request", 40 * time.Second, 5 * time.Minute},
		} {
			w.cut.Store(false)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/pilots/exchange", nil)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := cl.acquire(t.Context()); err != nil {
				t.Fatal(err)
			} else {
				cl.release(s, false)
			}
			// Cut before the request is sent, not beside it: one that arrived and was
			// acknowledged is a parked one, noticed at the next keep-alive only.
			w.cut.Store(test.cut == 0)
			failed := make(chan error, 1)
			go func() {
				_, err := cl.Do(t.Context(), r)
				failed <- err
			}()
			cut := time.AfterFunc(test.cut, func() { w.cut.Store(true) })
			late := time.NewTimer(test.cut + test.limit) // virtual
			select {
			case err := <-failed:
				if err == nil {
					t.Errorf("%s was answered", test.what)
				}
			case <-late.C:
				t.Errorf("%s still waits %v after the server has gone", test.what, test.limit)
				cl.Close()
				<-failed
			}
			cut.Stop()
			late.Stop()
		}
		w.cut.Store(false)
	}, &w)
}

func TestParkedRequestOutlivesIdleTimeouts(t *testing.T) {
	park := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(protocol.MaxWait.Duration()):
			who(w, r)
		case <-r.Context().Done():
		}
	})
	simulated(t, park, func(t *testing.T, cl *Client, s *Server) {
		for range 12 { // an hour of a pilot for which nothing fits
			var got echo
			if err := cl.CallCBOR(t.Context(), "POST", "/v1/pilots/exchange", echo{"x"}, &got); err != nil {
				t.Fatal(err)
			}
		}
		if st := s.Stats(); st.QUICRequests != 12 || st.Connections != 1 || st.Strangers != 0 {
			t.Errorf("Stats() = %+v, want 12 requests over one connection and no stranger", st)
		}
	})
}

func TestSilentConnectionIsClosed(t *testing.T) {
	simulated(t, http.HandlerFunc(who), func(t *testing.T, cl *Client, s *Server) {
		if err := cl.CallCBOR(t.Context(), "GET", "/", nil, nil); err != nil {
			t.Fatal(err)
		}
		<-time.After(11 * time.Minute) // virtual; keep-alives go on
		synctest.Wait()
		if n := s.Stats().Connections; n != 0 {
			t.Errorf("%d connections after more than Limits.Idle without a request", n)
		}
		if err := cl.CallCBOR(t.Context(), "GET", "/", nil, nil); err != nil {
			t.Errorf("the next request: %v", err)
		}
	})
}
