// Package library is the predefined modules: what steering files call floe.pack,
// floe.transfer and so on, done by the pilot's own program, so that a node needs
// no Python and no tools for them. Their names and parameters are declared in
// protocol/steering, where they are checked before anything is submitted.
//
// Nouns: a [Call] is what one run is told, a [Result] what it leaves if it fails.
// The payload package starts [Program] with the file of a Call as it starts any
// other module: in the work directory, under the same limits, with the same log.
//
// Invariants:
//   - Nothing is read or written outside the work directory but what a URL names:
//     all names go through an os.Root, also those in archives and manifests.
//   - Only regular files, directories and links that stay inside are read or made.
//   - A file that a module makes is whole or not there.
//   - The same files make the same tarball.
//
// On failure: the Result says what is wrong, and for a transfer whose fault it is.
//
// What it is not: it isolates nothing. A module here has the rights of any payload.
package library
