package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"floe/protocol/steering"

	"github.com/google/go-cmp/cmp"
)

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func serve(w *world, path string, b []byte) {
	w.mux.HandleFunc(path, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(b) })
}

func hexOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestFilesAndArchives(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	archive := gzipped(tarball(member("top/lib/a.py", "A"), member("top/b.py", "B"), tar.Header{Name: "top/lib/link.py", Typeflag: tar.TypeSymlink, Linkname: "../b.py"}))
	serve(w, "/m.py", []byte("M"))
	serve(w, "/x.tar.gz", archive)
	for _, c := range []struct {
		reference, path, pinned string
		files                   map[string]string
	}{
		{"m.py", "m.py", "m.py#sha256=" + hexOf([]byte("M")), map[string]string{"m.py": "M"}},
		{"m.py#sha256=" + hexOf([]byte("M")), "m.py", "m.py#sha256=" + hexOf([]byte("M")), map[string]string{"m.py": "M"}},
		{"x.tar.gz", "", "x.tar.gz#sha256=" + hexOf(archive), map[string]string{"top/lib/a.py": "A", "top/b.py": "B", "top/lib/link.py": "../b.py"}},
		{"x.tar.gz#top/b.py", "b.py", "x.tar.gz#top/b.py&sha256=" + hexOf(archive), map[string]string{"b.py": "B"}},
	} {
		m, files, err := fetch(t, w.fetcher(Config{}), "https://h.example.com/"+c.reference)
		if err != nil {
			t.Errorf("%s: %v", c.reference, err)
			continue
		}
		if diff := cmp.Diff(c.files, files); diff != "" || m.Path != c.path || m.Pinned.String() != "https://h.example.com/"+c.pinned {
			t.Errorf("%s: path %q, pinned %s, (-want +got):\n%s", c.reference, m.Path, m.Pinned, diff)
		}
	}
}

func TestFileMistakes(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	serve(w, "/m.py", []byte("M"))
	serve(w, "/link.tar", tarball(tar.Header{Name: "a/l", Typeflag: tar.TypeSymlink, Linkname: "../b"}, member("b", "B")))
	serve(w, "/out.tar", tarball(member("../evil", "x")))
	serve(w, "/device.tar", tarball(tar.Header{Name: "d", Typeflag: tar.TypeChar}))
	serve(w, "/broken.tgz", []byte("no archive"))
	serve(w, "/empty.tar", tarball())
	w.mux.HandleFunc("/o/r/blob/main/m.py", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(rw, "<html>")
	})
	w.mux.HandleFunc("/secret.py", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusUnauthorized) })
	w.mux.HandleFunc("/coded.py", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Encoding", "gzip")
		_, _ = rw.Write(gzipped(bytes.Repeat([]byte{0}, 1<<20)))
	})
	for reference, want := range map[string]struct {
		err  error
		text string
	}{
		"gone.py":   {ErrNotThere, "404"},
		"secret.py": {ErrNotThere, "only what anybody may read"},
		"m.py#sha256=" + strings.Repeat("ab", 32): {ErrChanged, "it has the digest sha256=" + hexOf([]byte("M"))},
		"m.py#inside":        {ErrRefused, "m.py is no archive"},
		"link.tar#a":         {ErrRefused, "leads out of the module"},
		"link.tar#b/c":       {ErrRefused, ""},
		"link.tar#c":         {ErrNotThere, "it holds a, b"},
		"out.tar":            {ErrRefused, "leads outside"},
		"device.tar":         {ErrRefused, "only files, directories and symbolic links"},
		"broken.tgz":         {ErrRefused, ""},
		"empty.tar":          {ErrNotThere, "no file in it"},
		"o/r/blob/main/m.py": {ErrNotThere, "a web page and no file"},
		"coded.py":           {ErrRefused, "in the coding"},
	} {
		_, _, err := fetch(t, w.fetcher(Config{}), "https://h.example.com/"+reference)
		if !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v, want %v and %q", reference, err, want.err, want.text)
		}
	}
}

