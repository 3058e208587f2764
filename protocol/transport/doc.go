// Package transport carries the API between clients and coordinators: HTTP/3
// over QUIC, and HTTP/2 or 1.1 over TCP on the same port number, TLS 1.3 always.
//
// Nouns: a [Server] serves one http.Handler over both; a [Client] reaches any of
// several coordinators over the best [Rung] that works (QUIC, TCP, HTTP CONNECT
// through a proxy). A [Door] is the policy that the name in the ClientHello
// chooses: pilot.<cluster>, site.<cluster> and peer.<cluster> require a client
// certificate of that role, enrol.<cluster> and every other name ask for none.
// An [Identity] is what a certificate says, a [Caller] is who speaks in one
// request.
//
// What is authoritative: the verified leaf certificate's one URI,
// spiffe://<cluster>/site/<site>/pilot/<pilot>, …/site/<site> or
// …/coordinator/<node>. Nothing in a header says who somebody is, except that a
// handler may turn an anonymous caller into a person by a token of its own.
//
// Invariants: a client sends nothing, not even a header, before the server's
// chain was found to end in a pinned key and its leaf to be a coordinator of the
// right cluster. No session is resumed and no early data is taken. Every request
// is checked against the end of its certificate, bounded in header and body, and
// must make progress. A panic of a handler ends its request only.
//
// On failure: refusals travel as [protocol.Error], as a problem document or as
// CBOR. A rung that fails is left for the next one and tried again later; a peer
// that fails the pin is an error on every rung and never a reason to climb down.
// A request that may have reached a coordinator is repeated only if the caller
// said that it is idempotent.
//
// What it is not: it does not know routes, roles' rights or tokens' validity
// (coordinator/auth and coordinator/server do), and Raft's own connections are
// not made here. The site relay forwards packets unread: it is one more address.
package transport
