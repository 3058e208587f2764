// Package arc submits pilot jobs to a NorduGrid ARC compute element (A-REX) through
// its REST interface: https with the site's proxy certificate or token, and none of
// ARC's client programs. Proven on 6.17, REST 1.0.
//
// The element shares no directory with the site: script and ticket are uploaded to
// the job's session directory, and its output is fetched before the job is cleaned.
// The pilot program must lie on the element's nodes, where system.pilot says.
//
// Its traps, and what is done about them:
//   - States lie in a file that only the information provider writes, every 60 s by
//     default: a job is seen late, running or ended. It is never taken for gone before
//     A-REX says so.
//   - Of no jobs at all it makes an empty answer. Nothing is taken for none before it is
//     said in XML, too.
//   - The list of jobs has no names. Jobs that the ledger does not know are asked for
//     theirs, one request for all.
//   - One job comes as an object, two as a list.
//   - A job whose files were never uploaded waits for them: a submission that breaks
//     off there is killed again.
//   - What has ended stays until it is cleaned, and counts against the user's limit.
package arc
