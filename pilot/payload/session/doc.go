// Package session is what a payload and its pilot say to each other while the payload
// runs: statistics, progress, checkpoints, the time that is left.
//
// Nouns: a [Session] is one attempt's unix socket, whose path the payload finds in
// FLOE_SOCKET; a request is one line, and so is its answer. [Speak] is the payload's
// side as a command, floe-task.
//
// The protocol is made for a shell with a small tool, for Python, and for C. A
// connection carries any number of requests, which are answered in their order. A
// line ends with a line feed and has at most MaxLine bytes of UTF-8 before it; words
// are separated by single blanks, paths by tabs.
//
//	statistic set NAME VALUE     ok
//	statistic add NAME VALUE     ok SUM
//	progress FRACTION [TEXT]     ok
//	checkpoint saved [PATH…]     ok BYTES
//	remaining [MARGIN]           ok SECONDS
//	attempt [KEY]                ok VALUE, or JSON of all
//
// Anything else, and what cannot be done, is answered by
//
//	error NAME TEXT
//
// with one of the names of [Code]. A refused request changes nothing.
//
// What is authoritative: the pilot, for the time that is left; the last word of the
// payload, for what it says of itself.
//
// Invariants: no payload, however hostile, ends the pilot, takes more of its memory
// than a few hundred names and 64 connections do, or keeps others from being heard.
// Statistics are those of the module that runs; between modules nothing is taken.
//
// On failure: a socket that cannot be made is said in the log, and payloads run
// without. A connection that breaks loses what it had not said.
//
// What it is not: it knows nothing of coordinators, moves no files, and decides no
// verdict.
package session
