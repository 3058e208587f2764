// Package coordinator is one coordinator of a cluster, put together: the
// replicated record, the ledger, the blob store and the API in one process.
//
// Nouns: a [Config] says where a coordinator keeps its things and how it is
// reached; [Run] is its whole life; the record adapter drives the pure machine
// (coordinator/state) under the replica (coordinator/replica) and hands its events
// to history, to the server and to the log.
//
// What is authoritative: the log of the replica. Its directory, the ledger's and
// the blob store's lie side by side; only the first votes.
//
// Invariants: events reach the ledger in the order of the log, and a snapshot is
// persisted only after the ledger is synced to its index, so truncating the log
// loses no history. Every entry extends a chain of hashes over entries and events
// by which coordinators are compared, every ten seconds; each hour they compare a
// digest of the whole record. Who differs from the majority stops (ErrAstray).
//
// On failure: a store that cannot be written stops the process (fail-stop); the
// others go on. The exit code names the cause (ExitCode).
//
// What it is not: it decides nothing. Its parts do.
package coordinator
