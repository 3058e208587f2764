// Package history is the append-only ledger of what happened, beside the record:
// every ended attempt and every control action, and the exact statistics over the
// attempts that count.
//
// Nouns. A row is one event of coordinator/state that history keeps. The journal
// holds the newest rows, in generations; a full generation is sealed into an
// immutable file of compressed pages, sorted per dataset by task and job. An
// [Attempt] is folded from its rows: how it ended, usage that a late report added,
// a withdrawal. An accumulator is the exact fold of one statistic over the accepted
// attempts of one task; [Totals] are the usage of all attempts, used and wasted
// apart.
//
// Authoritative is the log: the ledger is derived from it, entry by entry, and
// every coordinator derives the same. On disk, in its directory:
//
//	journal.db      newest rows, statistics, totals, names of the sealed files
//	sealed/HEX      sealed files, named by their SHA-256
//
// Invariants.
//   - One transaction holds the rows of some log entries, what they change in
//     statistics and totals, and how far the ledger has come. Entries up to there
//     are passed over when they are applied again, so each event counts exactly
//     once wherever a crash falls (I-11).
//   - Statistics are independent of order and subtractable to the last bit: they are
//     sums in fixed point over the whole range of float64, 2,163 bits for values and
//     4,261 for squares (see wide.go). Sum, mean and deviation are rounded once.
//   - A sealed file depends on its rows only; coordinators with the same journal
//     limit have the same files. It is synced before the journal drops its rows.
//   - A query sees one consistent state of journal and sealed files, and reads only
//     pages of the dataset it asks about.
//
// How it is fed. The goroutine that applies the log calls [Ledger.Append] for every
// entry and [Ledger.Restored] after a snapshot replaced the record; a snapshot is
// persisted only after [Ledger.SyncTo] its index, so the log keeps everything the
// ledger lacks. [Ledger.Run] writes. The queue is bounded: when writing falls
// behind, applying waits.
//
// Failures. A failed write ends Run with the error and the coordinator must stop. A
// snapshot installed beyond what the ledger has leaves a [Gap]; [Ledger.Adopt]
// closes it with a peer's copy while the log goes on being applied, and [Install]
// where the ledger is not open. While there is a gap nothing is sealed. A lost or
// damaged sealed file is named by [Ledger.Damaged] or found by [Ledger.Verify], and
// mended from a peer by its digest; until then queries that need its pages fail with
// a [*DamageError], and never answer without them.
//
// It is not the record: nothing is decided by it. It does not store logs or files
// (coordinator/blob does) and knows nothing of attempts that still run.
package history
