package fetch

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestAdmits(t *testing.T) {
	g := &guard{}
	for _, text := range []string{
		public, "8.8.8.8", "172.15.255.255", "172.32.0.1", "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450::1",
		"64:ff9b::5db8:d822",   // 93.184.216.34 behind NAT64
		"::ffff:93.184.216.34", // the same written as IPv6
	} {
		if err := g.admits(netip.MustParseAddr(text)); err != nil {
			t.Errorf("admits(%s) = %v, want nil", text, err)
		}
	}
	for _, text := range []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
		"169.254.169.254", "169.254.170.2", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::93.184.216.34",
		"64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", // NAT64, also of local use
		"2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", // 6to4, Teredo
		"2001:db8::1", "3fff::1", "100::1", "4000::1",
	} {
		if err := g.admits(netip.MustParseAddr(text)); !errors.Is(err, errAddress) {
			t.Errorf("admits(%s) = %v, want errAddress", text, err)
		}
	}
}

func TestOpenedNetworks(t *testing.T) {
	opened, err := ParseNetworks([]string{"10.1.0.0/16", "127.0.0.0/8", "::1/128", "fd12::/16"})
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{opened: opened}
	for text, want := range map[string]bool{"10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": true, "::ffff:127.0.0.1": true, "::1": true, "fd12::9": true, "169.254.169.254": false, "fe80::1": false} {
		if err := g.admits(netip.MustParseAddr(text)); (err == nil) != want {
			t.Errorf("admits(%s) = %v, want admitted %v", text, err, want)
		}
	}
	for _, text := range []string{"169.254.0.0/16", "169.254.169.254/32", "0.0.0.0/0", "::/0", "fe80::/10", "8.8.8.0/24", "10.0.0.0/7", "here", "10.1.2.3"} {
		if got, err := ParseNetworks([]string{text}); err == nil {
			t.Errorf("ParseNetworks(%q) = %v, want an error", text, got)
		}
	}
}

// TestHostileAddresses are addresses by which somebody tries to have the coordinator
// connect to where he cannot. No connection is made.
func TestHostileAddresses(t *testing.T) {
	w := newWorld(t)
	w.mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) { t.Error("somebody was asked") })
	for name, addresses := range map[string]string{
		"loopback.example.com": "127.0.0.1", "six.example.com": "::1", "mapped.example.com": "::ffff:169.254.169.254",
		"metadata.example.com": "169.254.169.254", "nat64.example.com": "64:ff9b::a9fe:a9fe", "private.example.com": "10.0.0.1",
		"both.example.com": public + " 10.0.0.1", "zero.example.com": "0.0.0.0",
	} {
		w.names[name] = []string{addresses}
	}
	f := w.fetcher(Config{})
	for _, address := range []string{
		"https://loopback.example.com/m.py", "https://six.example.com/m.py", "https://mapped.example.com/m.py", "https://metadata.example.com/latest/meta-data",
		"https://nat64.example.com/m.py", "https://private.example.com/m.py", "https://both.example.com/m.py", "https://zero.example.com/m.py",
		"https://127.0.0.1/m.py", "https://[::1]/m.py", "https://[::ffff:127.0.0.1]/m.py", "https://169.254.169.254/m.py", "https://[fe80::1]/m.py", "https://[64:ff9b::7f00:1]/m.py",
		"git+https://127.0.0.1/r@v1", "git+https://private.example.com/r@v1", "svn+https://metadata.example.com/r/m.py@1",
		"http://169.254.169.254/m.py#sha256=" + strings.Repeat("ab", 32),
	} {
		if _, _, err := fetch(t, f, address); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", address, err)
		}
	}
	// Numbers that some resolvers read as addresses are names like any other here.
	for _, address := range []string{"https://2130706433/m.py", "https://0x7f.1/m.py", "https://127.1/m.py", "https://0177.0.0.1/m.py"} {
		if _, _, err := fetch(t, f, address); err == nil {
			t.Errorf("%s was fetched", address)
		}
	}
	if got := w.connections(); len(got) > 0 {
		t.Errorf("connections were made to %v", got)
	}
}

// TestRebinding has a name that is public when it is first looked up and private
// when it is connected to again.
func TestRebinding(t *testing.T) {
	w := newWorld(t)
	w.names["moving.example.com"] = []string{public, "127.0.0.1"}
	w.mux.HandleFunc("/first.py", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "close")
		http.Redirect(rw, r, "https://moving.example.com/second.py", http.StatusFound)
	})
	w.mux.HandleFunc("/second.py", func(http.ResponseWriter, *http.Request) { t.Error("the private address was asked") })
	_, _, err := fetch(t, w.fetcher(Config{}), "https://moving.example.com/first.py")
	if got := w.connections(); !errors.Is(err, ErrRefused) || len(got) != 1 || got[0] != net.JoinHostPort(public, "443") {
		t.Errorf("error %v after connections to %v, want ErrRefused after one", err, got)
	}
}

// TestSocketLooksAgain: what is dialled is looked at even where the resolver's answer
// was not.
func TestSocketLooksAgain(t *testing.T) {
	g := &guard{}
	for address, want := range map[string]bool{"127.0.0.1:443": false, "[::ffff:10.0.0.1]:443": false, "169.254.169.254:80": false, "93.184.216.34:443": true, "nonsense": false} {
		if err := g.control(t.Context(), "tcp", address, nil); (err == nil) != want {
			t.Errorf("control(%s) = %v, want admitted %v", address, err, want)
		}
	}
	// And the dialer that is really used does so.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	d := net.Dialer{ControlContext: g.control}
	if c, err := d.DialContext(t.Context(), "tcp", listener.Addr().String()); !errors.Is(err, ErrRefused) {
		t.Errorf("dialled %v: %v, want ErrRefused", c, err)
	}
}

func TestHosts(t *testing.T) {
	hosts, err := ParseHosts([]string{"github.com", "*.Example.org", "git.institute.edu:8443", " raw.example.net "})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"https://github.com/x": true, "https://GitHub.com/x": true, "https://github.com:443/x": true,
		"https://github.com:8443/x": false, "https://evilgithub.com/x": false, "https://github.com.evil.org/x": false, "https://github.com./x": false,
		"https://a.example.org/x": true, "https://a.b.example.org/x": true, "https://example.org/x": false, "https://notexample.org/x": false,
		"https://git.institute.edu:8443/x": true, "https://git.institute.edu/x": false,
		"https://raw.example.net/x": true, "http://github.com/x": false, "ftp://github.com/x": false, "https://ada@github.com/x": false, "https:///x": false,
	} {
		u, err := parseURL(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := hosts.admit(u, false); (err == nil) != want || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("admit(%s) = %v, want admitted %v", text, err, want)
		}
	}
	for _, text := range []string{"", "https://github.com", "a b", "*.", "*x.org", "host:", "host:1:2", "a/../b"} {
		if got, err := ParseHosts([]string{text}); err == nil {
			t.Errorf("ParseHosts(%q) = %q, want an error", text, got)
		}
	}
}
