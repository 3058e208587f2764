package site_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"floe/cache"
	"floe/cache/site"
	"floe/coordinator/auth"
	"floe/protocol"
	"floe/protocol/transport"
)

// cluster signs certificates.
type cluster struct {
	t *testing.T
	*auth.Cluster
}

func newCluster(t *testing.T) cluster {
	t.Helper()
	c, err := auth.InitCluster(filepath.Join(t.TempDir(), "keys"), "icecube", "c1")
	if err != nil {
		t.Fatal(err)
	}
	return cluster{t, c}
}

// authorities are what a coordinator shows.
func (c cluster) authorities() []*x509.Certificate {
	own, err := c.Certificate()
	if err != nil {
		c.t.Fatal(err)
	}
	var all []*x509.Certificate
	for _, der := range own.Certificate[1:] {
		a, err := x509.ParseCertificate(der)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// certificate is that of a site, or of a pilot of it.
func (c cluster) certificate(of protocol.SiteID, pilot protocol.PilotID) *tls.Certificate {
	c.t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	csr, err := transport.NewCSR(key)
	if err != nil {
		c.t.Fatal(err)
	}
	var chain []byte
	if pilot == "" {
		chain, _, err = c.CertifySite(csr, of)
	} else {
		chain, _, err = c.CertifyPilot(csr, of, pilot)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := transport.AssembleCertificate(chain, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

func (c cluster) within(of protocol.SiteID, cert *tls.Certificate) *transport.WithinSite {
	return &transport.WithinSite{
		Cluster: c.Name(), Site: func() protocol.SiteID { return of },
		Certificate: func() (*tls.Certificate, error) { return cert, nil }, Authorities: c.authorities,
	}
}

// served is a server, and how a pilot asks it.
type served struct {
	t       *testing.T
	address string
	server  *site.Server
	stop    context.CancelFunc
	done    chan error
}

func serve(t *testing.T, c cluster, config site.Config) *served {
	t.Helper()
	store, err := cache.Open(cache.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	config.Store, config.Logger = store, slog.New(slog.DiscardHandler)
	config.TLS = c.within("dune", c.certificate("dune", "")).Server()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, address: l.Addr().String(), server: site.NewServer(config), done: make(chan error, 1)}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(t.Context())
	go func() { s.done <- s.server.Run(ctx, l) }()
	t.Cleanup(func() {
		s.stop()
		if err := <-s.done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(conf *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
}

// get asks for a digest, and returns status and body.
func (s *served) get(c *http.Client, d protocol.Digest, origins ...string) (int, []byte, error) {
	resp, err := c.Get("https://" + s.address + "/v1/blobs/" + d.Hex() + "?" + url.Values{"origin": origins}.Encode())
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// originOf serves bytes and counts how often.
func originOf(t *testing.T, b []byte) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, "http://localhost:1/", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/file":
			_, _ = w.Write(b)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(h.Close)
	return h.URL, asked
}

func TestAFileIsFetchedOnceForTheWholeSite(t *testing.T) {
	c := newCluster(t)
	b := bytes.Repeat([]byte("software"), 100_000)
	origin, asked := originOf(t, b)
	s := serve(t, c, site.Config{Origins: []string{"127.0.0.1"}})
	var wg sync.WaitGroup
	for i := range 8 {
		pilot := client(c.within("dune", c.certificate("dune", protocol.PilotID(fmt.Sprint("p-", i)))).Client())
		wg.Go(func() {
			status, got, err := s.get(pilot, protocol.DigestOf(b), origin+"/nothing", origin+"/file")
			if err != nil || status != http.StatusOK || !bytes.Equal(got, b) {
				t.Errorf("pilot %d: status %d, %d bytes, %v", i, status, len(got), err)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 2 { // what is not there, and the file
		t.Errorf("the origin was asked %d times", n)
	}
	figures := httptest.NewRecorder()
	s.server.Metrics().ServeHTTP(figures, httptest.NewRequest(http.MethodGet, "/", nil))
	for _, want := range []string{"floe_site_cache_requests_total 8", "floe_site_cache_hits_total 7", "floe_site_cache_misses_total 1", fmt.Sprintf("floe_site_cache_sent_bytes_total %v", float64(8*len(b)))} {
		if !strings.Contains(figures.Body.String(), want) {
			t.Errorf("figures lack %q", want)
		}
	}
}

func TestOnlyPilotsOfTheSiteAreLetIn(t *testing.T) {
	c, other := newCluster(t), newCluster(t)
	b := []byte("private")
	d := protocol.DigestOf(b)
	s := serve(t, c, site.Config{Blobs: func(context.Context, protocol.Digest) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}})
	dune := c.within("dune", c.certificate("dune", "p-1"))
	if status, got, err := s.get(client(dune.Client()), d); err != nil || status != http.StatusOK || !bytes.Equal(got, b) {
		t.Fatalf("a pilot of the site: %d, %q, %v", status, got, err)
	}
	for name, conf := range map[string]*tls.Config{
		"a pilot of another site":    c.within("dune", c.certificate("elsewhere", "p-2")).Client(),
		"a site":                     c.within("dune", c.certificate("dune", "")).Client(),
		"a pilot of another cluster": {InsecureSkipVerify: true, Certificates: []tls.Certificate{*other.certificate("dune", "p-3")}},
		"nobody":                     {InsecureSkipVerify: true},
	} {
		if status, got, err := s.get(client(conf), d); err == nil {
			t.Errorf("%s got %d, %q", name, status, got)
		}
	}
}

// TestAPilotSpeaksToItsSiteOnly: who merely listens at the address hears no question.
func TestAPilotSpeaksToItsSiteOnly(t *testing.T) {
	c, other := newCluster(t), newCluster(t)
	for name, cert := range map[string]*tls.Certificate{
		"another site":    c.certificate("elsewhere", ""),
		"a pilot":         c.certificate("dune", "p-1"),
		"another cluster": other.certificate("dune", ""),
	} {
		asked := make(chan struct{}, 1)
		h := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
		h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		h.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
		h.StartTLS()
		_, err := client(c.within("dune", c.certificate("dune", "p-2")).Client()).Get(h.URL)
		h.Close()
		if err == nil || len(asked) > 0 {
			t.Errorf("%s was asked: %v", name, err)
		}
	}
}

func TestWhatIsNotGiven(t *testing.T) {
	c := newCluster(t)
	b := []byte("what is there")
	origin, asked := originOf(t, b)
	pilot := client(c.within("dune", c.certificate("dune", "p-1")).Client())
	listed := serve(t, c, site.Config{Origins: []string{"127.0.0.1"}})
	open := serve(t, c, site.Config{})
	d, wrong := protocol.DigestOf(b), protocol.DigestOf([]byte("something else"))
	for name, x := range map[string]struct {
		server  *served
		digest  protocol.Digest
		origins []string
		status  int
	}{
		"no origin":                       {listed, d, nil, http.StatusNotFound},
		"not there":                       {listed, d, []string{origin + "/nothing"}, http.StatusNotFound},
		"other bytes than were asked":     {listed, wrong, []string{origin + "/file"}, http.StatusBadGateway},
		"a host that is not listed":       {listed, d, []string{"https://example.org/file"}, http.StatusForbidden},
		"redirected where not listed":     {listed, d, []string{origin + "/elsewhere"}, http.StatusForbidden},
		"redirected for ever":             {listed, d, []string{origin + "/round"}, http.StatusBadGateway},
		"a file of the server":            {open, d, []string{"file:///etc/passwd"}, http.StatusForbidden},
		"no scheme":                       {open, d, []string{"/etc/passwd"}, http.StatusForbidden},
		"malformed":                       {open, d, []string{"http://[::1/"}, http.StatusBadRequest},
		"the machine itself":              {open, d, []string{origin + "/file"}, http.StatusBadGateway},
		"the machine itself, mapped":      {open, d, []string{strings.Replace(origin, "127.0.0.1", "[::ffff:127.0.0.1]", 1) + "/file"}, http.StatusBadGateway},
		"the machine itself, by name":     {open, d, []string{strings.Replace(origin, "127.0.0.1", "localhost", 1) + "/file"}, http.StatusBadGateway},
		"services of clouds":              {open, d, []string{"http://169.254.169.254/latest"}, http.StatusBadGateway},
		"more origins than are looked at": {listed, d, slices.Repeat([]string{origin + "/nothing"}, 5), http.StatusBadRequest},
	} {
		before := asked.Load()
		status, got, err := x.server.get(pilot, x.digest, x.origins...)
		if err != nil || status != x.status || bytes.Contains(got, b) {
			t.Errorf("%s: status %d, want %d; %q, %v", name, status, x.status, got, err)
		}
		if x.server == open && asked.Load() != before {
			t.Errorf("%s: it was asked", name)
		}
	}
	for path, want := range map[string]int{"/": 404, "/v1/blobs/": 404, "/v1/blobs/../../etc/passwd": 404, "/v1/blobs/" + strings.Repeat("0", 64): 404} {
		resp, err := pilot.Get("https://" + listed.address + path)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v, want %d", path, resp, err, want)
		}
	}
	resp, err := pilot.Post("https://"+listed.address+"/v1/blobs/"+d.Hex(), "", strings.NewReader("x"))
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", resp, err)
	}
}

// TestStoppingLetsRequestsFinish: a pilot that has begun to read gets all of it.
func TestStoppingLetsRequestsFinish(t *testing.T) {
	c := newCluster(t)
	b := bytes.Repeat([]byte("x"), 1<<20)
	begun, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, c, site.Config{Blobs: func(context.Context, protocol.Digest) (io.ReadCloser, error) {
		close(begun)
		<-goOn
		return io.NopCloser(bytes.NewReader(b)), nil
	}})
	pilot := client(c.within("dune", c.certificate("dune", "p-1")).Client())
	got := make(chan error, 1)
	go func() {
		status, body, err := s.get(pilot, protocol.DigestOf(b))
		if err == nil && (status != http.StatusOK || len(body) != len(b)) {
			err = fmt.Errorf("status %d, %d bytes", status, len(body))
		}
		got <- err
	}()
	<-begun
	s.stop()
	close(goOn)
	if err := <-got; err != nil {
		t.Errorf("the request under way: %v", err)
	}
}
