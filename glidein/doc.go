// Package glidein is one cron-driven pass of a site: it asks the coordinator how
// many pilots of which shape are wanted and keeps that many pilot jobs in the
// site's batch systems. It never sees a task.
//
// Nouns: the [Config] of the site (the paper's sections queue, system and env,
// §5.4), a launch lease (reserved demand for one pilot job, named by
// [protocol.LaunchID]), the [Ledger] of pilot jobs this site has submitted, and
// the [Result] of a pass. A station is one batch system, asked once for the jobs of
// all queues that the site has there; a line is one of these queues.
//
// What is authoritative: for which pilot jobs exist, the batch system; for which
// are wanted, the coordinator; the ledger only connects the two and survives
// neither being asked.
//
// Invariants: a pass is idempotent and alone (a file lock; a second one leaves at
// once). A launch lease is in the ledger, on disk, before its job is submitted,
// and in the job's name, so a pass that dies at any point leaves nothing that the
// next one does not adopt or remove. The caps hold whatever the coordinator says.
//
// How a job ended is in the ledger until a coordinator has heard of it.
//
// On failure: if a batch system cannot be asked, nothing is launched there (unknown is
// not zero), its jobs count as they were known, the coordinator is told, and the pass
// goes on with the others; if no coordinator answers, nothing is
// launched and nothing is removed. Reports found in the spool are delivered.
//
// What it is not: it does not run payloads, and does not decide what runs where.
package glidein
