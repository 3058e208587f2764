// Package site is the cache of a whole site: one process that fetches what its
// pilots ask for, once for all nodes, and gives it to them.
//
// Nouns: a [Server] serves one [cache.Store]; an origin is the URL from which a pilot
// would fetch the bytes itself.
//
// What is authoritative: digests. A pilot hashes what it gets, and goes on to its next
// source when that is something else. The server hashes before it gives.
//
// The wire: GET /v1/blobs/DIGEST?origin=URL&origin=…, over TLS with certificates of the
// cluster on both sides ([transport.WithinSite]); ranges are served. 404: neither the
// coordinators nor the origins have it. 403: an origin that is not fetched from here.
// 502: an origin failed. 503 with Retry-After: too much at once. 507: no room.
//
// Who may read: pilots of this site, that is whoever holds a pilot's certificate of the
// site, of what they can name by its SHA-256, which only those know who have seen the
// bytes or a steering file that names them. Payloads hold no certificate.
//
// What may be fetched: bytes that have the digest asked for, with GET, from https and
// http URLs, without the site's credentials. Nothing is ever given that has another
// digest, so that it is no open proxy: who asks for what he does not know already gets
// nothing. Loopback and link-local addresses are not fetched from, so that services of
// the host itself hear nothing either; [Config.Origins] narrows the rest.
//
// On failure: a pilot goes on to the coordinators and the origin by itself. The server
// keeps no state but its cache directory.
package site
