// Package blob keeps content-addressed files on one coordinator: steering
// documents, modules, software and pilot binaries, stored logs, and, for demos and
// small files, temporary and permanent outputs.
//
// Nouns. A blob is a file named by its SHA-256. A reference is why it is kept: a
// [Class] and an owner, such as a dataset, a job or a lease. A blob lives as long as
// it has a reference; one stored for two owners survives the release of either. The
// class decides quota, largest size and retention. A blob is missing when a
// reference names it but this coordinator's copy is gone or was found damaged;
// putting the same bytes again mends it, and that is how copies come back from
// peers. [Tails] are another thing: the ends of logs of running attempts, in memory.
//
// Authoritative are the references in the index; files follow them:
//
//	index.db           references, sizes, usage by class (bolt)
//	blobs/ab/abcd…     the bytes, at most one file per digest, never changed; those of
//	                   small logs are in the index
//	incoming/          files being written; emptied by Open
//	quarantine/        damaged files, kept as evidence; Expire empties it
//
// Invariants. A reference is committed only after its file is synced under its
// final name, and a file is removed only after its last reference is; so a crash
// leaves at worst a file nobody refers to, which Scrub removes. Bytes enter only
// when their length and digest are as announced. Usage by class is changed in the
// transaction that changes the references, and counts a blob once per class.
//
// Failures are named errors, see errors.go. A file of the wrong length (seen on
// every open) or with the wrong digest (seen by Scrub) is moved to quarantine, the
// blob becomes missing and the caller sees [ErrMissing].
//
// It is not replication: who else must have a blob, and where a missing one comes
// from, is housekeeping's business. It speaks no HTTP and checks no rights.
package blob
