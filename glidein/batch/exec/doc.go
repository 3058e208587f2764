// Package exec speaks to a batch system through a plugin: any program that reads
// one request on its standard input, writes one answer on its standard output, and
// exits. docs/plugins.md is for those who write one.
//
// A request is one JSON object, with "version": 1, "verb", and "settings", what
// stands in [queue.exec.settings]. An answer is one JSON object, of nothing but what
// the verb asks for:
//
//	verb               request                    answer
//	properties                                    version, name, max_array, lists, gpus, walltime, sends
//	write-submit-file  jobs                       submit_file
//	submit             jobs, submit_file          ids: one for each job, in their order
//	status             known                      jobs
//	remove             id                         {}
//	clean              id, directory              {}
//
// [Job], [Known], [Properties] and [Entry] have the fields. Memory and disk are in
// bytes, walltime in seconds, times in seconds since 1970. Paths are absolute.
//
// The exit status is the class of an error: 0 none, 3 batch.ErrRefused, 4
// batch.ErrUnknownJob, all others batch.ErrTransient. The last line that was
// written to the standard error goes into the error.
//
// What is not an answer is no answer: an empty output, a field that does not exist,
// a state that nobody knows, an id too few. The outcome is then unknown, and
// batch.ErrTransient. A plugin has two minutes and 64 MiB; then it is killed, with
// all that it started in its process group.
//
// [Serve] is the other side: it answers a request for a batch system of floe's own.
package exec
