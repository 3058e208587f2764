// Package payload runs one expanded task on the node: its trays and modules,
// one after another, in a directory, a session and limits of their own.
//
// Nouns: a [Task] holds [Tray]s, one per iteration, and a tray [Module]s:
// programs, scripts, or Python classes with the IPModule interface. [Dir] is an
// attempt's directory, [Limits] what it may use, [Log] the one file that
// everything the payload prints goes to, [Outcome] how it went.
//
// What is authoritative: the kernel's word about how a process ended, then
// what the pilot did to it (the first limit broken, or the reason of the
// context's end), then what the module says of itself. verdicts.rules are what
// these facts are judged by.
//
// Invariants:
//   - When Run returns, nothing of the payload lives: not a background process,
//     not one that made its own session and forked twice. Processes are found as
//     descendants, by session, by start time, and by a mark that they inherit; the
//     kernel ends those of an isolated one with the first process of its namespace.
//   - Nothing of another payload of the same pilot is touched.
//   - The log is written by the payload's own descriptor, never through the
//     pilot, so its last bytes survive any kill; its first and last part are kept.
//   - A statistic is reported or is the reason of the verdict, never dropped.
//   - No variable FLOE_… of the pilot and no credential of the site reaches the
//     payload's environment, except what Options.Extra gives it.
//
// On failure: every outcome has a verdict and a sentence of evidence. A broken
// node (no interpreter, no process table space) is told from a broken payload. If
// the pilot dies, the kernel kills the module's first process with it.
//
// Isolation, where the node allows it, gives each module namespaces of its own:
// isolation.go finds out, keeper.go is the pilot's side of the process that is the
// first one in them, start.go and fork.go how it comes to be, world.go the file system
// that it builds.
// A payload then sees neither the pilot nor another attempt.
//
// What it is not: it fetches and stores nothing (stage does), judges no missing
// output, and brings no image: software comes from the node, from metaprojects, from
// an image (image.go, root.go), or from a container that an env_shell starts.
package payload
