// Package errand has one process run errands for others through a directory that all
// see: transfers, for pilots on nodes without a way out.
//
// Nouns: an asker leaves an errand in the directory, the doer runs it and leaves an
// answer. An errand NAME is three files:
//
//	NAME.ask   what is to be done: a Request in JSON, and touched while it is wanted
//	NAME.data  the bytes that go out, or that came in
//	NAME.done  empty, until it holds the Answer in JSON and a newline
//
// What is authoritative: the files. Nobody remembers anything else.
//
// Invariants: an errand is seen whole or not at all (NAME.ask gets its name last). An
// errand that its asker no longer touches is not begun, and one under way is given up:
// what a dead pilot wanted does not happen an hour later. Times are the file system's.
//
// The directory may lie on NFS: files are opened anew to be looked at, which shows them
// as they are, and the doer changes the directory before it lists it.
//
// What it is not: a queue with an order, and not for more than one doer.
package errand