func TestFileLimits(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	serve(w, "/long.py", bytes.Repeat([]byte("x"), 5000))
	w.mux.HandleFunc("/endless.py", func(rw http.ResponseWriter, r *http.Request) { // announces no length
		for r.Context().Err() == nil {
			if _, err := rw.Write(make([]byte, 1000)); err != nil {
				return
			}
			rw.(http.Flusher).Flush()
		}
	})
	bomb := gzipped(tarball(member("zeros", strings.Repeat("\x00", 10<<20))))
	serve(w, "/bomb.tgz", bomb)
	var many []tar.Header
	for i := range 50 {
		many = append(many, member(fmt.Sprint("f", i), ""))
	}
	serve(w, "/many.tar", tarball(many...))
	for reference, c := range map[string]struct {
		limits Limits
		err    error
	}{
		"long.py":    {Limits{Transfer: 4999}, ErrTooLarge},
		"endless.py": {Limits{Transfer: 100_000}, ErrTooLarge},
		"bomb.tgz":   {Limits{Transfer: 1 << 20, Unpacked: 1 << 20}, ErrRefused},
		"many.tar":   {Limits{Files: 49}, ErrRefused},
	} {
		if _, _, err := fetch(t, w.fetcher(Config{Limits: c.limits}), "https://h.example.com/"+reference); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", reference, err, c.err)
		}
	}
	if _, _, err := fetch(t, w.fetcher(Config{Limits: Limits{Transfer: 5000}}), "https://h.example.com/long.py"); err != nil {
		t.Errorf("as large as is allowed: %v", err)
	}
	if _, _, err := fetch(t, w.fetcher(Config{Limits: Limits{Module: 5000}}), "https://h.example.com/long.py"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("larger than a module may be: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"], w.names["cdn.example.com"], w.names["inside.example.com"] = []string{public}, []string{public}, []string{"10.0.0.1"}
	serve(w, "/m.py", []byte("M"))
	to := func(path, target string) {
		w.mux.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) {
			http.SetCookie(rw, &http.Cookie{Name: "a", Value: "b"})
			http.Redirect(rw, r, target, http.StatusFound)
		})
	}
	to("/cdn.py", "https://cdn.example.com/headers.py")
	w.mux.HandleFunc("/headers.py", func(rw http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Authorization", "Cookie", "Referer", "Proxy-Authorization"} {
			if v := r.Header.Get(name); v != "" {
				t.Errorf("the header %s: %s was sent", name, v)
			}
		}
		fmt.Fprint(rw, "M")
	})
	to("/1.py", "/2.py")
	to("/2.py", "/3.py")
	to("/3.py", "/m.py")
	to("/0.py", "/1.py")
	to("/loop.py", "/loop.py")
	to("/inside.py", "https://inside.example.com/m.py")
	to("/loopback.py", "https://127.0.0.1/m.py")
	to("/metadata.py", "http://169.254.169.254/latest/")
	to("/plain.py", "http://h.example.com/m.py")
	to("/file.py", "file:///etc/passwd")
	to("/other.py", "https://other.example.net/m.py")
	to("/user.py", "https://ada:pw@h.example.com/m.py")
	to("/port.py", "https://h.example.com:22/m.py")
	f := w.fetcher(Config{Hosts: Hosts{"*.example.com"}})
	for _, good := range []string{"cdn.py", "1.py"} {
		if _, _, err := fetch(t, f, "https://h.example.com/"+good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"0.py", "loop.py", "inside.py", "loopback.py", "metadata.py", "plain.py", "other.py", "user.py", "port.py"} {
		if _, _, err := fetch(t, f, "https://h.example.com/"+bad); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", bad, err)
		}
	}
	if _, files, err := fetch(t, f, "https://h.example.com/file.py"); err == nil {
		t.Errorf("file.py brought %v", files)
	}
}

