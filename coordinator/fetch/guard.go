package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// errAddress: an address that coordinators do not connect to for others.
var errAddress = errors.New("not a public address")

// forbidden are the networks of the special-purpose registries of IANA for IPv4
// that are not reachable by everybody, and multicast. Source: RFC 6890 and its
// registry.
var forbidden = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4",
	// Of the global part of IPv6: protocol assignments with Teredo, documentation, 6to4.
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var (
	global6 = netip.MustParsePrefix("2000::/3")
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	// yielding are the networks that an operator may open: an institute's own, and
	// this machine. Link-local addresses, where clouds keep credentials, are never opened.
	yielding = prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "fc00::/7", "::1/128")
)

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(all))
	for i, s := range all {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// resolver finds the addresses of a name.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// guard dials only addresses that everybody can reach, and those that an operator
// has opened.
type guard struct {
	resolver resolver
	opened   []netip.Prefix
	// dial connects to an address that was looked at; nil is the machine's.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// admits looks at one address.
func (g *guard) admits(a netip.Addr) error {
	if a.Zone() != "" {
		return fmt.Errorf("%v: %w", a, errAddress)
	}
	plain := a.Unmap() // ::ffff:10.0.0.1 is 10.0.0.1
	if nat64.Contains(plain) {
		b := plain.As16()
		plain = netip.AddrFrom4([4]byte(b[12:]))
		if contains(forbidden, plain) {
			return fmt.Errorf("%v, which is %v behind NAT64: %w", a, plain, errAddress)
		}
		return nil
	}
	if contains(yielding, plain) && contains(g.opened, plain) {
		return nil
	}
	if !plain.IsValid() || contains(forbidden, plain) || plain.Is6() && !global6.Contains(plain) {
		return fmt.Errorf("%v: %w", a, errAddress)
	}
	return nil
}

// dialTimeout is how long one address may take to answer.
const dialTimeout = 10 * time.Second

// DialContext resolves a name, looks at every address, and connects to the first
// that answers. One address that is not public refuses the name: it is no mistake
// of a resolver but an attempt.
func (g *guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	if literal, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addresses = []netip.Addr{literal}
	} else if addresses, err = g.resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if err := g.admits(a); err != nil {
			return nil, fmt.Errorf("%w: %s is %w", ErrRefused, host, err)
		}
	}
	dial := g.dial
	if dial == nil {
		d := net.Dialer{Timeout: dialTimeout, ControlContext: g.control}
		dial = d.DialContext
	}
	var all []error
	for _, a := range addresses {
		c, err := dial(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return c, nil
		}
		all = append(all, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return nil, errors.Join(all...)
}

// control looks once more, at what the socket is about to connect to.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil {
		err = g.admits(at.Addr())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}
