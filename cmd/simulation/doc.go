// Package simulation runs a whole federation in one goroutine and virtual time, and
// checks what it promised.
//
// Nouns: a [World] is one run, made by one seed; a node is a model coordinator (the
// real state machine and the real steps of a leader over a model of a replicated log);
// a pilot is the real conversation of a pilot over a model network, with payloads that
// are only durations; faults are what the seed does to them. An [Account] keeps the
// books from events alone; a [History] is what clients saw of claims and reports.
//
// What is real: coordinator/state, the steps of coordinator/server (Core, Exchange,
// Admission, Term), those of pilot (Conversation). What is a model: the log, which obeys
// the guarantees of Raft and no more; the network; disks, which lose what was not
// synced; clocks.
//
// Invariants: the same seed gives the same run to the last event, on every machine.
// Nothing here reads a clock, starts a goroutine, or ranges over a map where order shows.
//
// On failure: a run ends at the first broken invariant, named as in
// docs/invariants.md, and says which seed repeats it.
//
// What it is not: it tests neither Raft nor the network code; cmd/federation does, and
// checks with the [Account], [History] and [Replay] of this package.
package simulation
