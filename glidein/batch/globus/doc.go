// Package globus submits pilot jobs to a Globus GRAM5 gatekeeper with globusrun and
// globus-job-status, -cancel, -get-output and -clean. Proven on gatekeeper 11.4.
//
// The gatekeeper shares no directory with the site. Script and ticket travel in one
// variable of the job's environment, never in its arguments, which all users of a
// node can read; the job puts them into a directory of its own and removes it at
// its end.
//
// Its traps, and what is done about them:
//   - There is no list of jobs. What was submitted without an answer cannot be found
//     again; its launch lease ends, and its pilot is not let in.
//   - DONE is no success, and no proof: a contact that nobody answers for is DONE, too.
//     So the gatekeeper is asked first whether it is there, and if not, nothing is
//     known of any job.
//   - The job manager hands the variables of one job on to the next of the same user.
//     There is one variable, which every job sets.
//   - A walltime is not enforced by all job managers: the pilot keeps it itself.
//   - Each status is a command of its own, some 0.15 s. Eight run at a time.
package globus
