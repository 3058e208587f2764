// Package pilot is the process a batch system starts on a worker node: it
// measures the node, pulls tasks that fit, runs them, and says how they went.
//
// Nouns: a [Pilot] is one process with one key; an attempt is one lease being
// run, in a directory of its own; the link is its connection to the coordinators;
// an exchange is the one message that lists what it holds, carries reports, and
// brings new leases and orders. What the pilot says and when is decided by its
// [Conversation], in steps that are told the time and do nothing themselves; they
// are exported for cmd/simulation, which drives the same ones in virtual time.
//
// What is authoritative: the coordinators, for which leases this pilot holds. A
// lease they order abandoned is stopped at once, whatever it has cost.
//
// Invariants: a report is signed and on disk before it is sent, and leaves the
// disk only when its fate is known. Exchanges are made one after another, so the
// list of leases in the newest one is complete. The private key never leaves the
// memory of this process. Without any coordinator for longer than a lease's fence
// (by boot time, so that a suspended machine counts), its payload is killed.
//
// On failure: see payload and stage for whose fault is whose. SIGTERM means
// drain: payloads get it, too, and what does not finish is reported preempted. A
// node that fails its own check waits before it leaves, so that the batch system
// does not fill the slot again at once.
//
// What it is not: it chooses no work and keeps nothing between runs but the cache
// and undelivered reports.
package pilot
