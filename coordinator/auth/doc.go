// Package auth is who may do what in a cluster: its certificate authority, its
// secrets, its tokens and its table of rights.
//
// Nouns: a [Cluster] is the folder of keys of one coordinator; its [Authority]
// signs the certificates of pilots, sites and coordinators; [Secrets] are what
// all coordinators of the cluster hold; a [Policy] is the table of rights, a
// [Principal] whoever it judges.
//
// What is authoritative: the root's public key. Its digest stands in every token,
// so whoever joins knows the cluster by it. The root signs one issuing
// certificate, which every coordinator holds and which signs all others; the
// root's key lies only where the cluster was made and may be taken away from
// there. Who is enrolled, revoked or invited is in the record, not here.
//
// On disk, in a folder of mode 0700, files of mode 0600:
//
//	root.pem         root certificate
//	root.key         its key (PKCS 8), only where the cluster was made
//	secrets.cbor     Secrets, with the issuing key
//	coordinator.pem  this coordinator's chain: leaf, issuing, root
//	coordinator.key  the leaf's key
//
// Invariants: a certificate says what the authority was told, never what the
// request asked for; the key in it signed the request. A certificate never
// outlives its issuer. Passkeys are derived, so any coordinator gives the same
// one and none is stored. What no rule allows is refused.
//
// On failure: a folder that lacks a file or whose pieces do not belong together
// is refused by name at start. A leaf that cannot be written is used all the same.
//
// What it is not: it opens no connection (protocol/transport does) and keeps no
// tokens (the record does, as digests).
package auth
