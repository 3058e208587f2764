package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"floe/cache"
	"floe/protocol"
)

// TestSystemSiteCache has a site's cache fetch for its nodes: what one has asked for
// comes to the others without its origin.
func TestSystemSiteCache(t *testing.T) {
	t.Parallel()
	var software bytes.Buffer
	pack := tar.NewWriter(&software)
	if err := pack.WriteHeader(&tar.Header{Name: "bin/what", Typeflag: tar.TypeReg, Mode: 0o755, Size: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Write([]byte("it\n")); err != nil {
		t.Fatal(err)
	}
	if err := pack.Close(); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(software.Bytes())
	}))
	defer origin.Close()
	w := newWorld(t)
	port := freePorts(t)
	address, figures := net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1))
	w.joinSiteAs("here", 1, 1, "", fmt.Sprintf("site_cache = \"https://%s\"\ncache_quota = \"1GB\"", address))
	serving := w.start("site-cache", "cache", "serve", "--site", w.site, "--listen", address, "--origin", "127.0.0.1", "--metrics", figures, "--quota", "1GB")
	w.until("the site's cache knows who signs certificates", func() bool {
		_, err := os.Stat(filepath.Join(w.site, "authorities.pem"))
		return err == nil && strings.Contains(w.log("site-cache"), "serving the site's cache")
	})
	document := fmt.Sprintf(`version: 3
tasks:
  - name: make
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    resources: [{remote: "%s/env.tar", local: env.tar, checksum: %q}]
    trays: [{projects: [{name: env}], modules: [{src: /bin/sh, args: [-c, 'cat "$(command -v what)"']}]}]
`, origin.URL, protocol.DigestOf(software.Bytes()))
	node := filepath.Join(w.dir, "cache")
	for round := range 2 {
		id := w.submit(document, 1)
		if code := w.finish(id); code != exitOK {
			t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
		}
		if log := w.ok("logs", fmt.Sprintf("%d.0.make", id)); !strings.Contains(log, "it\n") {
			t.Errorf("round %d: %q", round, log)
		}
		// The steering document is another entry, and a pilot that has read it needs it no more.
		if v := ask[cache.Verified](w, "cache", "verify", node); v.Entries < 2-round || len(v.Bad) != 0 {
			t.Errorf("round %d: the node's cache: %+v", round, v)
		}
		w.ok("cache", "trim", node, "0") // as another node would find it
		if sum := ask[cache.Summary](w, "cache", "show", node); sum.Trees != 0 {
			t.Errorf("round %d: after trimming: %+v", round, sum)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times\n%s", n, w.log("site-cache"))
	}
	w.until("a pilot tells what its cache does", func() bool {
		for _, p := range ask[protocol.PilotPage](w, "pilots").Pilots {
			if p.Cache != nil && p.Cache.Site >= protocol.ByteSize(2*software.Len()) && p.Cache.Misses >= 2 {
				return true
			}
		}
		return false
	})
	resp, err := http.Get("http://" + figures + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), "floe_site_cache_quarantined_total 0") || strings.Contains(string(text), "floe_site_cache_hits_total 0") {
		t.Errorf("figures: %v\n%s", err, text)
	}
	serving.end(patience)
	if !serving.state.Success() {
		t.Errorf("told to end: %v\n%s", serving.state, w.log("site-cache"))
	}
}
