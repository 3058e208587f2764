// Package sitelog is a site's own log of whose payload ran where and when, which the
// site can read without any coordinator.
//
// It is a directory on a file system that the site's nodes share. Each pilot has a file
// of its own there, open/PILOT, to which nobody else writes: NFS does not append for
// two. A line is written before a payload begins, and another when the attempt has ended;
// each is synced within a second, so that many short attempts share that. A line is one JSON object (Entry) with a line feed. Who reads skips
// a last line that was torn, and takes an attempt without an end for one that may still
// run, or whose pilot was killed.
//
// Tidy, which a pass calls under the site's lock, gathers files to which nothing was
// added for a day into one file per month, by when their attempts began, and removes
// the oldest months beyond what is to be kept. A file is gathered before it is removed,
// so an entry may be there twice for a moment; it is read once.
package sitelog
