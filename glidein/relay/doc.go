// Package relay carries the bytes of pilots on nodes without a way out: one process on
// a site's login node, without root.
//
// Nouns: a pilot job shows its pass (transport.RelayPass) and asks for a tunnel to an
// address by HTTP CONNECT, within TLS to the relay's own key. What goes through the
// tunnel is TLS between pilot and coordinator, which the relay cannot read.
//
// What is authoritative: the site's relay key. Passes are drawn from it, name one pilot
// job and end; the relay keeps no list of them. Coordinators' addresses are those that
// the site knows, asked for each tunnel.
//
// Invariants: nothing is connected to but coordinators' addresses and the storage that
// the site lists. Nobody holds more than the limits allow, before and after showing a
// pass: connections, tunnels, silence, bytes; and what one takes is not taken from the
// others.
//
// On failure: a relay that ends takes its tunnels with it, and pilots connect anew. The
// pass of the site starts it again.
//
// What it is not: a cache (cache/site), and not for UDP: nodes reach their login node
// by a good network, on which QUIC gains nothing.
package relay
