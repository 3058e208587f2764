// Package cache is a directory of verified files and unpacked software trees on
// a node, shared by the pilots of one user, many processes at once.
//
// Nouns: a blob is a file named by its SHA-256; a tree is a tarball unpacked,
// with a sealed manifest of every file in it; a [Source] gives the bytes of a
// digest; a use is a shared lock that says somebody runs from an entry.
//
// What is authoritative: the digest. A name in the cache promises that the bytes
// this process itself copied or read had that SHA-256.
//
// Layout of the directory:
//
//	blobs/ab/abcd…      one verified file, read-only
//	trees/abcd…/        manifest (see [Manifest]) and root/, the unpacked tarball abcd…
//	locks/abcd…         held alone while fetching or evicting, shared while in use
//	tmp/                what is being written; older than a day: removed at Open
//	quarantine/         entries that did not verify, for a person to look at
//
// Invariants: nothing appears under its final name before it is complete, synced
// and verified. A digest is fetched by one process at a time, on any number of
// nodes that share the directory. An entry in use is never evicted. A tree is
// verified in full the first time a process uses it, and is warm for that process
// from then on.
//
// On failure: a damaged entry is moved to quarantine and fetched anew. A full disk
// or a spent quota is [ErrNoSpace]: the caller runs without the cache. Bytes that
// are not what the digest says are [ErrMismatch] when every source gave such.
//
// What it is not: it does not decide what is needed and holds no secrets.
package cache
