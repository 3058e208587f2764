// Package software is how published software is known to be what its publisher
// made, by whoever uses it: coordinators, pilots, sites and people.
//
// Nouns: a build is a tarball under a name, a version and a platform; a publisher
// is a person whose Ed25519 key signs builds; a certificate says whose key it is; a
// [Bill] lists the builds that a dataset may use; a [Trust] is what somebody
// believes.
//
// What is authoritative: the cluster's root key, by the digest (pin) that every
// token and ticket carries. The root signs publishers' certificates itself; the
// issuing authority below it, whose key all coordinators hold, cannot. So neither a
// coordinator nor its blob store can pass other software off as a publisher's. A
// site may trust less: only the keys that it lists.
//
// Invariants: a signature covers the cluster, all names, both digests and the
// sizes. Names are matched before anything is fetched. The choice among builds
// ([Choose]) depends on the node and the cards of an attempt alone.
//
// On failure: [ErrUntrusted] names what does not hold; nothing of it is used.
// Certificates' dates are looked at when something is published, not when it is
// used: software must run for years, and nodes' clocks are often wrong.
//
// What it is not: it fetches nothing and keeps nothing.
package software
