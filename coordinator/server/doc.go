// Package server answers the coordinators' API: it turns verbs into commands of
// the record, and the record, the ledger and the blob store into answers.
//
// Nouns: a caller (who speaks, from transport), a verb (one handler), the watch
// (the leader's memory of leases and pilots: when each was last heard of and in
// which phase), a parked exchange (a pilot that waits for work). What decides about
// pilots is apart from what waits: a [Core] is steps that are told the time and
// return what to propose; [Server] runs them with requests and the clock, and
// cmd/simulation the same ones in virtual time. That is what is exported for it.
//
// What is authoritative: the record for what is leased to whom, the ledger for
// what happened, the blob store for bytes. The watch is a leader's guess about
// the living; a new leader starts with an empty one and gives every lease a full
// term before it lets any lapse.
//
// Invariants: a verb is admitted by the table of rights before anything of it is
// decoded. A command is proposed only by the leader and only after its fields
// were checked. A passkey is derived when a lease is answered and when a report
// is admitted, and is never stored. Nothing waits while holding the record.
//
// On failure: a follower forwards to the leader with the verified identity; with
// no leader in reach, people read what the follower has, marked stale, and
// everything else is answered unknown, to be repeated. An outcome that is not
// known is never answered as failed.
//
// What it is not: it opens no sockets (transport does), decides no matches (state
// does), and keeps nothing on disk.
package server
