// Package canon reads and writes the one form of CBOR that floe uses (RFC 8949
// §4.2, core deterministic, maps with integer keys) without reflection. A task's
// life is a handful of messages, commands and events; reading and writing those by
// reflection costs more than everything that is done with them.
//
// Nouns: a [Writable] writes itself with a [Writer], field by field in rising order
// of the keys. A [Readable] reads itself with a [Reader].
//
// What is authoritative: the general codec (package protocol). A Writer gives the
// same bytes. A Reader understands only what a Writer would have written, with
// numbers and lengths also in longer forms than needed, and fails for everything
// else, legal or not: the general decoder then decides. Fuzz tests hold both to
// that, for every type.
//
// On failure: a Reader that has failed stays failed, what it returns means nothing,
// and loops over [Fields] end. Nothing panics.
//
// What it is not: a CBOR library. It knows no tags, no simple values but true and
// false, no indefinite lengths, and no map of more than 23 entries.
package canon
