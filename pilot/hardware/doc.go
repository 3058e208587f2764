// Package hardware measures what a pilot may use of its node, before it asks
// for work.
//
// Nouns: Resources of package protocol are the answer; a [Finding] is one
// number with the place it was read from, a [Comparison] what the batch system
// promised beside what was found, a [Report] all of them, so that a person asking
// "why only four cores?" reads it from the pilot's log.
//
// What is authoritative: the smallest of what several witnesses say. A batch
// system grants a slot, not a node, and says so by affinity mask, cpuset, cgroup
// quota, environment variables or a machine description, no system by all of
// them. Time is the exception: an argument beats a variable.
//
// Invariants: nothing on the node is changed. Every file is read below
// Options.Root and every program is run by Options.Run, so a recorded tree of a
// strange node is a test.
//
// A card is sound when it has passed a test that runs on it, where anything on the
// node can run it (selftest/README.md); its driver's word alone counts for less.
//
// On failure: a witness that cannot be read is no witness. One that hangs is left
// behind after 20 seconds (the test of a card after a minute), with a goroutine, for
// a call that hangs in the kernel cannot be ended. A broken one (a GPU driver that
// answers with an error, a mount that hangs) becomes a line in Report.Problems and
// its resource is not offered; Measure itself never fails.
//
// What it is not: it reserves nothing, and does not know what tasks of this
// pilot already use.
package hardware
