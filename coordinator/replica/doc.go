// Package replica keeps one machine in step on all coordinators. It is the only
// package that knows hashicorp/raft: it drives the library, and wraps every place
// where the library alone would not keep the promises below.
//
// Nouns. The machine is the replicated record (coordinator/state behind its
// adapter); the replica drives it and knows nothing of its contents. A command is
// what a caller proposes; an entry is what the log holds: the commands gathered
// within a few milliseconds, sealed by the stamper with the leader's time. A
// receipt says where a command landed and what the machine answered. The fuse is
// the one-way switch that takes a node out: once blown, the network is severed, no
// store accepts a byte, and Run returns the cause.
//
// Authoritative are the committed log and the newest snapshot, in this directory:
//
//	log.db           entries, one bolt file (raft-boltdb)
//	stable.db        node id, term and vote, one bolt file of our own
//	snapshots/       the last three snapshots, each sealed by a SHA-256 trailer
//	damaged/         snapshots set aside at start because their seal was broken
//
// Promises.
//   - A command has one of three fates: applied (a receipt), not applied (a named
//     error, nothing will ever come of it) or unknown (ErrUnknown: it may or may
//     not be applied, now or later; repeat it under the same identity).
//   - An entry has one fate for all its commands; each command its own answer.
//     Commands of one caller that waits for each receipt are applied in its order.
//   - A receipt is given after a majority has synced the entry and this node's
//     machine has applied it.
//   - Leading means: elected in this term, a barrier of this term applied, and not
//     since deposed as far as this node can know. ReadIndex proves it to a majority.
//   - At most eight entries are in flight, so the suffix a deposed leader may have
//     to discard is short, and always shorter than the retained log.
//
// Failures. A failed or stalled write (5 s), an error or panic of the machine, an
// entry whose answers do not match its commands, or three snapshot installs without
// progress blow the fuse. A damaged directory is refused by Open, which names the
// repair and never wipes anything; a damaged newest snapshot is set aside if an
// older one and the log still hold everything this node ever stored. ExitCode maps
// these errors to process exit codes.
//
// It is not a cache, not a queue (admission is refused with ErrBusy when full), not
// a discovery service, and it does not forward: a follower answers ErrNotLeader with
// the leader it knows.
package replica