// TestSlowOrigin gives up on a host that sends a byte now and then.
func TestSlowOrigin(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	gone := make(chan struct{})
	w.mux.HandleFunc("/slow.py", func(rw http.ResponseWriter, r *http.Request) {
		defer close(gone)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = rw.Write([]byte("x"))
				rw.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	_, _, err := fetch(t, w.fetcher(Config{Limits: Limits{Time: 200 * time.Millisecond}}), "https://h.example.com/slow.py")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it took longer than 200ms") {
		t.Errorf("error %v, want that it took too long", err)
	}
	<-gone // the connection is not kept either
}

// TestEachOriginOnce: references to one origin share it, and mistakes with it.
func TestEachOriginOnce(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	var asked atomic.Int64
	w.mux.HandleFunc("/x.tar", func(rw http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = rw.Write(tarball(member("a.py", "A"), member("b.py", "B")))
	})
	w.mux.HandleFunc("/gone.py", func(rw http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		rw.WriteHeader(http.StatusNotFound)
	})
	s, err := w.fetcher(Config{}).Begin("ada")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"https://h.example.com/x.tar#a.py", "https://h.example.com/x.tar#b.py", "https://h.example.com/x.tar", "https://h.example.com/gone.py", "https://h.example.com/gone.py"} {
		e, err := steering.ParseExternal(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Module(t.Context(), e); (err != nil) != strings.Contains(text, "gone") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the origins were asked %d times, want each once", n)
	}
	dir := s.dir
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the session's directory is there after Close: %v", err)
	}
}

// TestQuotaOfASession: many small modules may not fill the disk either.
func TestQuotaOfASession(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	archive := gzipped(tarball(member("zeros", strings.Repeat("\x00", 100_000))))
	w.mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(archive) })
	s, err := w.fetcher(Config{Limits: Limits{Session: 1_000_000}}).Begin("ada")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	refused := 0
	for i := range 6 { // each is unpacked and packed: some 200,000 bytes
		e := steering.External{Kind: steering.ExternalFile, URL: fmt.Sprintf("https://h.example.com/%d.tgz", i)}
		if _, err := s.Module(t.Context(), e); errors.Is(err, ErrTooLarge) {
			refused++
		} else if err != nil || refused > 0 {
			t.Errorf("module %d: %v after %d were refused", i, err, refused)
		}
	}
	if refused == 0 || refused > 2 {
		t.Errorf("%d of 6 modules were refused, want the last one or two", refused)
	}
}

func TestQuotasOfAPerson(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.com"] = []string{public}
	w.mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "x") })
	f := w.fetcher(Config{Limits: Limits{Sessions: 2, Burst: 3, PerHour: 1}})
	first, err := f.Begin("ada")
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Begin("ada")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin("ada"); !errors.Is(err, ErrBusy) {
		t.Errorf("a third session: %v, want ErrBusy", err)
	}
	other, err := f.Begin("bob")
	if err != nil {
		t.Fatalf("another person: %v", err)
	}
	defer other.Close()
	if err := errors.Join(first.Close(), first.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := f.Begin("ada")
	if err != nil {
		t.Fatalf("after others have ended: %v", err)
	}
	defer s.Close()
	for i := range 4 {
		e := steering.External{Kind: steering.ExternalFile, URL: fmt.Sprintf("https://h.example.com/%d.py", i)}
		if _, err := s.Module(t.Context(), e); (err != nil) != (i == 3) || err != nil && !errors.Is(err, ErrBusy) {
			t.Errorf("module %d: %v; want ErrBusy for the fourth alone", i, err)
		}
	}
}

// TestLeftBehind: what a coordinator that was killed had fetched is removed in time.
func TestLeftBehind(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * leftAfter)
	for name, age := range map[string]time.Time{"fetch-old": old, "fetch-new": time.Now(), "other": old} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "x"), nil, 0o600), os.Chtimes(path, age, age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != "fetch-new" || entries[1].Name() != "other" {
		t.Errorf("left are %v, %v; want fetch-new and other", entries, err)
	}
}

// TestUntrustedCertificate: an https host must show who it is.
func TestUntrustedCertificate(t *testing.T) {
	w := newWorld(t)
	w.names["h.example.net"] = []string{public} // the world's certificate is for example.com
	serve(w, "/m.py", []byte("M"))
	if _, _, err := fetch(t, w.fetcher(Config{}), "https://h.example.net/m.py"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v, want one about the certificate", err)
	}
}
