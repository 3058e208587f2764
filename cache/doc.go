// Package cache is a directory of verified files and unpacked software trees on
// a node, shared by all pilots of one user, many processes at once.
//
// Nouns: a blob is a file named by its SHA-256; a tree is a tarball unpacked,
// with a sealed manifest of every file in it; a [Source] gives the bytes of a
// digest; a use is a shared lock on an entry, which says that somebody runs from
// it; a session is a process that writes; room is what the quota leaves.
//
// What is authoritative: the digest. A name in the cache promises that the bytes
// this process itself copied or read had that SHA-256.
//
// Layout of the directory:
//
//	blobs/ab/abcd…           one verified file; its use is a lock on the file
//	trees/abcd…/about        size and manifest's digest, sealed; its use is a lock on it
//	trees/abcd…/manifest     every file of it, see [Manifest]
//	trees/abcd…/root/        the unpacked tarball abcd…, read-only
//	trees/abcd…/checked-BOOT what stat said when all of it was hashed under that boot
//	trees/abcd…/scrubbed     its time is that of the last hashing, by any node
//	names/0123…              which blob a URL without a digest gave, see [Store.Named]
//	making/abcd…             held alone by who fetches abcd…
//	sessions/ID              held alone while the process lives; its text is the room it reserves
//	tmp/ID/                  what that process is writing
//	quarantine/              entries that did not verify, for a person to look at
//	room, scrubbing          held alone by who reserves or evicts; by who scrubs
//	nodes/NAME/              all of the above for one node, where locks do not reach others
//
// Invariants: nothing appears under its final name before it is complete and
// verified. A digest is fetched by one process at a time, on any number of nodes
// that share the directory. Entries, what is reserved for those being written, and
// quarantine together stay below the quota. An entry in use is never evicted.
//
// A tree is hashed in full by the first process that uses it after a boot of its
// node: what was not on stable storage when power was lost is found by that. Later
// processes compare what stat says of every file with what it said then, and hash a
// sample. For a process that has done either, the tree is warm. [Store.Scrub] hashes
// the rest again over time. Blobs are hashed at every use.
//
// On failure: a damaged entry is moved to quarantine and fetched anew; who runs from
// it is told by [Entry.Intact]. A process that is killed leaves nothing that counts:
// the next one that needs room removes its files. A full disk or a spent quota is
// [ErrNoSpace]: the caller runs without the cache. Bytes that are not what the digest
// says are [ErrMismatch] when every source gave such. Where locks do not work, Open
// is refused with [ErrLocks].
//
// What it is not: it does not decide what is needed and holds no secrets.
package cache
