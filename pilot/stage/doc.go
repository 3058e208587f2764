// Package stage moves files between where they are kept and an attempt's
// directory, and checks every byte on the way.
//
// Nouns: an [Input] is a file the task needs, an [Output] one it leaves; a
// scheme is how a kind of URL is read and written: file, http and https
// (with WebDAV), gsiftp through the command-line clients of the node, and blob for the coordinators' blob store.
//
// What is authoritative: digests. An input with a digest is the input only if its
// bytes match. An output is recorded with the size and SHA-256 that were read
// back from its destination.
//
// Invariants: an output goes to an attempt-unique name, so two attempts never
// write one file; [Mover.Publish] moves it to its final name once its attempt was
// accepted. Files that the payload made are opened only below the attempt's
// directory, only if regular and with one link: a payload cannot make the pilot
// read another file for it.
//
// On failure: errors say whose fault it is: [ErrInput] (missing or damaged),
// [ErrOutput] (the payload did not leave the file), [ErrStorage] (the area cannot
// be reached or refuses), [ErrNode] (the local disk).
//
// What it is not: it resolves no expressions and decides no places.
package stage
