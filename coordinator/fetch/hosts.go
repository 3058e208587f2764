package fetch

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// DefaultHosts are where most open code is kept, and where these send a client on to.
var DefaultHosts = []string{
	"github.com", "*.github.com", "*.githubusercontent.com", "gitlab.com", "bitbucket.org", "codeberg.org", "zenodo.org",
}

// Hosts is a list of hosts: a name, with *. before it for all below it, with :PORT
// behind it for another port than the usual one. A single * is every host.
type Hosts []string

var hostPattern = regexp.MustCompile(`^(\*|(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9])?)(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$`)

// ParseHosts reads a list; every mistake is told.
func ParseHosts(all []string) (Hosts, error) {
	var hosts Hosts
	for _, h := range all {
		h = strings.ToLower(strings.TrimSpace(h))
		if !hostPattern.MatchString(h) {
			return nil, fmt.Errorf("host %q: want NAME, *.NAME, NAME:PORT, or * for all", h)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// ParseNetworks reads the networks that an operator opens.
func ParseNetworks(all []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range all {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("network %q: want an address and a length, such as 10.1.0.0/16", text)
		}
		p = p.Masked()
		ok := false
		for _, y := range yielding {
			ok = ok || y.Bits() <= p.Bits() && y.Contains(p.Addr())
		}
		if !ok {
			return nil, fmt.Errorf("network %v: only private networks and this machine can be opened; public addresses need no opening, link-local ones stay closed", p)
		}
		networks = append(networks, p)
	}
	return networks, nil
}

// admit holds a URL to the list and to https; plain says that http will do.
func (h Hosts) admit(u *url.URL, plain bool) error {
	usual := "443"
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && plain:
		usual = "80"
	default:
		return fmt.Errorf("%w: %s://%s: only https is fetched, and http where the sha256 is declared", ErrRefused, u.Scheme, u.Host)
	}
	if u.User != nil {
		return fmt.Errorf("%w: %s: an address with a user or password", ErrRefused, u.Host)
	}
	name, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = usual
	}
	if name == "" {
		return fmt.Errorf("%w: an address without a host", ErrRefused)
	}
	for _, pattern := range h {
		host, wanted := pattern, usual
		if i := strings.LastIndexByte(pattern, ':'); i >= 0 && !strings.HasSuffix(pattern, "]") {
			host, wanted = pattern[:i], pattern[i+1:]
		}
		host = strings.Trim(host, "[]")
		below, wild := strings.CutPrefix(host, "*.")
		if port == wanted && (host == "*" || host == name || wild && strings.HasSuffix(name, "."+below)) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not among the hosts that modules are fetched from: %s (--module-hosts of the coordinators)", ErrRefused, hostPort(name, u.Port()), h.list())
}

func hostPort(name, port string) string {
	if port == "" {
		return name
	}
	return net.JoinHostPort(name, port)
}

func (h Hosts) list() string {
	if len(h) == 0 {
		return "none"
	}
	return strings.Join(h, ", ")
}
