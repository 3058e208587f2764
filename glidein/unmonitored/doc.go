// Package unmonitored hands the jobs of one steering file straight to a batch
// system, without coordinators: the paper's unmonitored mode (§3.2). Each becomes one
// batch job, in arrays where the system has them.
//
// Nouns: a [Run] is a directory with a ledger; a [Job] is one line of it; a [Result]
// is what a job that has ended says of itself, in its own output.
//
// What is authoritative: the batch system, for which jobs there are; the output of a
// batch job, for how it went. The ledger connects the two.
//
// Invariants: one process has a run at a time (a file lock). A job is in the ledger,
// on disk, before it is submitted, and its launch in the name of its batch job, so
// that whoever opens the run after a crash finds it again. An attempt has a launch
// and a directory of its own: what an earlier one says is never taken for a later.
// Launches begin with [batch.RunPrefix], by which a site's pass knows to leave the
// batch jobs alone.
//
// On failure: if the batch system cannot be asked, nothing changes. A submission that
// was not answered is looked for by name for some minutes, and where the system has
// names no longer: it is never submitted twice while it may still come. A batch job
// that is gone without a word is lost; its job can be submitted again.
//
// What it is not: nobody matches, retries or collects statistics. It does not know
// what a job does.
package unmonitored
