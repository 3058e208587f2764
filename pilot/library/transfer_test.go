package library

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"floe/pilot/stage"
	"floe/protocol"
)

func TestTransferFiles(t *testing.T) {
	area := t.TempDir()
	p := newPlace(t, map[string]string{"a": "abc"})
	url := "file://" + area + "/sub/a.gz"
	got := p.ok("floe.transfer", values{"source": "a", "destination": url, "compression": "yes"})
	if got["files"] != 1 || got["bytes"] == 0 {
		t.Errorf("statistics = %v", got)
	}
	f, err := os.Open(filepath.Join(area, "sub/a.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || string(b) != "abc" {
		t.Errorf("stored %q, %v", b, err)
	}
	p.ok("floe.transfer", values{"source": url, "destination": "d/b", "compression": "gzip"})
	if p.read("d/b") != "abc" {
		t.Errorf("fetched %q", p.read("d/b"))
	}
	if entries, err := os.ReadDir(filepath.Join(area, "sub")); err != nil || len(entries) != 1 {
		t.Errorf("the area has %v, %v; want a.gz alone", entries, err)
	}
	err = p.refused("floe.transfer", values{"source": url, "destination": "c", "checksum": "md5:" + strings.Repeat("0", 32)}, "md5 is")
	if got := stage.Verdict(err); got != protocol.VerdictData || p.has("c") {
		t.Errorf("verdict of wrong bytes = %v, and the file is there: %v", got, p.has("c"))
	}
	p.refused("floe.transfer", values{"source": url, "destination": url}, "both URLs")
	p.refused("floe.transfer", values{"source": "a", "destination": "b"}, "neither source nor destination")
	p.refused("floe.transfer", values{"source": "ftp://host/x", "destination": "b"}, "want a file, http, https or gsiftp URL")
	p.refused("floe.transfer", values{"source": url, "destination": "../x"}, "outside the work directory")
	p.refused("floe.transfer", values{"source": "../secret", "destination": url}, "outside the work directory")
	p.refused("floe.transfer", values{"source": "a", "destination": url, "checksum": "md5:00"}, "read back")
	if err := os.Symlink("../secret", filepath.Join(p.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.run("floe.transfer", values{"source": "link", "destination": "file://" + area + "/stolen"}); err == nil {
		t.Error("a link to outside was sent")
	}
	if got := p.ok("floe.transfer", values{"source": "file://" + area + "/none", "destination": "n", "optional": true}); got["files"] != 0 {
		t.Errorf("statistics = %v", got)
	}
	p.ok("floe.transfer", values{"source": "none", "destination": url, "optional": true})
}

func TestTransferOverHTTP(t *testing.T) {
	stored := map[string]string{"/in": "abc"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch body, there := stored[r.URL.Path]; {
		case r.Method == http.MethodPut:
			b, _ := io.ReadAll(r.Body)
			stored[r.URL.Path] = string(b)
			w.WriteHeader(http.StatusCreated)
		case r.Method == "MOVE":
			to := r.Header.Get("Destination")
			stored[to[strings.LastIndex(to, "/"):]] = body
			delete(stored, r.URL.Path)
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodDelete:
			delete(stored, r.URL.Path)
		case !there:
			http.NotFound(w, r)
		default:
			_, _ = io.WriteString(w, body)
		}
	}))
	defer server.Close()
	p := newPlace(t, map[string]string{"a": "xyz"})
	p.ok("floe.transfer", values{"source": server.URL + "/in", "destination": "b", "checksum": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"})
	if p.read("b") != "abc" {
		t.Errorf("fetched %q", p.read("b"))
	}
	p.ok("floe.transfer", values{"source": "a", "destination": server.URL + "/out"})
	if stored["/out"] != "xyz" || len(stored) != 2 {
		t.Errorf("the server has %v", stored)
	}
	err := p.refused("floe.transfer", values{"source": server.URL + "/none", "destination": "c"}, "404")
	if got := stage.Verdict(err); got != protocol.VerdictData {
		t.Errorf("verdict of a missing file = %v, want data", got)
	}
}
