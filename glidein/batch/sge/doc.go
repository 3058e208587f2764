// Package sge submits pilot jobs to Grid Engine (Sun, Son of, Univa) with qsub,
// qstat, qdel and qalter. Proven on 8.1.9.
//
// What is authoritative: qstat -xml -r. Its table for people cuts names after ten
// characters, and qacct has no record of a job that never started.
//
// Its traps, and what is done about them:
//   - A job that is removed or out of time gets SIGKILL at once. Jobs are submitted
//     with -notify: SIGUSR2 comes first, and the submit script hands it on to the
//     pilot as SIGTERM. The same option makes SIGUSR1 come before a job is
//     suspended, which would end a shell: it is ignored.
//   - A job whose script could not be started stays in the list in the state Eqw,
//     for ever. That is Held, with the reason.
//   - A job that no queue can take waits as qw, for ever. qsub -w e would refuse it,
//     and as well one that asks for memory when the nodes are busy: it takes what
//     nodes report of their load for what they have. So jobs are submitted unasked,
//     and of those that wait the one that has waited longest is verified.
//   - Tasks of an array that wait are one entry, 3,5-9:2; those that run are one each.
//   - qstat -j says 0 with -xml for a job that never was. It is asked for reasons only.
//   - A # in a submit file's -o, a quote or a dollar is read as something else. Paths
//     that have such write to /dev/null what the system prints; the pilot's own output
//     does not go that way.
package sge
