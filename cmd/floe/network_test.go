package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

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

var networks atomic.Int32

// newNetwork makes a network, of IPv6 alone where six says so. It needs root, and a
// kernel with namespaces; where they are missing the test is skipped, unless
// FLOE_TEST_NETWORK says that they must be there.
func newNetwork(t *testing.T, six bool, hosts ...string) *network {
	t.Helper()
	n := &network{t: t, name: fmt.Sprintf("floe%d.%d", os.Getpid(), networks.Add(1)), six: six, hosts: hosts}
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
