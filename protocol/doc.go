// Package protocol is the vocabulary that coordinator, pilot, glidein and
// client share: what they name, what they say to each other, and what each
// answer means.
//
// Nouns: identities ([DatasetID], [TaskID], [LeaseID], [PilotID], [SiteID]),
// content names ([Digest]), what a task asks for ([Requirements]) and what a
// pilot offers ([Resources]), the states of tasks, jobs and datasets, the
// [Verdict] on a failed attempt, the messages of the pilot's and the glidein's
// verbs, the structs of the people's verbs, and the closed set of wire errors
// ([Code]).
//
// What is authoritative: the numbers. Integer keys in the CBOR messages, the
// numeric values of every enum and the texts of the error codes are append-only:
// none is ever changed or reused, because pilots of the last two minor versions
// keep talking to newer coordinators. codec_test.go holds the table.
//
// Invariants: everything here is a plain value. No clock, no network, no file
// is touched; decoding is strict (unknown fields, duplicate keys, indefinite
// lengths and trailing bytes are refused) and bounded.
//
// On failure: decoders return a [*Error] of code [CodeBadRequest] that says which field is
// wrong. Nothing panics on foreign input.
//
// What it is not: it does not move bytes (protocol/transport does) and does not
// read steering files (protocol/steering does).
package protocol
