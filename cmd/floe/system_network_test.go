package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
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
	document := fmt.Sprintf(`version: 3
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
`, store)
	staged := func() {
		t.Helper()
		if code := w.finish(w.submit(document, 1)); code != exitOK {
			t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
		}
		files.mu.Lock()
		defer files.mu.Unlock()
		if got := files.files["/out"]; got != "brought from far\nbrought from far\n" || len(files.files) != 2 {
			t.Errorf("storage holds %q", files.files)
		}
		delete(files.files, "/out")
	}
	staged()

	// A relay that dies is started by the next pass, and the same pilots go on.
	first := relayPID(site)
	endPID(t, first)
	w.until("the relay runs again", func() bool { pid := relayPID(site); return pid > 0 && pid != first })
	w.arrive("relay")

	// One that is told otherwise is another one: files go by a directory now.
	second := relayPID(site)
	site.configure(func(text string) string {
		return strings.Replace(text, "relay_storage = ", fmt.Sprintf("relay_stage = %q\nrelay_storage = ", filepath.Join(w.dir, "stage")), 1)
	})
	w.until("the relay was replaced", func() bool { pid := relayPID(site); return pid > 0 && pid != second })
	site.endPilots()
	staged()
	if text, err := os.ReadFile(filepath.Join(site.site, "relay.log")); err != nil || !strings.Contains(string(text), "verb=put") {
		t.Errorf("the relay has run no errand: %v\n%s", err, text)
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "stage", "*")); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %q, %v", left, err)
	}

	// One that nobody wants ends.
	site.configure(func(text string) string { return strings.ReplaceAll(text, "\nrelay", "\n#relay") })
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

// TestNetworkWithoutUDP has pilots come by TCP, and by QUIC when TCP is lost and UDP is
// there again.
func TestNetworkWithoutUDP(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, false, "core", "head", "node")
	n.rules("meta l4proto udp drop")
	w := networkWorld(t, n)
	w.siteAt(n).joinSiteAs("here", 1, 2, "", "")
	w.arrive("tcp", "quic "+n.port("core", 4433)+": ")
	n.rules(`iifname "node" meta l4proto tcp reject with tcp reset`)
	w.arrive("quic")
}

// TestNetworkProxy has pilots whose only way out is a real squid that asks for a
// password. A wrong password is said, and a host that no_proxy names is not asked of it.
func TestNetworkProxy(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, false, "core", "head", "node")
	n.rules(`iifname "node" oifname "core" drop`, `iifname "core" oifname "node" drop`)
	log := n.squid("head", "pilot", "s3cret!")
	w := networkWorld(t, n)
	site := w.siteAt(n)
	site.joinSiteAs("here", 1, 2, "", n.proxyEnv("pilot", "wrong", ""))
	waiting := w.submitDiamond(1, "")
	w.until("a pilot says that its password is wrong", func() bool { return strings.Contains(w.story(), "407 Proxy Authentication Required") })
	site.configure(func(text string) string { return strings.Replace(text, "wrong", "s3cret%21", 1) })
	for _, pid := range site.pilotPIDs() {
		endPID(t, pid) // it looks for coordinators for ten minutes
	}
	if code := w.finish(waiting); code != exitOK {
		t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
	}
	w.arrive("proxy", "quic "+n.port("core", 4433), "tcp "+n.port("core", 4433))
	if text := log(); !strings.Contains(text, "CONNECT "+n.port("core", 4433)+" pilot") {
		t.Errorf("the proxy was not asked by its user:\n%s", text)
	}
	// Where the proxy is not to be used for the coordinators, only direct ways are left.
	site.configure(func(text string) string {
		return strings.Replace(text, `no_proxy = ""`, fmt.Sprintf("no_proxy = %q", n.host("core")), 1)
	})
	n.rules()
	site.endPilots()
	before := strings.Count(log(), "CONNECT")
	w.arrive("quic")
	if after := strings.Count(log(), "CONNECT"); after != before {
		t.Errorf("the proxy was asked %d times for whom no_proxy names", after-before)
	}
}

// TestNetworkOfIPv6 has nothing but IPv6.
func TestNetworkOfIPv6(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, true, "core", "head", "node")
	w := networkWorld(t, n)
	w.siteAt(n).joinSiteAs("here", 1, 2, "", "")
	w.arrive("quic")
}

