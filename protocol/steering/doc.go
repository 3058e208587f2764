// Package steering is the dataset language: the text in which a person
// describes what every job of a dataset does (paper §3.1.2), read into one
// model whatever its spelling.
//
// The nouns are those of the paper. A Document holds dataset-wide Steering
// (parameters every expression can name) and Tasks, the vertices of each job's
// DAG; a Task holds Trays, one software environment each; a Tray holds
// Modules, the steps; Data and Resource name files; Requirements say what a
// task needs of a node. There are three spellings, told apart by their first
// character: XML with the element names of IceProd's lineage, the JSON of
// today's public IceProd, and YAML of the same tree.
//
// The table in schema.go is authoritative: readers, writers, the words of
// error messages and docs/steering.xsd all come from it.
//
// Invariants: a document that Parse accepts can be written in each spelling
// and read back to the same model, parameter types and order included. Parse
// never panics, and its time and memory are linear in a file that the Max
// constants bound. Expressions ($steering, $eval, …) are text in the model;
// the expr package and the expand files evaluate them.
//
// Everything wrong in a file is reported at once, each Problem with file,
// line, column, the source line and, where there is one, the nearest right
// word. When Parse reports an error the Document is what could be understood
// and is fit for nothing but more checks.
//
// The package is not a store (coordinators keep documents as digests) and not
// an executor (the pilot runs modules).
package steering
