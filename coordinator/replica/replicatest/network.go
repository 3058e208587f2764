// Package replicatest is an in-memory network for tests of replicas, also inside a
// testing/synctest bubble: connections are pipes, faults are cuts. It promises
// nothing about timing.
package replicatest

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Network connects layers by address. The zero value is ready; methods may be
// called concurrently.
type Network struct {
	// Latency delays every write; set it before the first Listen. In a bubble it must
	// be positive if clients never pause: virtual time stands still while somebody
	// can run, and with it every election timeout.
	Latency time.Duration

	mu     sync.Mutex
	layers map[string]*Layer
	cuts   map[[2]string]bool
	links  map[*link]struct{}
}

// link is one open connection.
type link struct {
	from, to string
	ends     [2]net.Conn
}

// Listen adds a layer at an address; a closed one at the same address is replaced.
func (n *Network) Listen(address string) *Layer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.layers == nil {
		n.layers, n.cuts, n.links = map[string]*Layer{}, map[[2]string]bool{}, map[*link]struct{}{}
	}
	l := &Layer{network: n, address: address, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.layers[address] = l
	return l
}

// Cut separates an address from the others, or from all when none are named, both
// ways: open connections break and new ones are refused.
func (n *Network) Cut(address string, others ...string) { n.set(true, address, others) }

// Heal undoes Cut.
func (n *Network) Heal(address string, others ...string) { n.set(false, address, others) }

func (n *Network) set(cut bool, address string, others []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(others) == 0 {
		for other := range n.layers {
			others = append(others, other)
		}
	}
	for _, other := range others {
		if other != address {
			n.cuts[pair(address, other)] = cut
		}
	}
	for l := range n.links {
		if n.cuts[pair(l.from, l.to)] {
			l.ends[0].Close()
			l.ends[1].Close()
			delete(n.links, l)
		}
	}
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// Layer is one member's view of the network; it is a replica.StreamLayer.
type Layer struct {
	network *Network
	address string
	accept  chan net.Conn
	close   sync.Once
	closed  chan struct{}
}

// Accept returns the next connection.
func (l *Layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections stay open.
func (l *Layer) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Dial connects to the layer at an address.
func (l *Layer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	n := l.network
	n.mu.Lock()
	target, cut := n.layers[address], n.cuts[pair(l.address, address)]
	n.mu.Unlock()
	if target == nil || cut {
		return nil, fmt.Errorf("dial %s: no route", address)
	}
	near, far := n.pipe()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case target.accept <- far:
	case <-target.closed:
		return nil, fmt.Errorf("dial %s: connection refused", address)
	case <-timer.C:
		return nil, fmt.Errorf("dial %s: timeout", address)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k := &link{from: l.address, to: address, ends: [2]net.Conn{near, far}}
	if n.cuts[pair(l.address, address)] {
		near.Close()
		far.Close()
		return nil, fmt.Errorf("dial %s: no route", address)
	}
	n.links[k] = struct{}{}
	return &dialled{Conn: near, link: k, network: n}, nil
}

func (n *Network) pipe() (near, far net.Conn) {
	near, far = net.Pipe()
	if n.Latency > 0 {
		near, far = newSlow(near, n.Latency), newSlow(far, n.Latency)
	}
	return near, far
}

// slow delays each write.
type slow struct {
	net.Conn
	latency time.Duration
	once    sync.Once
	closed  chan struct{}
}

func newSlow(c net.Conn, latency time.Duration) *slow {
	return &slow{Conn: c, latency: latency, closed: make(chan struct{})}
}

func (c *slow) Write(p []byte) (int, error) {
	timer := time.NewTimer(c.latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return c.Conn.Write(p)
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *slow) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// dialled forgets its link when the dialling side closes it.
type dialled struct {
	net.Conn
	link    *link
	network *Network
}

func (c *dialled) Close() error {
	c.network.mu.Lock()
	delete(c.network.links, c.link)
	c.network.mu.Unlock()
	return c.Conn.Close()
}
