// Package fetch brings the code of external modules from the outside, when a dataset
// is submitted, so that no job ever has to (paper §3.4).
//
// Nouns: a reference is a steering.External, an address that a person wrote; an
// origin is the repository or file behind it; a [Module] is what was brought, as a
// tarball under its digest, with a pinned address that always means the same bytes.
// A [Fetcher] holds the rules of a cluster; a [Session] is the work for one
// submission and fetches each origin once.
//
// What is authoritative: the digest of the tarball, and the commit of a repository,
// which is verified object by object. Names (tags, branches) count at the moment of
// the submission only.
//
// A person who may submit decides where a coordinator connects to, which others
// could not reach. The invariants are therefore:
//
//   - only hosts of the list, at their usual ports or those the list names, over
//     https; http only where the digest is declared beforehand;
//   - the address that is dialled was looked at after its name was resolved, and
//     again by the socket, for every connection: nothing private, of this machine or
//     link, and nothing that hides such an address (IPv4 in IPv6, NAT64, 6to4);
//   - a redirect is held to all of this, and there are at most three;
//   - no credential is sent, no cookie kept, no proxy asked;
//   - bytes are counted while they come, before and after decompression, and time
//     is limited;
//   - archives are unpacked by the rules of package cache, packs of git are measured
//     before they are read.
//
// On failure: an error that names what was refused, and, where there is one, the
// next right thing; [ErrRefused] where repeating cannot help. Nothing is left behind
// but the temporary directory of the session, which Close removes.
//
// What it is not: it does not run what it brings, does not look into it, and keeps
// nothing.
package fetch
