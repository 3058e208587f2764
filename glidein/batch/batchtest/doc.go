// Package batchtest is what every batch system must pass: [Run] is the contract
// of package batch as a test, run against the real system where it is installed
// and against a fake of its tools everywhere.
//
// Nouns: a [Target] is one system under test; a [Fake] is a batch system in a
// directory that really runs scripts, on so many slots; a [Dialect] are the tools
// through which it is spoken to, in the words of one system; a [Fault] is a way in
// which tools fail.
//
// A fake's tools are the test binary itself under other names: a test calls [Main]
// from its TestMain, and [Fake.Install] links the names into a directory that it
// puts on PATH.
//
// What it is not: a model of scheduling. A fake starts what is queued, in order,
// whenever one of its tools is called.
package batchtest
