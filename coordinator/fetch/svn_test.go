package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// svnRepository makes a repository of three revisions, served by Apache below /svn/
// of the world.
func (w *world) svnRepository() {
	w.t.Helper()
	apache := "/usr/sbin/apache2"
	modules := "/usr/lib/apache2/modules"
	for _, file := range []string{apache, modules + "/mod_dav_svn.so"} {
		if _, err := os.Stat(file); err != nil {
			w.t.Skip("no Apache with mod_dav_svn on this machine")
		}
	}
	base := w.t.TempDir()
	repository, work := filepath.Join(base, "repo"), filepath.Join(base, "work")
	run := func(name string, args ...string) {
		w.t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			w.t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	run("svnadmin", "create", repository)
	run("svn", "checkout", "-q", "file://"+repository, work)
	put := func(name, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o700), os.WriteFile(filepath.Join(work, name), []byte(text), 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	put("trunk/sim/__init__.py", "")
	put("trunk/sim/deep er/muon.py", "first")
	run("svn", "add", "-q", filepath.Join(work, "trunk"))
	run("svn", "commit", "-q", "-m", "1", work)
	put("trunk/sim/deep er/muon.py", "second")
	run("svn", "commit", "-q", "-m", "2", work)
	run("svn", "update", "-q", work)
	run("svn", "rm", "-q", filepath.Join(work, "trunk/sim/deep er"))
	run("svn", "commit", "-q", "-m", "3", work)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	configuration := fmt.Sprintf(`ServerRoot %[1]s
ServerName localhost
Listen %[2]s
PidFile %[1]s/pid
ErrorLog %[1]s/error.log
Mutex file:%[1]s
LoadModule mpm_event_module %[3]s/mod_mpm_event.so
LoadModule authz_core_module %[3]s/mod_authz_core.so
LoadModule dav_module %[3]s/mod_dav.so
LoadModule dav_svn_module %[3]s/mod_dav_svn.so
<Location /svn/sim>
  DAV svn
  SVNPath %[4]s
  Require all granted
</Location>
`, base, address, modules, repository)
	if os.Geteuid() == 0 {
		configuration += "User www-data\nGroup www-data\n"
		run("chown", "-R", "www-data", repository)
		run("chmod", "-R", "a+rX", base)
		for dir := base; dir != "/"; dir = filepath.Dir(dir) {
			run("chmod", "a+x", dir)
		}
	}
	file := filepath.Join(base, "apache.conf")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		w.t.Fatal(err)
	}
	c := exec.Command(apache, "-f", file, "-DFOREGROUND")
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		w.t.Skipf("Apache does not start: %v", err)
	}
	w.t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-tick.C:
		case <-w.t.Context().Done():
			w.t.Fatal("Apache does not answer")
		}
	}
	w.mux.Handle("/svn/", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address}))
}

func TestSubversion(t *testing.T) {
	w := newWorld(t)
	w.svnRepository()
	w.names["svn.example.com"] = []string{public}
	const base = "svn+https://svn.example.com/svn/sim/trunk"
	whole := map[string]string{"sim/__init__.py": "", "sim/deep er/muon.py": "first"}
	for _, c := range []struct {
		reference, pinned, path string
		files                   map[string]string
	}{
		{base + "/sim/deep%20er/muon.py@1", base + "/sim/deep%20er/muon.py@1", "muon.py", map[string]string{"muon.py": "first"}},
		{base + "/sim/deep%20er/muon.py@2", base + "/sim/deep%20er/muon.py@2", "muon.py", map[string]string{"muon.py": "second"}},
		{base + "/sim", base + "/sim@3", "", map[string]string{"__init__.py": ""}},
		{base + "@1", base + "@1", "", whole},
	} {
		m, files, err := fetch(t, w.fetcher(Config{}), c.reference)
		if err != nil {
			t.Errorf("%s: %v", c.reference, err)
			continue
		}
		if diff := cmp.Diff(c.files, files); diff != "" || m.Path != c.path || m.Pinned.String() != c.pinned {
			t.Errorf("%s: path %q, pinned %s, (-want +got):\n%s", c.reference, m.Path, m.Pinned, diff)
		}
	}
	for reference, want := range map[string]error{
		base + "/sim/deep%20er/muon.py@3": ErrNotThere, base + "/none@1": ErrNotThere, base + "@99": ErrNotThere,
	} {
		if _, _, err := fetch(t, w.fetcher(Config{}), reference); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", reference, err, want)
		}
	}
	if _, _, err := fetch(t, w.fetcher(Config{Limits: Limits{Files: 2}}), base+"@1"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more files than may be: %v, want ErrTooLarge", err)
	}
	if _, _, err := fetch(t, w.fetcher(Config{Limits: Limits{Module: 4}}), base+"@1"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more bytes than may be: %v, want ErrTooLarge", err)
	}
}

// TestHostileSubversion answers like a server that lies.
func TestHostileSubversion(t *testing.T) {
	w := newWorld(t)
	w.names["svn.example.com"] = []string{public}
	const list = `<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:response><D:href>/svn/!svn/rvr/1/a/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop></D:propstat></D:response>%s</D:multistatus>`
	const entry = `<D:response><D:href>%s</D:href><D:propstat><D:prop><D:resourcetype/></D:prop></D:propstat></D:response>`
	var root, answer string
	w.mux.HandleFunc("/svn/", func(rw http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case "OPTIONS":
			rw.Header().Set("SVN-Youngest-Rev", "1")
			rw.Header().Set("SVN-Rev-Root-Stub", "/svn/!svn/rvr")
			rw.Header().Set("SVN-Repository-Root", root)
		case "PROPFIND":
			rw.WriteHeader(http.StatusMultiStatus)
			fmt.Fprint(rw, answer)
		}
	})
	for name, c := range map[string]struct{ root, answer string }{
		"a root elsewhere":       {"/other", ""},
		"a name with ..":         {"/svn", fmt.Sprintf(list, fmt.Sprintf(entry, "/svn/!svn/rvr/1/a/../../evil"))},
		"a name of another tree": {"/svn", fmt.Sprintf(list, fmt.Sprintf(entry, "/etc/passwd"))},
		"a name with a slash":    {"/svn", fmt.Sprintf(list, fmt.Sprintf(entry, "/svn/!svn/rvr/1/a/b/c"))},
		"an escaped ..":          {"/svn", fmt.Sprintf(list, fmt.Sprintf(entry, "/svn/!svn/rvr/1/a/%2e%2e"))},
		"no XML":                 {"/svn", "<html"},
		"an empty list":          {"/svn", fmt.Sprintf(list, "")[:60] + "</D:multistatus>"},
	} {
		root, answer = c.root, c.answer
		if _, files, err := fetch(t, w.fetcher(Config{}), "svn+https://svn.example.com/svn/a@1"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v with %v, want ErrRefused", name, err, files)
		}
	}
	root = ""
	if _, _, err := fetch(t, w.fetcher(Config{}), "svn+https://svn.example.com/svn/a"); err == nil || !strings.Contains(err.Error(), "does not answer as an svn repository") {
		t.Errorf("no svn at all: %v", err)
	}
}
