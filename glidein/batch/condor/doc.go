// Package condor submits pilot jobs to HTCondor with condor_submit, condor_q,
// condor_rm and condor_transfer_data; condor_status is asked when a site is set up.
// The schedd is that of this machine, which fetches what a job needs from its
// directory, or one elsewhere, HTCondor-CE included, which is sent it. Proven on 23.9.
//
// What is authoritative: condor_q. condor_history is not asked: it is slow, and of
// no job does a pass need to know how it ended.
//
// Its traps, and what is done about them:
//   - condor_q -json prints nothing at all when it finds no job. Nothing is also what
//     a tool prints that went wrong: an empty answer is confirmed by the totals.
//   - A machine that is lost, or that wants its slot back, sends its job back to the
//     queue, and a pilot's ticket is good for one pilot: a job that has begun once
//     matches no machine again, and is removed.
//   - Output and errors in the same file overwrite each other while they are streamed.
//     The shell joins them before HTCondor sees them.
//   - A file that is streamed is not among those that a schedd elsewhere gives back.
//     There, output comes when the job has ended.
//   - A schedd elsewhere holds a job until its files have come. condor_submit waits for
//     that, so one that a pass sees held so has lost its files for good.
//   - It keeps a job that has ended, ticket and all, for ten days. Clean fetches what the
//     job printed and has it removed.
//   - A removed job is listed as removed while its program still ends.
//   - Jobs start without PATH, and with 2 MB of disk unless they ask for more; site.toml
//     must say how much.
//   - Submit files expand $(name), and several queue statements are on their way out.
package condor
