package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a small internet: hosts, each a network namespace with one address, behind
// one router, which is a namespace, too. Nothing leaves the machine.
type network struct {
	t     *testing.T
	name  string
	six   bool
	hosts []string
}

// newNetwork makes a network, of IPv6 alone where six says so. It needs root, and a
// kernel with namespaces; where they are missing the test is skipped, unless
// FLOE_TEST_NETWORK says that they must be there.
func newNetwork(t *testing.T, six bool, hosts ...string) *network {
	t.Helper()
	n := &network{t: t, name: "floe" + strings.ToLower(rand.Text()[:10]), six: six, hosts: hosts}
	unable := t.Skipf
	if os.Getenv("FLOE_TEST_NETWORK") != "" {
		unable = t.Fatalf
	}
	for _, program := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			unable("network namespaces: %v", err)
		}
	}
	if out, err := exec.Command("ip", "netns", "add", n.space("router")).CombinedOutput(); err != nil {
		unable("network namespaces cannot be made: %v: %s", err, out)
	}
	t.Cleanup(func() { n.try("ip", "netns", "del", n.space("router")) })
	n.run("ip", "-n", n.space("router"), "link", "set", "lo", "up")
	n.in("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for i, host := range hosts {
		n.run("ip", "netns", "add", n.space(host))
		t.Cleanup(func() { n.try("ip", "netns", "del", n.space(host)) })
		n.run("ip", "-n", n.space("router"), "link", "add", host, "type", "veth", "peer", "name", "out", "netns", n.space(host))
		n.run("ip", "-n", n.space("router"), "address", "add", n.at(i, 1)+n.bits(), "dev", host, "nodad")
		n.run("ip", "-n", n.space("router"), "link", "set", host, "up")
		n.run("ip", "-n", n.space(host), "link", "set", "lo", "up")
		n.run("ip", "-n", n.space(host), "address", "add", n.at(i, 2)+n.bits(), "dev", "out", "nodad")
		n.run("ip", "-n", n.space(host), "link", "set", "out", "up")
		n.run("ip", "-n", n.space(host), "route", "add", "default", "via", n.at(i, 1))
	}
	return n
}

// at is an address of the network of host i: 1 is the router's, 2 the host's.
func (n *network) at(i, j int) string {
	if n.six {
		return fmt.Sprintf("fd77:%d::%d", i+1, j)
	}
	return fmt.Sprintf("10.77.%d.%d", i+1, j)
}

func (n *network) bits() string {
	if n.six {
		return "/64"
	}
	return "/24"
}

// space is the namespace of a host.
func (n *network) space(host string) string { return n.name + "." + host }

// host is the address of a host.
func (n *network) host(name string) netip.Addr {
	for i, h := range n.hosts {
		if h == name {
			return netip.MustParseAddr(n.at(i, 2))
		}
	}
	n.t.Fatalf("no host %s", name)
	return netip.Addr{}
}

// port is host:port.
func (n *network) port(host string, port uint16) string {
	return netip.AddrPortFrom(n.host(host), port).String()
}

func (n *network) try(program string, args ...string) { _ = exec.Command(program, args...).Run() }

func (n *network) run(program string, args ...string) {
	n.t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}

// in runs a program on a host.
func (n *network) in(host, program string, args ...string) {
	n.t.Helper()
	n.run("ip", append([]string{"netns", "exec", n.space(host), program}, args...)...)
}

// rules replaces what the router does with packets: rules of nftables for those that it
// forwards.
func (n *network) rules(forward ...string) {
	n.t.Helper()
	n.nft("flush ruleset\ntable inet router {\n chain forward {\n type filter hook forward priority 0;\n " + strings.Join(forward, "\n ") + "\n }\n}\n")
}

func (n *network) nft(text string) {
	n.t.Helper()
	c := exec.Command("ip", "netns", "exec", n.space("router"), "nft", "-f", "-")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		n.t.Fatalf("nft: %v: %s\n%s", err, out, text)
	}
}

// listen opens a socket of this process on a host.
func (n *network) listen(host string, port uint16) net.Listener {
	n.t.Helper()
	type opened struct {
		l   net.Listener
		err error
	}
	done := make(chan opened)
	go func() {
		// The thread ends with the goroutine: it is of another namespace now.
		runtime.LockOSThread()
		l, err := func() (net.Listener, error) {
			space, err := os.Open(filepath.Join("/run/netns", n.space(host)))
			if err != nil {
				return nil, err
			}
			defer space.Close()
			if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			return net.Listen("tcp", n.port(host, port))
		}()
		done <- opened{l, err}
	}()
	o := <-done
	if o.err != nil {
		n.t.Fatal(o.err)
	}
	return o.l
}

// squid starts a real one on a host, at port 3128, that lets in a user with a password.
// What it was asked is returned by the function.
func (n *network) squid(host, user, password string) func() string {
	n.t.Helper()
	program, err := exec.LookPath("squid")
	if err != nil {
		program = "/usr/sbin/squid" // not on the PATH of everybody
	}
	const asks = "/usr/lib/squid/basic_ncsa_auth"
	for _, p := range []string{program, asks} {
		if _, err := os.Stat(p); err != nil {
			n.t.Skipf("a proxy: %v", err)
		}
	}
	// It gives up root, and must be able to go where its files are.
	dir, err := os.MkdirTemp("", "floe-squid")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hash, err := exec.Command("openssl", "passwd", "-apr1", password).Output()
	if err != nil {
		n.t.Fatalf("openssl passwd: %v", err)
	}
	log, config, users := filepath.Join(dir, "access.log"), filepath.Join(dir, "squid.conf"), filepath.Join(dir, "users")
	text := fmt.Sprintf(`http_port %s
auth_param basic program %s %s
acl known proxy_auth REQUIRED
http_access allow CONNECT known
http_access deny all
cache deny all
access_log stdio:%s
cache_log %s/cache.log
pid_filename none
coredump_dir %[5]s
logformat squid %%>a %%Ss/%%03>Hs %%rm %%ru %%un
shutdown_lifetime 1 seconds
`, n.port(host, 3128), asks, users, log, dir)
	err = errors.Join(os.Chmod(dir, 0o777), //nolint:gosec // another user writes to it
		os.WriteFile(users, []byte(user+":"+string(hash)), 0o644), os.WriteFile(config, []byte(text), 0o644)) //nolint:gosec // another user reads them
	if err != nil {
		n.t.Fatal(err)
	}
	c := exec.Command("nsenter", "--net=/run/netns/"+n.space(host), program, "-N", "-f", config)
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	n.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if out, err := exec.Command("ip", "netns", "exec", n.space(host), "ss", "-Hltn", "sport = 3128").Output(); err == nil && len(out) > 0 {
			break
		}
		select {
		case err := <-ended:
			ended <- err
			said, _ := os.ReadFile(filepath.Join(dir, "cache.log"))
			n.t.Fatalf("squid: %v\n%s", err, said)
		case <-tick.C:
		}
	}
	return func() string {
		b, _ := os.ReadFile(log) // there is none before the first request
		return string(b)
	}
}

// proxyEnv is the environment that has pilots use it.
func (n *network) proxyEnv(user, password, except string) string {
	return fmt.Sprintf("[env]\nhttps_proxy = \"http://%s:%s@%s\"\nno_proxy = %q\n", user, password, n.port("head", 3128), except)
}
