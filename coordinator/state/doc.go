// Package state is the replicated record of floe as a pure machine: what the
// coordinators agree on, and the only place where it changes.
//
// Nouns: an [Entry] is one entry of the log, the [Command]s that one group commit
// gathered. A [Machine] applies entries to its [Record] and returns one [Answer]
// per command and the [Event]s that happened. A [Frozen] is the record at one log
// index, read and persisted while the machine goes on. Datasets, their tasks'
// states, [Lease]s, [Pilot]s, [Site]s, [Node]s, [Launch]es, [User]s and tokens are the
// record's things.
//
// What is authoritative: the log. The record is what applying it from the start
// gives; a snapshot is an abbreviation of that. The index of ready work is
// derived from the record and never persisted. Phases of a lease, connections and
// the last sign of life of a pilot are not here: they are leader memory.
//
// Shape: a dataset of ten million jobs is one object. Per task of its DAG there
// are bitmaps over job indexes for each state; waiting is what is in none of
// them. What is in flight (leases) and what went wrong (retry counters, raised
// requests) is kept sparsely; what waits or is done costs next to nothing.
//
// Invariants: Apply depends on nothing but the machine and its arguments: no
// clock, randomness, input or output, goroutine, lock, logger, floating point or
// order of a Go map; a test reads the source for them. The same log gives
// byte-identical snapshots on every node. Every change of a task's state goes
// through one function and one table of legal moves, drawn in
// docs/state-machine.md. A task has at most one current lease and at most one
// accepted attempt; attempt numbers and LeaseIDs are never used twice; a child is
// queued only when all its parents are copied or ok.
//
// On failure: a command that cannot be done is answered with a code and changes
// nothing. An entry or command that cannot be decoded is an error: the node must
// stop, because the others may have understood it. A broken invariant panics.
//
// Concurrency: one goroutine applies. Readers of a Machine must be kept out while
// it applies; a Frozen may be read at any time by anyone.
//
// What it is not: it does not authenticate (server and auth do), does not talk to
// Raft (replica does), does not remember ended attempts (history does), and
// never sees a passkey.
package state

//go:generate go run ./statemachinedoc
