// Package batch is the contract between a glidein pass and a batch system: the
// paper's five verbs (§3.2.1) as the interface [System].
//
// Nouns: a [Job] is one pilot job to be submitted, an [Entry] is one that the
// batch system says it has, [Properties] are what a system can do. An array is
// several jobs in one submission, named after the first of them, its leader, and
// told apart by an index.
//
// What is authoritative: the batch system, for which of our jobs exist. A job
// carries its launch lease in its name, so that a pass that died between
// submitting and recording finds its job again.
//
// Errors fall in three classes: [ErrTransient] (ask again in the next pass),
// [ErrRefused] (the system said no, and will again), [ErrUnknownJob] (it does
// not know the job). A query that fails is not an empty queue, and an exit
// status of 0 is not a promise: whether a job is there or gone, Status tells.
//
// Systems with tools of a command line run them through [Tool], which sees to
// deadlines, the locale and output without end.
//
// What it is not: it decides nothing. How many jobs are wanted, and which are
// orphans, is the pass's matter. Each system lives in a folder of its own below;
// batchtest is what all of them must pass.
package batch
