// Package pack makes the tarballs that package cache unpacks.
//
// Nouns: an [Archive] is a tarball being made of what is below a directory; its
// [Contents] are what a node will have of it, with a [software.Manifest] of every file.
//
// Invariants: the bytes of a tarball depend on the names, the contents and the
// owner's right to execute of what is packed, and on nothing else: members are
// sorted, times are 1970, owners are left out, modes are 0644 or 0755, and zstd runs
// in one thread. The same directory so gives the same digest on any machine, as
// long as the compressor's version is the same; a test holds on to one digest.
//
// What a node would refuse is refused here, because it is found out in the same way:
// [Inspect] has package cache unpack the tarball, and lists what came of it.
package pack
