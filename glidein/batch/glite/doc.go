// Package glite submits pilot jobs to the grid middleware of the paper's time: CREAM
// compute elements, the gLite Workload Management System, and its ancestor of the
// European DataGrid. None of them is maintained, and none was here to be tried: what
// is written and read follows recorded outputs and the sources of their clients and of
// programs that used them.
//
// They share the job description language (JDL), the sandboxes that carry files, and
// jobs that are URLs. What differs is data: a [Middleware].
//
// No directory is shared. Script and ticket go into the input sandbox, which does not
// keep modes: a script of ours makes the ticket the owner's alone before it becomes
// the pilot. What the job printed is fetched when it has ended. The pilot program must
// lie on the nodes, where system.pilot says.
//
// Their traps, and what is done about them:
//   - Nothing lists jobs by name. Those of the ledger are asked about, many at once; a
//     job whose submission was not answered cannot be found, and its launch lease lapses.
//   - An exit status of 0 covers jobs that could not be asked about or cancelled, and
//     another one answers that are good. The text is what counts, and a job that it does
//     not speak of is not gone: it is asked about alone, and then unknown.
//   - A broker resubmits jobs that failed, and a ticket is good for one pilot:
//     RetryCount and ShallowRetryCount are 0.
//   - A job that no element can take waits until its proxy expires. With "no compatible
//     resources" for its reason it is Held.
//   - CREAM forgets no job by itself: it is purged when its output was fetched.
package glite
