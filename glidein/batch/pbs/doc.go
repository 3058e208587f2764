// Package pbs submits pilot jobs to PBS with qsub, qselect, qstat and qdel, in two
// dialects: that of OpenPBS and PBS Professional, and that of Torque. Proven on
// OpenPBS 23.06; Torque is known from its sources.
//
// Nouns: a dialect is what differs between the two, a record is a job as qstat -f
// has it.
//
// What is authoritative: qselect, for which jobs the user has, and qstat, for what
// they are. Each job that qselect names must be told of by qstat, as a record or as
// one that is unknown or finished by now: an answer with holes is none.
//
// Its traps, and what is done about them:
//   - Names are cut or refused after 15 characters, in Torque and old PBS. The launch
//     lease is a variable of the job, FLOE_LAUNCH, and read back from its list.
//   - qstat -F json of 23.06 shows the first of several jobs and says nothing of the
//     others, and in older versions it is no JSON where somebody's variables have
//     quotes or control characters. The lines of qstat -f are read, which are the same
//     in both dialects: what is ours must be right, what is not is left alone.
//   - A job that can never run is accepted and waits, with a comment. That is Held.
//   - OpenPBS refuses arrays with -r n. Jobs of an array that a lost node sends back
//     to the queue start in vain: their ticket is used up.
//   - qdel of an array's job that has ended says that the request is invalid.
//   - A job starts in the home directory, so the submit file changes to its own.
package pbs
