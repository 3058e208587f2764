package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"floe/glidein/relay"
	"floe/protocol"

	"github.com/google/renameio/v2"
)

// networkWorld is a cluster at the host core, and a site whose pass runs at head and
// whose pilots run at node.
func networkWorld(t *testing.T, n *network) *world {
	t.Helper()
	w := emptyWorld(t, t.TempDir())
	w.space = n.space("core")
	w.found(w.placeAt("c1", n.port("core", 4433), nil))
	return w
}

// siteAt is the same cluster as a site sees it from its login node.
func (w *world) siteAt(n *network) *world {
	site := *w
	site.space, site.far = n.space("head"), n.space("node")
	return &site
}

// ways are the rungs that living pilots say they are on, with why.
func (w *world) ways() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for _, p := range ask[protocol.PilotPage](w, "pilots").Pilots {
		if p.Transport != "" {
			all[p.Transport] = p.Why
		}
	}
	return all
}

// arrive has a small dataset done, and asserts by which rung, with a reason that holds
// why.
func (w *world) arrive(rung string, why ...string) {
	w.t.Helper()
	id := w.submitDiamond(2, "")
	if code := w.finish(id); code != exitOK {
		w.t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
	}
	w.checkDiamond(id, 2)
	if log := w.ok("logs", fmt.Sprintf("%d.0.make", id)); log == "" {
		w.t.Log("make says nothing")
	}
	w.onRung(rung, why...)
}

// onRung waits until a pilot says that it is on a rung, and nobody is on another.
func (w *world) onRung(rung string, why ...string) {
	w.t.Helper()
	var ways map[string]string
	w.until("pilots on rung "+rung, func() bool {
		ways = w.ways()
		_, there := ways[rung]
		return there && len(ways) == 1
	})
	for _, part := range why {
		if !strings.Contains(ways[rung], part) {
			w.t.Errorf("on rung %s because of %q, want %q in it", rung, ways[rung], part)
		}
	}
}

// storage is a place for files at a URL, with MOVE.
type storage struct {
	mu    sync.Mutex
	files map[string]string // guarded by mu
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.files[r.URL.Path]
	switch r.Method {
	case http.MethodPut:
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.files[r.URL.Path] = string(b)
		w.WriteHeader(http.StatusCreated)
	case "MOVE":
		to := r.Header.Get("Destination")
		s.files[to[strings.LastIndex(to, "/"):]] = text
		delete(s.files, r.URL.Path)
	case http.MethodDelete:
		delete(s.files, r.URL.Path)
	default:
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, text)
	}
}

// TestSystemRelay has a site whose nodes reach nothing but its login node. The pass
// starts the relay, starts it again when it was killed or told otherwise, and ends it
// when it is no longer wanted.
func TestSystemRelay(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, false, "core", "head", "node")
	n.rules(`iifname "node" oifname "core" drop`, `iifname "core" oifname "node" drop`)
	w := networkWorld(t, n)
	files := &storage{files: map[string]string{"/in": "brought from far\n"}}
	server := httptest.NewUnstartedServer(files)
	server.Listener = n.listen("core", 8080)
	server.Start()
	defer server.Close()
	site := w.siteAt(n)
	at, store := n.port("head", 4490), n.port("core", 8080)
	defer func() { // what the pass has started outlives it
		if pid := relayPID(site); pid > 0 {
			endPID(t, pid)
		}
	}()
	site.joinSiteAs("here", 1, 2, "", fmt.Sprintf("relay = %q\nrelay_storage = [%q]", at, store))
	w.arrive("relay", "quic "+n.port("core", 4433), "tcp "+n.port("core", 4433))
	id := w.submit(fmt.Sprintf(`version: 3
tasks:
  - name: stage
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays:
      - modules:
          - src: /bin/sh
            args: [-c, "cat in in >out"]
            data:
              - {type: permanent, movement: input, local: in, remote: "http://%[1]s/in"}
              - {type: permanent, movement: output, local: out, remote: "http://%[1]s/out"}
`, store), 1)
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
	}
	files.mu.Lock()
	if got := files.files["/out"]; got != "brought from far\nbrought from far\n" {
		t.Errorf("storage holds %q", got)
	}
	files.mu.Unlock()

	// A relay that dies is started by the next pass, and the same pilots go on.
	first := relayPID(site)
	endPID(t, first)
	w.until("the relay runs again", func() bool { pid := relayPID(site); return pid > 0 && pid != first })
	w.arrive("relay")

	// One that is told otherwise is another one.
	second := relayPID(site)
	site.configure(func(text string) string {
		return strings.Replace(text, "relay_storage = ["+fmt.Sprintf("%q", store)+"]", "relay_storage = []", 1)
	})
	w.until("the relay was replaced", func() bool { pid := relayPID(site); return pid > 0 && pid != second })

	// One that nobody wants ends.
	site.configure(func(text string) string { return strings.Replace(text, "relay = ", "#relay = ", 1) })
	site.configure(func(text string) string { return strings.Replace(text, "relay_storage = ", "#relay_storage = ", 1) })
	w.until("the relay has ended", func() bool { return relayPID(site) == 0 })
	for _, name := range []string{"relay.log", "relay.key"} {
		if info, err := os.Stat(site.site + "/" + name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// configure changes the site's configuration, as a person would with an editor that
// replaces the file.
func (w *world) configure(change func(text string) string) {
	w.t.Helper()
	file := filepath.Join(w.site, "site.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		w.t.Fatalf("nothing was changed in %s", text)
	}
	if err := renameio.WriteFile(file, []byte(changed), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// relayPID is the process of the site's relay, or 0 when none runs.
func relayPID(w *world) int {
	b, err := os.ReadFile(filepath.Join(w.site, "relay.json"))
	var s relay.Status
	if err != nil || json.Unmarshal(b, &s) != nil || startOf(s.PID) == "" {
		return 0
	}
	return s.PID
}

// endPID ends a process that a pass has started, and waits until it is gone.
func endPID(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for startOf(pid) != "" {
		<-tick.C
	}
}
