package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"floe/protocol/steering"
)

// world is an internet of its own: names with addresses, and one server on loopback
// that answers at all of them, under certificates of its own authority.
type world struct {
	t      *testing.T
	server *httptest.Server
	mux    *http.ServeMux

	mu     sync.Mutex
	names  map[string][]string // guarded by mu: addresses of a name, one list per question; the last one stays
	dialed []string            // guarded by mu
}

// public is an address that anybody may dial.
const public = "93.184.216.34"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, mux: http.NewServeMux(), names: map[string][]string{}}
	w.server = httptest.NewUnstartedServer(w.mux)
	w.server.EnableHTTP2 = false
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	return w
}

// LookupNetIP implements resolver.
func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lists, known := w.names[host]
	if !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(lists) > 1 {
		w.names[host] = lists[1:]
	}
	var all []netip.Addr
	for text := range strings.FieldsSeq(lists[0]) {
		all = append(all, netip.MustParseAddr(text))
	}
	return all, nil
}

// fetcher is a fetcher that lives in the world: what it dials, after its own look at
// the address, is the world's server.
func (w *world) fetcher(c Config) *Fetcher {
	w.t.Helper()
	if c.Hosts == nil {
		c.Hosts = Hosts{"*"}
	}
	g := &guard{resolver: w, opened: c.Opened, dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		w.mu.Lock()
		w.dialed = append(w.dialed, address)
		w.mu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", w.server.Listener.Addr().String())
	}}
	c.Roots = x509.NewCertPool()
	c.Roots.AddCert(w.server.Certificate()) // for example.com and all below it
	f := newFetcher(c, g)
	w.t.Cleanup(f.client.Transport.(*rules).next.CloseIdleConnections)
	return f
}

func (w *world) connections() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.dialed...)
}

// fetch brings one reference.
func fetch(t *testing.T, f *Fetcher, text string) (Module, map[string]string, error) {
	t.Helper()
	e, err := steering.ParseExternal(text)
	if err != nil {
		t.Fatalf("ParseExternal(%q): %v", text, err)
	}
	s, err := f.Begin("ada")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := s.Module(t.Context(), e)
	if err != nil {
		return m, nil, err
	}
	return m, untar(t, m.File), nil
}

func untar(t *testing.T, file string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err != nil {
			return files
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		files[h.Name] = body.String() + h.Linkname
	}
}

func tarball(files ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range files {
		body := h.PAXRecords["floe.body"]
		h.PAXRecords, h.Size, h.Mode = nil, int64(len(body)), 0o644
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		_ = w.WriteHeader(&h)
		_, _ = w.Write([]byte(body))
	}
	_ = w.Close()
	return b.Bytes()
}

func member(name, body string) tar.Header {
	return tar.Header{Name: name, PAXRecords: map[string]string{"floe.body": body}}
}

// gitRepository makes a repository with a history, served over https below /git/.
// It returns its directory.
func (w *world) gitRepository() string {
	w.t.Helper()
	backend := gitBackend(w.t)
	base := w.t.TempDir()
	bare := filepath.Join(base, "sim.git")
	work := filepath.Join(w.t.TempDir(), "work")
	git := func(dir string, args ...string) string {
		w.t.Helper()
		return runGit(w.t, dir, args...)
	}
	git(base, "init", "-q", "--bare", "-b", "main", bare)
	git(base, "init", "-q", "-b", "main", work)
	put := func(name, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o700), os.WriteFile(filepath.Join(work, name), []byte(text), 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	put("sim/__init__.py", "")
	put("sim/muon.py", "first")
	put("README", "read me")
	git(work, "add", ".")
	git(work, "commit", "-q", "-m", "first")
	git(work, "tag", "v1")
	put("sim/muon.py", "second")
	git(work, "commit", "-q", "-am", "second")
	git(work, "tag", "-a", "-m", "release", "v2")
	put("sim/muon.py", "third")
	git(work, "commit", "-q", "-am", "third")
	git(work, "push", "-q", bare, "main", "--tags")
	w.mux.Handle("/git/", &cgi.Handler{
		Path: backend, Root: "/git/", Env: []string{"GIT_PROJECT_ROOT=" + base, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=", "PATH=" + os.Getenv("PATH")},
	})
	return bare
}

func gitBackend(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("git is not installed")
	}
	return filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
}

func runGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("git", args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
