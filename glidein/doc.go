// Package glidein is one cron-driven pass of a site: it asks the coordinator how
// many pilots of which shape are wanted and keeps that many pilot jobs in the
// site's batch system. It never sees a task.
//
// Nouns: the [Config] of the site (the paper's sections queue, system and env,
// §5.4), a launch lease (reserved demand for one pilot job, named by
// [protocol.LaunchID]), the [Ledger] of pilot jobs this site has submitted, and
// the [Result] of a pass.
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
// On failure: if the batch system cannot be asked, nothing is launched (unknown is
// not zero) and the coordinator is told; if no coordinator answers, nothing is
// launched and nothing is removed. Reports found in the spool are delivered.
//
// What it is not: it does not run payloads, and does not decide what runs where.
package glidein