// TestNetworkWhereAllMove moves all coordinators of a cluster, one after the other.
// Pilots and passes that are connected hear of it; a pilot that was cut off all the
// while finds the new addresses in what its site's passes keep.
func TestNetworkWhereAllMove(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, false, "core", "head", "node", "cut")
	w := emptyWorld(t, t.TempDir())
	w.space = n.space("core")
	names := []string{"c1", "c2", "c3"}
	at := func(i, move int) string { return fmt.Sprintf("10.77.1.%d", 10+10*move+i) }
	for move := range 2 {
		for i := range names {
			n.run("ip", "-n", n.space("core"), "address", "add", at(i, move)+"/24", "dev", "out")
		}
	}
	port := func(i, move int) string { return net.JoinHostPort(at(i, move), fmt.Sprint(4433+10*i)) }
	for i, name := range names {
		c := w.placeAt(name, port(i, 0), nil)
		if i == 0 {
			w.found(c)
			continue
		}
		w.joinAt(c, name)
	}
	w.readdress(func(address string) string { // people know all coordinators
		return strings.Replace(address, port(0, 0), port(0, 0)+","+port(1, 0)+","+port(2, 0), 1)
	})
	w.until("three coordinators vote", func() bool { return len(w.voters()) == 3 })
	here := w.siteAt(n)
	here.idle = "10m" // all coordinators move meanwhile
	here.joinSiteAs("here", 1, 2, "", "")
	there := here.besides("there")
	there.far = n.space("cut")
	there.joinSiteAs("there", 1, 2, "", "")
	w.arrive("quic")
	for _, site := range []string{"here", "there"} { // what one site's pilots will do launches none at the other
		if code := w.finish(w.submit(oneTask, 1, "--site", site)); code != exitOK {
			t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
		}
	}
	w.until("both sites have a pilot", func() bool { return len(w.seen()) == 2 })
	n.in("router", "ip", "link", "set", "cut", "down")
	for i, name := range names {
		c := w.nodes[name]
		c.process.end(patience)
		for j := range c.args {
			if c.args[j] == c.address {
				c.args[j] = port(i, 1)
			}
		}
		c.address = port(i, 1)
		w.readdress(func(address string) string { return strings.Replace(address, port(i, 0), port(i, 1), 1) })
		w.startNode(name)
		w.until(name+" has moved", func() bool { return slices.Contains(w.voters(), port(i, 1)) && len(w.voters()) == 3 })
	}
	w.until("the pass there knows", func() bool {
		text, err := os.ReadFile(filepath.Join(there.site, "cluster.json"))
		return err == nil && !strings.Contains(string(text), at(0, 0)) && !strings.Contains(string(text), at(1, 0)) && !strings.Contains(string(text), at(2, 0))
	})
	for i := range names {
		n.run("ip", "-n", n.space("core"), "address", "del", at(i, 0)+"/24", "dev", "out")
	}
	moved := time.Now().UnixMilli()
	n.in("router", "ip", "link", "set", "cut", "up")
	id := w.submitDiamond(2, "")
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
	}
	w.checkDiamond(id, 2)
	w.until("the pilots that were there before are heard", func() bool {
		heard := 0
		for _, p := range w.seen() {
			if p.Enrolled < moved && p.LastSeen > moved {
				heard++
			}
		}
		return heard == 2
	})
}

// voters are the addresses of coordinators that vote and are well.
func (w *world) voters() (all []string) {
	w.t.Helper()
	r := w.floe("cluster", "status", "-o", "json")
	if r.code != exitOK {
		return nil
	}
	for _, m := range decode[protocol.ClusterReply](w, r.out).Members {
		if m.Voter && m.Healthy {
			all = append(all, m.Address)
		}
	}
	return all
}

// seen are the pilots that the leader has heard.
func (w *world) seen() (all []protocol.Pilot) {
	w.t.Helper()
	r := w.floe("pilots", "-o", "json", "--limit", "1000")
	if r.code != exitOK {
		return nil
	}
	for _, p := range decode[protocol.PilotPage](w, r.out).Pilots {
		if p.LastSeen > 0 {
			all = append(all, p)
		}
	}
	return all
}

// TestNetworkBehindOneAddress has hundreds of pilots on three nodes whose packets all
// come from one address. None is refused for the others' sake.
func TestNetworkBehindOneAddress(t *testing.T) {
	t.Parallel()
	nodes := []string{"n1", "n2", "n3"}
	n := newNetwork(t, false, append([]string{"core", "head"}, nodes...)...)
	n.nft("table ip nat {\n chain leaving {\n type nat hook postrouting priority 100;\n oifname \"core\" ip saddr { 10.77.3.0/24, 10.77.4.0/24, 10.77.5.0/24 } masquerade\n }\n}\n")
	w := networkWorld(t, n)
	site := w.siteAt(n)
	site.ok("site", "join", strings.TrimSpace(w.ok("token", "create", "site", "here")), "--dir", site.site)
	const each = 100
	id := w.submit(oneTask, 3*each)
	tickets := site.command(crowdCommand, "tickets", site.site, fmt.Sprint(3*each))
	out, err := tickets.Output()
	var grants []protocol.LaunchGrant
	if err != nil || json.Unmarshal(out, &grants) != nil || len(grants) != 3*each {
		t.Fatalf("%d tickets: %v", len(grants), err)
	}
	for i, node := range nodes {
		text, err := json.Marshal(grants[i*each : (i+1)*each])
		if err != nil {
			t.Fatal(err)
		}
		on := *w
		on.space = n.space(node)
		on.start(node, crowdCommand, "pilots", w.write(node+".json", string(text)), filepath.Join(w.dir, node))
	}
	w.until("all pilots are there at once", func() bool { return len(w.seen()) == 3*each })
	if code := w.finish(id); code != exitOK {
		t.Fatalf("wait: exit %d, want 0\n%s", code, w.story())
	}
	ways := map[string]int{}
	for _, p := range w.seen() {
		ways[p.Transport]++
	}
	figures, err := w.command(crowdCommand, "metrics").Output()
	if err != nil {
		t.Fatal(err)
	}
	metrics := string(figures)
	if !strings.Contains(metrics, "floe_connections_refused_total 0\n") {
		t.Errorf("somebody was refused:\n%s", linesWith(metrics, "connections_"))
	}
	t.Logf("%d pilots came by %v\n%s", 3*each, ways, linesWith(metrics, "connections_"))
}

const oneTask = `version: 3
tasks:
  - name: one
    requirements: {cpu: 1, memory: 0.1, disk: 0.1, time: 0.1}
    trays: [{modules: [{src: /bin/true}]}]
`

// linesWith are the lines of a text that hold a word.
func linesWith(text, word string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) && !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// readdress changes the addresses in the administrator's token.
func (w *world) readdress(change func(string) string) {
	w.t.Helper()
	b, err := os.ReadFile(w.token)
	if err == nil {
		err = renameio.WriteFile(w.token, []byte(change(string(b))), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
